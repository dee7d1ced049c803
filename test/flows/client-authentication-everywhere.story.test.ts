/**
 * Client authentication at every endpoint. The endpoints that oidc-provider answers (refresh, introspection,
 * revocation) give the same answers as our own (FI-11, IN-1, ER-4, EP-5, CA-2, CA-6).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, cibaEndpoints, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { collect, discover } from '../support/foreign-client.ts'
import { type Answer, basic, CIBA, credentials, openStage, type Stage, secrets } from '../support/stage.ts'
import { listenToStatements, type Statements } from '../support/statements.ts'

const hardSecret = 'a:b+c%d e&f=g~"/'
const secret = newSecret(48)
const grant_types = [CIBA, 'refresh_token']

/** The first endpoint is our own. The other endpoints must give the same answers. */
const endpoints: { path: string; form: Record<string, string> }[] = [
  ...cibaEndpoints,
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'unknown' } },
  { path: '/oauth/introspect', form: { token: 'unknown' } },
  { path: '/oauth/revoke', form: { token: 'unknown' } },
]
const passed = ({ status, body }: Answer) => status === 200 || body.error === 'invalid_grant'

/** Secrets of different lengths for `client_secret_jwt`. */
const lengths = [32, 47, 48, 63, 64]
const secretOf = (length: number) => newSecret(48).slice(0, length)

