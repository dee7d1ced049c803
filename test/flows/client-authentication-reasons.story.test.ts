/**
 * What a client learns when its authentication fails, and the maximum lifetime of its assertions, at every endpoint.
 */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { type Answer, basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { openForSuite } from '../support/teardown.ts'
import { everywhere, unlimited } from './keyed-clients.ts'

const issuer = 'https://id.example.com'
const secret = newSecret()
const generic = 'client authentication failed'

const passed = ({ status, body }: Answer) => status === 200 || body.error === 'invalid_grant'

for (const engine of engines) {
  describe(`in production, on ${engine.name},`, () => {
    const { it, key, foreign } = serve(engine, { development: false, issuer })
    const sign = (claims: Record<string, unknown>, header = {}, holder = key()) =>
      assertionOf(it(), 'key', { key: holder.privateKey, header, claims: { aud: issuer, ...claims } })
    const inSeconds = (seconds: number) => Math.floor(it().clock.now() / 1000) + seconds

    const signed: [name: string, make: () => Promise<string>, reason: string][] = [
      [
        'a lifetime of more than an hour',
        () => sign({ exp: inSeconds(3620) }),
        'exp is more than 3600 seconds from now',
      ],
      ['an exp that has passed', () => sign({ iat: inSeconds(-90), exp: inSeconds(-30) }), 'exp has passed'],
      ['no exp', () => sign({ exp: undefined }), 'exp is missing'],
      ['an exp that is text', () => sign({ exp: '1' }), 'exp is not a number'],
      ['an iat in the future', () => sign({ iat: inSeconds(30) }), 'iat is in the future'],
      ['an nbf in the future', () => sign({ nbf: inSeconds(30) }), 'nbf is in the future'],
      ['another server as audience', () => sign({ aud: 'https://elsewhere.example' }), 'aud does not name this server'],
      ['no audience', () => sign({ aud: undefined }), 'aud is missing'],
      ['a second server as audience', () => sign({ aud: [issuer, 'https://e.example'] }), 'aud names another server'],
      ['another issuer', () => sign({ iss: 'other' }), 'iss must be the client_id'],
      ['no jti', () => sign({ jti: undefined }), 'jti is missing'],
      ['the typ of an access token', () => sign({}, { typ: 'at+jwt' }), 'typ is that of another kind of JWT'],
    ]
    for (const [name, make, reason] of signed) {
      test(`a client that has signed learns why: ${name}`, async () => {
        for (const { path, form } of everywhere) {
          const { status, body } = await it().post(path, { ...form, ...asserted(await make()) })
          const expected = [401, 'invalid_client', `${generic}: ${reason}`]
          assert.deepEqual([status, body.error, body.error_description], expected, path)
        }
      })
    }

    test('a client that has signed learns that its assertion was used before', async () => {
      for (const { path, form } of everywhere) {
        const call = { ...form, ...asserted(await sign({})) }
        assert.ok(passed(await it().post(path, call)), path)
        const { body } = await it().post(path, call)
        assert.equal(body.error_description, `${generic}: client assertion was used before`, path)
      }
    })

    const unsigned: [name: string, make: () => Promise<string>][] = [
      ['the key of another client', () => sign({ exp: 1 }, {}, foreign())],
      ['an unknown kid', () => sign({ exp: 1 }, { kid: 'unknown' })],
      ['a signature that was changed', async () => `${(await sign({ exp: 1 })).slice(0, -8)}AAAAAAAA`],
      ['an unknown client', () => sign({ iss: 'nobody', sub: 'nobody', exp: 1 })],
      ['a client of another method', () => sign({ iss: 'basic', sub: 'basic', exp: 1 })],
    ]
    for (const [name, make] of unsigned) {
      test(`a caller whose signature is not the client's learns nothing: ${name}`, async () => {
        for (const { path, form } of everywhere) {
          const { body } = await it().post(path, { ...form, ...asserted(await make()) })
          assert.deepEqual([body.error, body.error_description], ['invalid_client', generic], path)
        }
      })
    }

    test('a caller with a secret learns nothing', async () => {
      for (const { path, form } of everywhere) {
        const texts = new Set<string>()
        for (const as of [basic('nobody', 'x'), basic('basic', 'x'), basic('key', 'x'), basic('hmac', 'x')])
          texts.add((await it().post(path, form, as)).text)
        assert.deepEqual([...texts], [JSON.stringify({ error: 'invalid_client', error_description: generic })], path)
      }
    })

    test('an assertion of Authlib, with a lifetime of an hour, is accepted once, at every endpoint', async () => {
      for (const { path, form } of everywhere) {
        const call = { ...form, ...asserted(byAuthlib(it())) }
        const first = await it().post(path, call)
        assert.ok(passed(first), `${path}: ${first.text}`)
        it().clock.advance(3590_000)
        await it().doorbell.prune()
        const again = await it().post(path, call)
        assert.equal(again.body.error_description, `${generic}: client assertion was used before`, path)
      }
    })
  })

  describe(`in development, the response says why, on ${engine.name}`, () => {
    const { it, key, foreign } = serve(engine, {})
    const assertion = async (holder: KeyHolder) => asserted(await assertionOf(it(), 'key', { key: holder.privateKey }))
    const cases: [name: string, call: () => Promise<[Record<string, string>, string?]>, reason: RegExp][] = [
      [
        'post, though registered for basic',
        async () => [{ client_id: 'basic', client_secret: secret }],
        /registered for client_secret_basic, called as client_secret_post$/,
      ],
      [
        'an assertion, though registered for basic',
        async () => [asserted(await assertionOf(it(), 'basic', { key: key().privateKey }))],
        /basic: registered for client_secret_basic, called as private_key_jwt or client_secret_jwt$/,
      ],
      [
        'basic, though registered for private_key_jwt',
        async () => [{}, basic('key', 'x')],
        /key: registered for private_key_jwt, called as client_secret_basic$/,
      ],
      [
        'post, though registered for client_secret_jwt',
        async () => [{ client_id: 'hmac', client_secret: secret }],
        /registered for client_secret_jwt, called as client_secret_post$/,
      ],
      ['a wrong secret', async () => [{}, basic('basic', 'x')], /wrong client secret$/],
      ['an unknown client', async () => [{}, basic('nobody', 'x')], /no such client$/],
      ['the key of another client', async () => [await assertion(foreign())], /signature verification failed$/],
      ['no credentials', async () => [{}], /no client authentication$/],
      [
        'an assertion that is not a JWT',
        async () => [asserted('not-a-jwt')],
        /client_assertion is not a readable JWT$/,
      ],
    ]
    for (const [name, make, reason] of cases) {
      test(name, async () => {
        for (const { path, form } of everywhere) {
          const [more, authorization] = await make()
          const { status, body, text } = await it().post(path, { ...form, ...more }, authorization)
          assert.deepEqual([status, body.error], [401, 'invalid_client'], text)
          assert.match(String(body.error_description), /^client authentication failed: /, path)
          assert.match(String(body.error_description), reason, path)
          assert.ok(!text.includes(secret), path)
        }
      })
    }
  })
}

/** Opens a server with one client of each kind before the tests of a suite. */
function serve(engine: Engine, config: { development?: false; issuer?: string }) {
  const opened = openForSuite(async (t) => {
    const [key, foreign] = [await newKey('one'), await newKey('one')]
    const grant_types = [CIBA, 'refresh_token']
    const clients = [
      pollClient('key', {
        grant_types,
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [key.publicJwk] },
      }),
      pollClient('hmac', { grant_types, client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt' }),
      pollClient('basic', { grant_types, client_secret: secret }),
    ]
    const stage = await openStage(t, { engine, cast: false, config: { ...config, clients, limits: unlimited } })
    return { stage, key, foreign }
  })
  return { it: () => opened().stage, key: () => opened().key, foreign: () => opened().foreign }
}

/** A client assertion as Authlib 1.6 makes it (`client_secret_jwt`, no `kid`, a lifetime of an hour). */
function byAuthlib(stage: Stage): string {
  const now = Math.floor(stage.clock.now() / 1000)
  const header = '{"alg":"HS256","typ":"JWT"}'
  const payload =
    `{"iss":"hmac","aud":"${issuer}/oauth/token","sub":"hmac","iat":${now},"exp":${now + 3600},` +
    `"jti":"${newSecret(27)}"}`
  const input = [header, payload].map((part) => Buffer.from(part).toString('base64url')).join('.')
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
}
