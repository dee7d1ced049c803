/** The audience and the `jti` of client assertions are checked in the same way at every endpoint (EP-6, CA-8, CA-12). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { asserted, assertionOf, cibaEndpoints, isBelieved, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { CIBA, openStage } from '../support/stage.ts'

const endpoints = [
  ...cibaEndpoints,
  { path: '/oauth/introspect', form: { token: 'unknown' } },
  { path: '/oauth/revoke', form: { token: 'unknown' } },
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'unknown' } },
] as const

for (const engine of engines) {
  describe(`every endpoint, on ${engine.name}`, () => {
    const audiences: [string, (url: string) => unknown][] = [
      ['the issuer', (url) => url],
      ['the token endpoint', (url) => `${url}/oauth/token`],
      ['the backchannel authentication endpoint', (url) => `${url}/backchannel/authorize`],
      ['a list with the backchannel authentication endpoint', (url) => [`${url}/backchannel/authorize`]],
      ['a list of all three', (url) => [url, `${url}/oauth/token`, `${url}/backchannel/authorize`]],
    ]
    test('accepts each audience of CIBA §7.1', async (t) => {
      const { key, stage } = await scene(t, engine)
      for (const { path, form } of endpoints) {
        for (const [name, aud] of audiences) {
          const assertion = await assertionOf(stage, 'key', { key: key.privateKey, claims: { aud: aud(stage.url) } })
          const answer = await stage.post(path, { ...form, ...asserted(assertion) })
          assert.ok(isBelieved(answer), `${path}, ${name}: ${answer.text}`)
        }
      }
    })

    test('refuses every jti that is empty or no string', async (t) => {
      const { key, stage } = await scene(t, engine)
      for (const { path, form } of endpoints) {
        for (const jti of ['', 0, 7, null, [], ['x']]) {
          const assertion = await assertionOf(stage, 'key', { key: key.privateKey, claims: { jti } })
          const { status, body } = await stage.post(path, { ...form, ...asserted(assertion) })
          assert.deepEqual([status, body.error], [401, 'invalid_client'], `${path}: ${JSON.stringify(jti)}`)
        }
      }
    })
  })
}

async function scene(t: Parameters<typeof openStage>[0], engine: (typeof engines)[number]) {
  const key = await newKey('one')
  const client = pollClient('key', {
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [key.publicJwk] },
    grant_types: [CIBA, 'refresh_token'],
  })
  return { key, stage: await openStage(t, { engine, config: { clients: [client] } }) }
}
