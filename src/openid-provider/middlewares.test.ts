import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { Provider } from 'oidc-provider'
import { challengeEveryUnauthorized } from './middlewares.ts'

test('a 401 of oidc-provider to a client without an Authorization header has a challenge', async (t) => {
  const provider = new Provider('http://localhost', { features: { devInteractions: { enabled: false } } })
  challengeEveryUnauthorized(provider)
  const server = provider.listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`
  const challengesFor = async (init: { headers?: Record<string, string>; form: Record<string, string> }) => {
    const body = new URLSearchParams({ grant_type: 'authorization_code', ...init.form })
    const answer = await fetch(url, { method: 'POST', body, headers: { connection: 'close', ...init.headers } })
    return [answer.status, answer.headers.get('www-authenticate')]
  }
  assert.deepEqual(await challengesFor({ form: { client_id: 'gone' } }), [
    401,
    'Basic realm="doorbell", charset="UTF-8"',
  ])
  const [status, challenge] = await challengesFor({ headers: { authorization: `Basic ${btoa('gone:x')}` }, form: {} })
  assert.equal(status, 401)
  assert.match(String(challenge), /^Basic realm="http:\/\/localhost", error="invalid_client"/)
})
