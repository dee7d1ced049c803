/** JSON values of signed requests that libraries write in more than one way: lists of `acr_values`, and null. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CompactSign, type CryptoKey, decodeJwt } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import { type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { basic, CIBA, openStage, type Stage } from '../support/stage.ts'

const resource = 'https://api.example.com'

async function scene(t: Parameters<typeof openStage>[0], engine: Engine) {
  const key = await newKey('one')
  const bank = pollClient('bank', {
    client_secret: 'bank-secret',
    backchannel_authentication_request_signing_alg: 'ES256',
    jwks: { keys: [key.publicJwk] },
  })
  return { key, stage: await openStage(t, { engine, config: { clients: [bank], resources: { [resource]: {} } } }) }
}

async function send(stage: Stage, { privateKey }: KeyHolder, claims: Record<string, unknown>) {
  stage.clock.advance(1)
  return post(stage, await signedRequest(stage, 'bank', { key: privateKey, claims }))
}

const post = (stage: Stage, request: string) =>
  stage.post('/backchannel/authorize', { request }, basic('bank', 'bank-secret'))

/** A signed request as Jackson serializes a class of Java whose fields are the parameters: null for each unused one. */
function byJackson(stage: Stage, key: CryptoKey): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  const json =
    `{"iss":"bank","sub":null,"aud":"${stage.url}","exp":${now + 300},"nbf":${now},"iat":${now},"jti":"${newSecret(12)}",` +
    '"request":null,"request_uri":null,"scope":"openid","client_notification_token":null,"acr_values":null,' +
    '"login_hint_token":null,"id_token_hint":null,"login_hint":"ana@example.com","binding_message":null,' +
    '"user_code":null,"requested_expiry":null}'
  return new CompactSign(Buffer.from(json)).setProtectedHeader({ alg: 'ES256', kid: 'one' }).sign(key)
}

for (const engine of engines) {
  describe(`acr_values in a signed request, on ${engine.name}`, () => {
    const same: [unknown, string | undefined][] = [
      [['urn:a', 'urn:b'], 'urn:a urn:b'],
      ['urn:a urn:b', 'urn:a urn:b'],
      [['urn:a'], 'urn:a'],
      [[], undefined],
      ['', undefined],
      [null, undefined],
      [undefined, undefined],
    ]
    test('a list means the same as the text with spaces', async (t) => {
      const { key, stage } = await scene(t, engine)
      for (const [acr_values, stored] of same) {
        const { status, text } = await send(stage, key, { acr_values })
        assert.equal(status, 200, `${JSON.stringify(acr_values)}: ${text}`)
        assert.equal((await stage.waiting())[0]!.acr_values, stored, JSON.stringify(acr_values))
      }
    })

    test('is refused if it is something else', async (t) => {
      const { key, stage } = await scene(t, engine)
      for (const acr_values of [['a b'], [''], [7], [null], [['a']], { a: 1 }, 7, true, ['ä']]) {
        const { status, body } = await send(stage, key, { acr_values })
        assert.deepEqual([status, body.error], [400, 'invalid_request'], JSON.stringify(acr_values))
      }
      assert.deepEqual(await stage.waiting(), [])
    })
  })

  test(`members that are null count as absent, on ${engine.name}`, async (t) => {
    const { key, stage } = await scene(t, engine)
    // A serializer writes null for each optional member of a class that has no value.
    const { status, body, text } = await send(stage, key, {
      client_notification_token: null,
      acr_values: null,
      login_hint_token: null,
      id_token_hint: null,
      binding_message: null,
      user_code: null,
      requested_expiry: null,
      resource: null,
      authorization_details: null,
      request_context: null,
      claims: null,
      request: null,
      request_uri: null,
      sub: null,
      unknown: null,
    })
    assert.deepEqual([status, body.expires_in], [200, 600], text)
    const [shown] = await stage.waiting()
    const absent = ['acr_values', 'binding_message', 'resource', 'authorization_details', 'claims']
    assert.deepEqual(
      absent.filter((name) => name in shown!),
      [],
    )
    await stage.decide(shown!.request_id, 'approved')
    const form = { grant_type: CIBA, auth_req_id: String(body.auth_req_id) }
    const tokens = await stage.post('/oauth/token', form, basic('bank', 'bank-secret'))
    assert.ok(!('acr' in decodeJwt(String(tokens.body.id_token))))
    for (const required of ['scope', 'login_hint']) {
      const refused = await send(stage, key, { [required]: null })
      assert.deepEqual([refused.status, refused.body.error], [400, 'invalid_request'], required)
    }
  })

  describe(`a request within a signed request, on ${engine.name}`, () => {
    const absent: Record<string, unknown>[] = [
      { request: null },
      { request_uri: null },
      { request: null, request_uri: null, sub: null },
      { request: '' },
      { request_uri: '', request: null },
    ]
    test('counts as absent if it is null or empty', async (t) => {
      const { key, stage } = await scene(t, engine)
      for (const claims of absent) {
        const { status, text } = await send(stage, key, claims)
        assert.equal(status, 200, `${JSON.stringify(claims)}: ${text}`)
      }
      const { status, text } = await post(stage, await byJackson(stage, key.privateKey))
      assert.equal(status, 200, text)
    })

    test('is refused otherwise, and nothing is used up', async (t) => {
      const { key, stage } = await scene(t, engine)
      const jti = newSecret(12)
      for (const name of ['request', 'request_uri']) {
        for (const value of ['eyJhbGciOiJub25lIn0..', 'https://bank.example/request', 0, false, {}, [], [null]]) {
          const { status, body } = await send(stage, key, { jti, [name]: value })
          assert.deepEqual([status, body.error], [400, 'invalid_request'], JSON.stringify(value))
          assert.match(String(body.error_description), new RegExp(`^request: it must not contain ${name}$`))
        }
      }
      assert.equal((await send(stage, key, { jti })).status, 200)
    })
  })
}
