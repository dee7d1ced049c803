/**
 * Null members in client assertions, signed requests and login_hint_tokens. Libraries write null for a member that is
 * not set.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, type KeyHolder, newKey, pollClient, signedBytes } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { basic, credentials, openStage, type Stage } from '../support/stage.ts'
import { openForSuite } from '../support/teardown.ts'
import { everywhere, openKeyServer, secret, signing, signs, unlimited } from './keyed-clients.ts'

const finder = 'https://finder.example'
const usual = '{"alg":"ES256","kid":"one"}'

/** Headers in which a member is null, or in which `kid` is empty, which also counts as absent. */
const headers: [name: string, header: string][] = [
  ['PyJWT', '{"alg":"ES256","typ":"JWT"}'],
  ['Jackson', '{"kid":null,"typ":null,"cty":null,"alg":"ES256"}'],
  ['System.Text.Json, indented', '{\r\n  "alg": "ES256",\r\n  "kid": null,\r\n  "typ": "JWT"\r\n}'],
  ['a kid that is null', '{"alg":"ES256","kid":null}'],
  ['an empty kid', '{"alg":"ES256","kid":""}'],
  ['a typ that is null', '{"alg":"ES256","typ":null,"kid":"one"}'],
  ['a cty that is null', '{"alg":"ES256","cty":null,"kid":"one"}'],
]

interface Times {
  now: number
  jti: string
  url: string
}

const assertions: [name: string, payload: (times: Times, client: string) => string][] = [
  [
    'PyJWT, a dictionary with None',
    ({ now, jti, url }, client) =>
      `{"iss":"${client}","sub":"${client}","aud":"${url}/oauth/token","iat":null,"nbf":null,"exp":${now + 300},` +
      `"jti":"${jti}"}`,
  ],
  [
    'Jackson, a class whose unused fields are null',
    ({ now, jti, url }, client) =>
      `{"iss":"${client}","sub":"${client}","aud":["${url}"],"exp":${now + 300},"nbf":null,"iat":${now},"jti":"${jti}",` +
      '"typ":null,"azp":null,"client_id":null,"scope":null}',
  ],
  [
    'nbf',
    ({ now, jti, url }, client) =>
      `{"nbf":null,"iss":"${client}","sub":"${client}","aud":"${url}","exp":${now + 60},"jti":"${jti}","iat":${now}}`,
  ],
  [
    'iat',
    ({ now, jti, url }, client) =>
      `{"iat":null,"iss":"${client}","sub":"${client}","aud":"${url}","exp":${now + 60},"jti":"${jti}"}`,
  ],
  [
    'a member that nobody knows',
    ({ now, jti, url }, client) =>
      `{"iss":"${client}","sub":"${client}","aud":"${url}","exp":${now + 60},"jti":"${jti}","x":null,"__proto__":null}`,
  ],
]

