/** Strict-Transport-Security: in every answer, whichever part of the server writes it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { credentials, openStage } from '../support/stage.ts'

const nowhere = 'https://client.example/notify'
const production: ConfigInput = { development: false, issuer: 'https://id.example', metrics: { from: ['127.0.0.1'] } }

const paths = [
  '/',
  '/health/live',
  '/health/ready',
  '/metrics',
  '/assets/doorbell.css',
  '/oauth/jwks',
  '/oauth/authorize?client_id=x',
  '/oauth/logout/success',
  '/oauth/userinfo',
  '/.well-known/openid-configuration',
  '/backchannel/authorize',
  '/nothing',
  '/%zz',
]

test('Strict-Transport-Security is in every answer with an https issuer: pages, errors, answers of oidc-provider', async (t) => {
  const stage = await openStage(t, { northbank: nowhere, till: nowhere, config: production })
  for (const path of paths) {
    const { headers, status } = await stage.get(path)
    assert.equal(headers.get('strict-transport-security'), 'max-age=31536000', `${path} ${status}`)
  }
  const response = await stage.ring('kiosk')
  // The usual answer to a poll is precomputed.
  for (const answer of [
    response,
    await stage.poll('kiosk', response.body.auth_req_id),
    await stage.post('/oauth/token', {}, credentials.kiosk),
  ]) {
    assert.equal(answer.headers.get('strict-transport-security'), 'max-age=31536000')
  }
})

test('every page, also an error page, has a content security policy and may not be framed', async (t) => {
  const stage = await openStage(t, { northbank: nowhere, till: nowhere, config: production })
  for (const path of paths) {
    const { headers } = await stage.get(path, { accept: 'text/html' })
    if (!headers.get('content-type')?.startsWith('text/html')) continue
    const policy = headers.get('content-security-policy') ?? ''
    assert.match(policy, /default-src 'none'/, path)
    assert.match(policy, /frame-ancestors 'none'/, path)
  }
})

test('the max-age of Strict-Transport-Security is a setting; in development, and with http, the header is absent', async (t) => {
  const short = await openStage(t, {
    northbank: nowhere,
    till: nowhere,
    config: { ...production, hsts: { maxAge: 0 } },
  })
  assert.equal((await short.get('/health/live')).headers.get('strict-transport-security'), 'max-age=0')
  for (const config of [{}, { issuer: 'https://localhost:4000' }]) {
    const stage = await openStage(t, { config })
    assert.equal((await stage.get('/health/live')).headers.get('strict-transport-security'), null)
  }
})
