/**
 * The challenge of a 401 (RFC 9110 §15.5.2). It is that for access tokens (RFC 6750 §3), that for sessions, or `Basic`
 * for a client that used the `Authorization` header (RFC 6749 §5.2). If the call has no credentials, the challenge has
 * no error code.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { ana, CIBA, openStage, type Stage } from '../support/stage.ts'
import { openVisitor, type Visitor } from '../support/visitor.ts'

interface Answered {
  status: number
  headers: Headers
  text: string
}

const basic = 'Basic realm="doorbell", charset="UTF-8"'
const bearer = 'Bearer realm="doorbell"'
const invalid = `${bearer}, error="invalid_token"`
const cookie = 'Cookie realm="doorbell"'

/**
 * The endpoints at which clients authenticate, each with a form that makes the authentication fail without an
 * `Authorization` header.
 */
const clientPaths: [path: string, form: Record<string, string>][] = [
  ['/backchannel/authorize', {}],
  ['/oauth/token', { grant_type: CIBA }],
  ['/oauth/token', { grant_type: 'refresh_token', refresh_token: 'x' }],
  ['/oauth/token', { grant_type: 'authorization_code', code: 'x' }],
  ['/oauth/introspect', { token: 'x' }],
  ['/oauth/revoke', { token: 'x' }],
  ['/backchannel/clientconfig', {}],
  ['/backchannel/authinfo', { login_hint: 'ana' }],
  ['/backchannel/complete', { login_hint: 'ana', request_id: 'x', status: 'approved' }],
]
const failures: Record<string, string>[] = [
  {},
  { client_id: 'nobody', client_secret: newSecret() },
  { client_secret: newSecret() },
  { client_id: 'kiosk', client_secret: newSecret() },
  { client_assertion: 'x.y.z' },
  asserted('x.y.z'),
]

const userPaths: [method: 'GET' | 'POST', path: string][] = [
  ...['authinfo', 'activity', 'passkeys', 'sessions', 'user-code'].map(
    (name) => ['GET', `/backchannel/${name}`] as const,
  ),
  ...['revoke', 'block', 'passkeys', 'sessions', 'user-code', 'push-subscriptions'].map(
    (name) => ['POST', `/backchannel/${name}`] as const,
  ),
].map(([method, path]) => [method, path])

const pages: Record<string, (browser: Visitor) => Promise<Answered>> = {
  'a form of the consent app without a session': (browser) => browser.post('/activity/revoke', { request_id: 'x' }),
  'an event stream without a session': (browser) => browser.get('/events'),
  'a wrong password': (browser) => browser.signIn({ username: 'ana', password: `${ana.password}x` }),
}

for (const engine of engines) {
  describe(`the challenge of a 401, on ${engine.name}`, () => {
    for (const [path, form] of clientPaths) {
      test(`a client at ${path} ${form.grant_type ?? ''}: Basic, but none if it did not use the header`, async (t) => {
        const stage = await open(t, engine)
        for (const more of failures) assertChallenge(await stage.post(path, { ...form, ...more }), null, more)
        for (const id of ['nobody', 'kiosk']) {
          assertChallenge(await stage.post(path, form, `Basic ${btoa(`${id}:${newSecret()}`)}`), basic, id)
        }
      })
    }

    test('calls that need an access token: Bearer, with an error code if a token was sent', async (t) => {
      const stage = await open(t, engine)
      const send = (method: 'GET' | 'POST', path: string, authorization?: string) =>
        method === 'GET'
          ? stage.get(path, authorization === undefined ? {} : { authorization })
          : stage.post(path, {}, authorization)
      for (const [method, path] of userPaths) {
        assertChallenge(await send(method, path), bearer, path)
        assertChallenge(await send(method, path, 'Bearer unknown'), invalid, path)
      }
      assertChallenge(await stage.get('/metrics', { 'x-forwarded-for': '198.51.100.7' }), bearer)
      for (const method of ['GET', 'DELETE']) {
        const headers = { authorization: 'Bearer unknown' }
        assertChallenge(await send401(stage, method, '/oauth/register/kiosk', {}), bearer, method)
        assertChallenge(await send401(stage, method, '/oauth/register/kiosk', headers), invalid, method)
      }
      assertChallenge(
        await send401(stage, 'POST', '/oauth/register', { 'content-type': 'application/json' }, '{}'),
        bearer,
      )
    })

    for (const [name, call] of Object.entries(pages)) {
      test(`${name}: Cookie, for which browsers show no dialog`, async (t) => {
        const stage = await open(t, engine)
        assertChallenge(await call(openVisitor(stage.url)), cookie)
      })
    }
  })
}

function open(t: Parameters<typeof openStage>[0], engine: Engine): Promise<Stage> {
  const proxy = { trust: ['127.0.0.1'] }
  return openStage(t, { engine, config: { registration: { mode: 'token' }, metrics: { token: newSecret() }, proxy } })
}

async function send401(stage: Stage, method: string, path: string, headers: Record<string, string>, body?: string) {
  const answer = await fetch(stage.url + path, { method, headers, ...(body !== undefined && { body }) })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

function assertChallenge({ status, headers, text }: Answered, challenge: string | null, about: unknown = ''): void {
  assert.deepEqual([status, headers.get('www-authenticate')], [401, challenge], `${JSON.stringify(about)} ${text}`)
}