for (const engine of engines) {
  describe(`members that are null count as absent, on ${engine.name}`, () => {
    const it = openForSuite((t) => openScene(t, engine))

    for (const [name, payload] of assertions) {
      test(`in the claims of an assertion: ${name}`, async () => {
        for (const client of ['inline', 'fetched']) {
          await assertBelieved(it(), () => signedBytes(usual, payload(timesOf(it().stage), client), it().key))
        }
      })
    }

    for (const [name, header] of headers) {
      test(`in the header of an assertion: ${name}`, async () => {
        for (const client of ['inline', 'fetched']) {
          for (const [, payload] of assertions) {
            await assertBelieved(it(), () => signedBytes(header, payload(timesOf(it().stage), client), it().key))
          }
        }
      })

      test(`in the header of a signed request and of a login_hint_token: ${name}`, async () => {
        const { stage, key } = it()
        for (const ask of [sendRequest, sendHint]) {
          const { status, text } = await ask(stage, key, header, {})
          assert.equal(status, 200, `${ask.name}: ${text}`)
        }
      })
    }

    test('claims that are required are then missing, and nothing is used up', async () => {
      const { stage, key } = it()
      const { jti } = timesOf(stage)
      for (const [claim, reason] of [
        ['aud', 'aud is missing'],
        ['exp', 'exp is missing'],
        ['iss', 'iss is missing'],
        ['jti', 'jti is missing'],
        ['sub', 'client_assertion is not a readable JWT'],
      ] as const) {
        for (const { path, form } of everywhere) {
          const assertion = await assertionWith(stage, key, { jti, nbf: null, iat: null, [claim]: null })
          const { status, body } = await stage.post(path, { ...form, ...asserted(assertion) })
          assert.deepEqual([status, body.error], [401, 'invalid_client'], `${path}: ${claim}`)
          assert.equal(body.error_description, `client authentication failed: ${reason}`, path)
        }
      }
      const [{ path, form }] = everywhere
      const last = await stage.post(path, { ...form, ...asserted(await assertionWith(stage, key, { jti, nbf: null })) })
      assert.equal(last.status, 200, last.text)
    })

    test('beside a member that is null, all others are checked', async () => {
      const { stage, key, foreign } = it()
      const { now } = timesOf(stage)
      const wrong: [Record<string, unknown>, reason: string][] = [
        [{ nbf: null, exp: now - 60 }, 'exp has passed'],
        [{ iat: null, exp: now + 7200 }, 'exp is more than 3600 seconds from now'],
        [{ iat: null, nbf: now + 60 }, 'nbf is in the future'],
        [{ nbf: null, iat: now + 60 }, 'iat is in the future'],
        [{ nbf: null, iat: '1' }, 'iat is not a number'],
        [{ nbf: null, iss: 'fetched' }, 'iss must be the client_id'],
        [{ nbf: null, aud: 'https://elsewhere.example' }, 'aud does not name this server'],
        [{ nbf: null, aud: [stage.url, 'https://elsewhere.example'] }, 'aud names another server'],
      ]
      for (const { path, form } of everywhere) {
        for (const [claims, reason] of wrong) {
          const assertion = await assertionWith(stage, key, claims)
          const { body } = await stage.post(path, { ...form, ...asserted(assertion) })
          assert.equal(body.error_description, `client authentication failed: ${reason}`, path)
        }
        const forged = await assertionWith(stage, foreign, { nbf: null, iat: null })
        const { body } = await stage.post(path, { ...form, ...asserted(forged) })
        assert.match(String(body.error_description), /signature verification failed$/, path)
        const [header, , signature] = (await assertionWith(stage, key, { nbf: null })).split('.')
        const [, changed] = (await assertionWith(stage, key, {})).split('.')
        const call = { ...form, ...asserted([header, changed, signature].join('.')) }
        assert.match(
          String((await stage.post(path, call)).body.error_description),
          /signature verification failed$/,
          path,
        )
      }
    })

    test('an assertion with null is accepted only once', async () => {
      const { stage, key } = it()
      const call = { ...everywhere[0].form, ...asserted(await assertionWith(stage, key, { nbf: null, iat: null })) }
      assert.equal((await stage.post(everywhere[0].path, call)).status, 200)
      for (const { path, form } of everywhere) {
        const { body } = await stage.post(path, { ...call, ...form })
        assert.match(String(body.error_description), /client assertion was used before$/, path)
      }
    })

    test('in a signed request and a login_hint_token', async () => {
      const { stage, key } = it()
      assert.equal((await sendRequest(stage, key, usual, { sub: null, azp: null, client_id: null })).status, 200)
      for (const claim of ['iss', 'aud', 'exp', 'nbf', 'iat', 'jti']) {
        const { status, body } = await sendRequest(stage, key, usual, { [claim]: null })
        assert.deepEqual([status, body.error_description], [400, `request: its claim ${claim} is missing`])
      }
      assert.equal((await sendHint(stage, key, usual, { nbf: null, jti: null, email: null })).status, 200)
      for (const claim of ['iss', 'aud', 'exp', 'iat', 'sub']) {
        const { status, body } = await sendHint(stage, key, usual, { [claim]: null })
        assert.deepEqual([status, body.error], [400, 'invalid_request'], claim)
      }
    })
  })
}

interface Scene {
  stage: Stage
  key: KeyHolder
  foreign: KeyHolder
}

/** Opens a server with a client whose keys are registered, and one whose keys are fetched. */
async function openScene(t: TestContext, engine: Engine): Promise<Scene> {
  const [key, foreign] = [await newKey('one'), await newKey('one')]
  const jwks = { keys: [key.publicJwk] }
  const served = await openKeyServer(t)
  served.publish(jwks)
  const clients = [
    pollClient('inline', { ...signs, jwks }),
    pollClient('fetched', { ...signs, jwks_uri: served.url }),
    signing({ jwks_uri: served.url }),
  ]
  const hints = { tokenIssuers: [{ issuer: finder, jwksUri: served.url }] }
  return { stage: await openStage(t, { engine, config: { clients, hints, limits: unlimited } }), key, foreign }
}

function timesOf({ clock, url }: Stage): Times {
  return { now: Math.floor(clock.now() / 1000), jti: newSecret(12), url }
}

function assertionWith(stage: Stage, key: KeyHolder, claims: Record<string, unknown>): Promise<string> {
  const { now, jti, url } = timesOf(stage)
  const all = { iss: 'inline', sub: 'inline', aud: url, exp: now + 60, iat: now, jti, ...claims }
  return signedBytes(usual, JSON.stringify(all), key)
}

async function assertBelieved({ stage }: Scene, make: () => Promise<string>): Promise<void> {
  for (const { path, form } of everywhere) {
    const { status, body, text } = await stage.post(path, { ...form, ...asserted(await make()) })
    assert.ok(status === 200 || body.error === 'invalid_grant', `${path}: ${text}`)
  }
}

async function sendRequest(stage: Stage, key: KeyHolder, header: string, claims: Record<string, unknown>) {
  const { now, jti, url } = timesOf(stage)
  const times = { exp: now + 300, nbf: now, iat: now }
  const all = { iss: 'signing', aud: url, ...times, jti, scope: 'openid', login_hint: 'ana', ...claims }
  const request = await signedBytes(header, JSON.stringify(all), key)
  return stage.post('/backchannel/authorize', { request }, basic('signing', secret))
}

async function sendHint(stage: Stage, key: KeyHolder, header: string, claims: Record<string, unknown>) {
  const { now, url } = timesOf(stage)
  const all = { iss: finder, aud: url, sub: 'user-ana', iat: now, exp: now + 60, ...claims }
  const login_hint_token = await signedBytes(header, JSON.stringify(all), key)
  return stage.post('/backchannel/authorize', { scope: 'openid', login_hint_token }, credentials.kiosk)
}
