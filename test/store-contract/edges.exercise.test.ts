/** Differences between the engines that must not show: unusual texts and numbers, and an unavailable database. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { basic, CIBA, credentials, openStage } from '../support/stage.ts'
import { createWires } from '../support/wires.ts'

for (const engine of engines) {
  describe(`edge cases, on ${engine.name}`, () => {
    test('a text that a database cannot store is treated as an unknown one', async (t) => {
      const stage = await openStage(t, { engine })
      for (const id of ['kiosk\0', '\0', `${'k'.repeat(5000)}`, 'kiösk', "kiosk' --"]) {
        const poll = { grant_type: CIBA, auth_req_id: 'x' }
        for (const [path, form] of [
          ['/oauth/token', poll],
          ['/oauth/token', { grant_type: 'refresh_token', refresh_token: 'x' }],
          ['/oauth/introspect', { token: 'x' }],
          ['/backchannel/authorize', { scope: 'openid' }],
        ] as const) {
          const { status, body } = await stage.post(path, form, basic(id, 'a secret'))
          const answer = `${status} ${body.error}`
          // oidc-provider treats some of these ids as malformed and some as unknown.
          const right = ['401 invalid_client', '400 invalid_request']
          assert.ok(right.includes(answer), `${path} ${JSON.stringify(id.slice(0, 20))}: ${answer}`)
        }
        const unsigned = `${Buffer.from('{"alg":"ES256"}').toString('base64url')}.${Buffer.from(JSON.stringify({ sub: id, iss: id })).toString('base64url')}.c2ln`
        const { status, body } = await stage.post('/oauth/token', { ...poll, ...asserted(unsigned) })
        assert.deepEqual(
          [status, body.error],
          [401, 'invalid_client'],
          `assertion of ${JSON.stringify(id.slice(0, 20))}`,
        )
      }
      const { status } = await stage.get('/oauth/authorize?client_id=kiosk%00&response_type=code')
      assert.ok(status < 500, `authorize: ${status}`)
    })

    test('times of an assertion may have fractions; its jti is a string', async (t) => {
      const key = await newKey('its-key')
      const client = keyClient(key)
      const stage = await openStage(t, { engine, config: { clients: [client] } })
      const poll = async (claims: Record<string, unknown>) => {
        const assertion = await assertionOf(stage, 'key', { key: key.privateKey, header: { kid: 'its-key' }, claims })
        return (await stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: 'x', ...asserted(assertion) })).body
          .error
      }
      const now = stage.clock.now() / 1000
      assert.equal(await poll({ exp: now + 60.123456, iat: now - 0.5 }), 'invalid_grant', 'it was accepted')
      for (const jti of [7, ['a'], { a: 'b' }, null])
        assert.equal(await poll({ jti }), 'invalid_client', JSON.stringify(jti))
    })

    test('a failing database is an error of the server, not of the caller', async (t) => {
      const key = await newKey('its-key')
      const client = keyClient(key)
      const wires = createWires()
      const config = { clients: [client] }
      for (const calls of [0, 1]) {
        const stage = await openStage(t, { engine, config, parts: { openDatabase: wires.open } })
        const assertion = await assertionOf(stage, 'key', { key: key.privateKey, header: { kid: 'its-key' } })
        wires.cut(calls)
        const poll = { grant_type: CIBA, auth_req_id: 'x' }
        assert.equal((await stage.post('/oauth/token', { ...poll, ...asserted(assertion) })).status, 500)
        assert.equal((await stage.post('/oauth/token', poll, credentials.kiosk)).status, 500)
        assert.equal((await stage.get('/health/live')).status, 200)
        assert.equal((await stage.get('/health/ready')).status, 503)
      }
    })
  })
}

function keyClient({ publicJwk }: KeyHolder) {
  return pollClient('key', { jwks: { keys: [publicJwk] }, token_endpoint_auth_method: 'private_key_jwt' })
}
