/**
 * The audience and the `jti` of client assertions are checked in the same way at every endpoint (EP-6, CA-8, CA-12).
 */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import {
  asserted,
  assertionOf,
  cibaEndpoints,
  isBelieved,
  newKey,
  pollClient,
  signedBytes,
} from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { CIBA, openStage } from '../support/stage.ts'

const endpoints = [
  ...cibaEndpoints,
  { path: '/oauth/introspect', form: { token: 'unknown' } },
  { path: '/oauth/revoke', form: { token: 'unknown' } },
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'unknown' } },
] as const

/**
 * Header and claims as each library writes them. The libraries differ in the order of the members, and in whether `aud`
 * with one value is a list.
 */
const libraries: [name: string, header: string, claims: (url: string, now: number) => string][] = [
  [
    'Nimbus OAuth 2.0 SDK, for the issuer and the token endpoint',
    '{"kid":"one","alg":"ES256"}',
    (url, now) =>
      `{"sub":"key","aud":["${url}","${url}/oauth/token"],"iss":"key","exp":${now + 60},"jti":"${newSecret()}"}`,
  ],
  [
    'Nimbus OAuth 2.0 SDK, for one endpoint',
    '{"kid":"one","alg":"ES256"}',
    (url, now) =>
      `{"sub":"key","aud":"${url}/backchannel/authorize","iss":"key","exp":${now + 60},"jti":"${newSecret()}"}`,
  ],
  [
    'Spring Security',
    '{"kid":"one","alg":"ES256"}',
    (url, now) =>
      `{"sub":"key","aud":"${url}/oauth/token","iss":"key","exp":${now + 60},"iat":${now},"jti":"${randomUUID()}"}`,
  ],
  [
    'Spring Security, with a certificate and a typ',
    '{"x5t#S256":"x1XfnK6MB8bVNLZ8rTrmgKAcVpmjUk0K0bGrNNOaJxo","kid":"one","typ":"JWT","alg":"ES256"}',
    (url, now) => `{"sub":"key","aud":"${url}","iss":"key","exp":${now + 60},"iat":${now},"jti":"${randomUUID()}"}`,
  ],
  [
    'go-jose',
    '{"alg":"ES256","kid":"one","typ":"JWT"}',
    (url, now) =>
      `{"aud":["${url}/oauth/token"],"exp":${now + 300},"iat":${now},"iss":"key","jti":"${newSecret(16)}",` +
      `"nbf":${now},"sub":"key"}`,
  ],
  [
    'go-jose, for several endpoints',
    '{"alg":"ES256"}',
    (url, now) =>
      `{"aud":["${url}/oauth/token","${url}/backchannel/authorize"],"exp":${now + 300},"iss":"key",` +
      `"jti":"${newSecret(16)}","sub":"key"}`,
  ],
]

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

    test('accepts the audience in the JSON of client libraries, and refuses another one', async (t) => {
      const { key, stage } = await scene(t, engine)
      const now = Math.floor(stage.clock.now() / 1000)
      for (const { path, form } of endpoints) {
        for (const [name, header, claims] of libraries) {
          const send = async (url: string) =>
            stage.post(path, { ...form, ...asserted(await signedBytes(header, claims(url, now), key)) })
          const answer = await send(stage.url)
          assert.ok(isBelieved(answer), `${path}, ${name}: ${answer.text}`)
          const { status, body } = await send('https://elsewhere.example')
          assert.deepEqual([status, body.error], [401, 'invalid_client'], `${path}, ${name}`)
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