async function open(t: TestContext, engine: Engine, statements?: Statements) {
  const key = await newKey('one')
  const bySecretJwt = lengths.map((length) => ({ id: `hmac-${length}`, secret: secretOf(length) }))
  const stage = await openStage(t, {
    engine,
    config: {
      clients: [
        pollClient('hard:id%', { client_secret: hardSecret, grant_types }),
        pollClient('post', { client_secret: secret, token_endpoint_auth_method: 'client_secret_post', grant_types }),
        pollClient('hmac', { client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt', grant_types }),
        pollClient('key', {
          token_endpoint_auth_method: 'private_key_jwt',
          jwks: { keys: [key.publicJwk] },
          grant_types,
        }),
        ...bySecretJwt.map(({ id, secret }) =>
          pollClient(id, { client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt', grant_types }),
        ),
      ],
    },
    ...(statements && { parts: { openDatabase: statements.openDatabase } }),
  })
  return { stage, key, bySecretJwt }
}

type Credentials = { form?: Record<string, string>; authorization?: string }
type Attempt = [name: string, credentials: (stage: Stage, key: KeyHolder) => Credentials | Promise<Credentials>]

const encoded = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

const refused: Attempt[] = [
  ['no credentials (IN-1)', () => ({})],
  ['only the id of a confidential client', () => ({ form: { client_id: 'kiosk' } })],
  ['an unknown client', () => ({ authorization: basic('nobody', secrets.kiosk) })],
  ['a wrong secret', () => ({ authorization: basic('kiosk', secrets.till) })],
  ['a wrong secret in the body', () => ({ form: { client_id: 'post', client_secret: secrets.till } })],
  ['an empty secret, as curl sends it with -u kiosk:', () => ({ authorization: encoded('kiosk:') })],
  ['a header without a colon (ER-4)', () => ({ authorization: encoded('kiosk') })],
  ['a header with bad percent-encoding (ER-4)', () => ({ authorization: encoded('kiosk:%zz') })],
  ['a header that is not base64 (ER-4)', () => ({ authorization: 'Basic !!!' })],
  ['a header of another scheme (ER-4)', () => ({ authorization: `Bearer ${secrets.kiosk}` })],
  ['an empty header (ER-4)', () => ({ authorization: ' ' })],
  ['post, though registered for basic (EP-5)', () => ({ form: { client_id: 'kiosk', client_secret: secrets.kiosk } })],
  ['basic, though registered for post (EP-5)', () => ({ authorization: basic('post', secret) })],
  ['basic, though registered for client_secret_jwt (EP-5)', () => ({ authorization: basic('hmac', secret) })],
  [
    'a signature by a key, though registered for client_secret_jwt (EP-5)',
    async (stage, key) => ({ form: asserted(await assertionOf(stage, 'hmac', { key: key.privateKey })) }),
  ],
  [
    'HMAC, though registered for private_key_jwt (EP-5)',
    async (stage) => ({ form: asserted(await hmac(stage, 'key', secret, 'HS256')) }),
  ],
  ['two ids: header and body (FI-11)', () => ({ authorization: credentials.kiosk, form: { client_id: 'till' } })],
  [
    'two ids: header and an unknown one in the body (FI-11)',
    () => ({ authorization: credentials.kiosk, form: { client_id: 'x' } }),
  ],
  [
    'two ids: assertion and body (FI-11)',
    async (stage, key) => ({ form: { ...(await byKey(stage, key)), client_id: 'kiosk' } }),
  ],
  [
    'two ids: HMAC assertion and body (FI-11)',
    async (stage) => ({ form: { ...asserted(await hmac(stage, 'hmac', secret, 'HS256')), client_id: 'key' } }),
  ],
  [
    'two ids that differ only in case (FI-11)',
    () => ({ authorization: credentials.kiosk, form: { client_id: 'KIOSK' } }),
  ],
  [
    'an assertion whose iss and sub differ (FI-11)',
    async (stage, key) => ({
      form: asserted(await assertionOf(stage, 'key', { key: key.privateKey, claims: { iss: 'x' } })),
    }),
  ],
  ['an assertion without its type', () => ({ form: { client_assertion: 'x.y.z' } })],
  ['an assertion that is not a JWT', () => ({ form: asserted('not-a-jwt') })],
  ['an assertion that is too long', () => ({ form: asserted('x'.repeat(20_000)) })],
  ['two methods at once (CA-2)', () => ({ authorization: credentials.kiosk, form: { client_secret: secrets.kiosk } })],
  [
    'a header and an assertion (CA-2)',
    async (stage, key) => ({ authorization: credentials.kiosk, form: await byKey(stage, key) }),
  ],
]

const byKey = async (stage: Stage, key: KeyHolder) => asserted(await assertionOf(stage, 'key', { key: key.privateKey }))

const hmac = (stage: Stage, clientId: string, secret: string, alg: string) =>
  assertionOf(stage, clientId, { key: new TextEncoder().encode(secret), header: { alg } })

for (const engine of engines) {
  describe(`client authentication at every endpoint, on ${engine.name}`, () => {
    test('failures get the same status, error and challenge everywhere, and are audited', async (t) => {
      const { stage, key } = await open(t, engine)
      for (const [name, credentialsOf] of refused) {
        const answers: unknown[] = []
        for (const { path, form } of endpoints) {
          const { form: more, authorization } = await credentialsOf(stage, key)
          const lines = stage.logLines.length
          const { status, body, headers } = await stage.post(path, { ...form, ...more }, authorization)
          const isTwice = name.includes('CA-2')
          assert.deepEqual(
            [status, body.error],
            isTwice ? [400, 'invalid_request'] : [401, 'invalid_client'],
            `${name}: ${path}`,
          )
          const challenge = headers.get('www-authenticate')
          if (!isTwice) assert.equal(challenge !== null, authorization !== undefined, `${name}: ${path} (ER-4)`)
          assert.match(String(headers.get('cache-control')), /no-store/, `${name}: ${path}`)
          const audited = stage.logLines.slice(lines).filter((line) => line.includes('"event":"client.refused"'))
          assert.equal(audited.length, 1, `${name}: ${path}`)
          // In development, the description ends with the reason, which may differ between endpoints. If an endpoint
          // accepts public clients, a `client_id` alone is an authentication method there.
          const description = String(body.error_description).replace(/^(client authentication failed): .*/, '$1')
          answers.push({ ...body, error_description: description, challenge })
        }
        for (const [index, answer] of answers.entries()) {
          assert.deepEqual(answer, answers[0], `${name}: ${endpoints[index]!.path}`)
        }
      }
    })

    test('every method works at every endpoint, with openid-client', async (t) => {
      const { stage, key } = await open(t, engine)
      const methods: [string, () => openid.ClientAuth][] = [
        ['kiosk', () => openid.ClientSecretBasic(secrets.kiosk)],
        ['hard:id%', () => openid.ClientSecretBasic(hardSecret)],
        ['post', () => openid.ClientSecretPost(secret)],
        ['hmac', () => openid.ClientSecretJwt(secret)],
        ['key', () => openid.PrivateKeyJwt({ key: key.privateKey, kid: 'one' })],
      ]
      for (const [id, method] of methods) {
        const client = await discover(stage, id, method())
        stage.clock.advance(1)
        const asked = { scope: 'openid offline_access', login_hint: 'ana' }
        const response = await openid.initiateBackchannelAuthentication(client, asked)
        await stage.decide(await stage.newestRequest(), 'approved')
        const { refresh_token } = await collect(client, response)
        const refreshed = await openid.refreshTokenGrant(client, refresh_token!)
        const introspected = await openid.tokenIntrospection(client, refreshed.access_token)
        assert.deepEqual([introspected.active, introspected.client_id], [true, id])
        await openid.tokenRevocation(client, refresh_token!)
        assert.equal((await openid.tokenIntrospection(client, refreshed.access_token)).active, false, id)
      }
    })

    test('Basic is read whichever characters the client percent-encodes (CA-3)', async (t) => {
      const { stage } = await open(t, engine)
      const loose = `hard%3Aid%25:${hardSecret.replaceAll('%', '%25').replaceAll('+', '%2B').replaceAll(' ', '+')}`
      const base64 = Buffer.from(loose).toString('base64')
      for (const { path, form } of endpoints) {
        for (const header of [`basic  ${base64}`, `BASIC ${base64}`, `Basic ${base64.replaceAll('=', '')}`]) {
          const answer = await stage.post(path, { ...form, client_id: 'hard:id%' }, header)
          assert.ok(passed(answer), `${path} ${header}: ${answer.text}`)
        }
      }
    })

    test('an HMAC assertion needs a secret as long as its hash, at every endpoint (CA-6)', async (t) => {
      const { stage, bySecretJwt } = await open(t, engine)
      for (const { path, form } of endpoints) {
        for (const { id, secret } of bySecretJwt) {
          for (const [alg, bytes] of [
            ['HS256', 32],
            ['HS384', 48],
            ['HS512', 64],
          ] as const) {
            const answer = await stage.post(path, { ...form, ...asserted(await hmac(stage, id, secret, alg)) })
            const what = `${path}: ${alg} with ${secret.length} bytes: ${answer.text}`
            if (secret.length >= bytes) assert.ok(passed(answer), what)
            else assert.deepEqual([answer.status, answer.body.error], [401, 'invalid_client'], what)
          }
        }
      }
    })

    test('a public client is accepted where it may call, and nowhere else', async (t) => {
      const { stage } = await open(t, engine)
      const app = { client_id: 'phone-app' }
      const isAccepted = []
      for (const { path, form } of endpoints) isAccepted.push(passed(await stage.post(path, { ...form, ...app })))
      const [requests, polls, refreshes, introspects, revokes] = isAccepted
      assert.deepEqual([requests, polls, introspects, revokes], [false, false, false, true])
      // At refresh, oidc-provider refuses this public client because it is not registered for refresh tokens.
      const { status, body } = await stage.post('/oauth/token', { ...endpoints[2]!.form, ...app })
      assert.deepEqual([refreshes, status, body.error], [false, 400, 'invalid_request'])
    })

    test('it costs no statement of the database beyond the one that marks an assertion as used', async (t) => {
      const statements = listenToStatements()
      const { stage, key } = await open(t, engine, statements)
      /** Resolves to the tables of the statements that a call causes. Background tasks use other tables. */
      const toTheirTables = async (work: () => Promise<unknown>) =>
        (await statements.during(work)).flatMap(
          (sql) => /(?:from|into) (oidc_models|used_assertions|clients)\b/.exec(sql)?.[1] ?? [],
        )
      for (const { path, form } of endpoints.slice(2)) {
        const bySecret = await toTheirTables(() => stage.post(path, form, credentials.kiosk))
        const more = await byKey(stage, key)
        const byAssertion = await toTheirTables(() => stage.post(path, { ...form, ...more }))
        assert.deepEqual(new Set(bySecret), new Set(['oidc_models']), path)
        assert.deepEqual(byAssertion, ['used_assertions', ...bySecret], path)
      }
    })
  })
}
