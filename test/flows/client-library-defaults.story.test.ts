/** Registrations as client libraries send them: the algorithms that discovery lists, and response types by default. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { exportJWK, generateKeyPair, importJWK, type JWK } from 'jose'
import { secretAad } from '../../src/client/configured-clients.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, newKey } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { calls, open, opened, poll } from './registration-calls.ts'

const discovery = '/.well-known/openid-configuration'

for (const engine of engines) {
  test(`every algorithm that discovery lists for client assertions can be registered and used, on ${engine.name}`, async (t) => {
    const { stage, register } = await opened(t, open, engine)
    const { body } = await stage.get(discovery)
    const listed = body.token_endpoint_auth_signing_alg_values_supported as string[]
    assert.equal(listed.length, 14, listed.join(' '))
    const rsa = await generateKeyPair('RS256', { extractable: true })
    for (const alg of listed) {
      const isSecret = alg.startsWith('HS')
      const pair = isSecret ? undefined : /^[RP]S/.test(alg) ? rsa : await generateKeyPair(alg, { extractable: true })
      const registered = await register({
        ...poll,
        token_endpoint_auth_method: isSecret ? 'client_secret_jwt' : 'private_key_jwt',
        token_endpoint_auth_signing_alg: alg,
        ...(pair && { jwks: { keys: [await exportJWK(pair.publicKey)] } }),
      })
      assert.equal(registered.status, 201, `${alg}: ${registered.text}`)
      assert.equal(registered.body.token_endpoint_auth_signing_alg, alg)
      const key = pair
        ? await importJWK({ ...(await exportJWK(pair.privateKey)), alg } as JWK)
        : new TextEncoder().encode(String(registered.body.client_secret))
      const sign = () => assertionOf(stage, String(registered.body.client_id), { key, header: { alg } })
      const asked = { scope: 'openid', login_hint: 'ana', ...asserted(await sign()) }
      const own = await stage.post('/backchannel/authorize', asked)
      assert.equal(own.status, 200, `${alg}: ${own.text}`)
      const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown', ...asserted(await sign()) }
      const forwarded = await stage.post('/oauth/token', refresh)
      assert.equal(forwarded.body.error, 'invalid_grant', `${alg}, at an endpoint of oidc-provider: ${forwarded.text}`)
      stage.clock.advance(3600_000)
    }
  })

  test(`under the profile, every method that discovery lists can be registered, and no other, on ${engine.name}`, async (t) => {
    const config: ConfigInput = {
      ...open,
      development: false,
      profile: 'fapi-ciba',
      issuer: 'https://id.example.com',
      proxy: { trust: ['127.0.0.0/8', '::1'], clientCertificateHeader: 'x-client-cert' },
    }
    const stage = await openStage(t, { engine, cast: false, config })
    const { body } = await stage.get(discovery)
    const listed = body.token_endpoint_auth_methods_supported as string[]
    assert.deepEqual(listed.toSorted(), ['private_key_jwt', 'self_signed_tls_client_auth', 'tls_client_auth'])
    const keys = [{ ...(await newKey('one')).publicJwk, x5c: ['MII'] }]
    const signing = { backchannel_authentication_request_signing_alg: 'ES256', jwks: { keys } }
    for (const token_endpoint_auth_method of [...listed, 'client_secret_basic', 'client_secret_post', 'none']) {
      const subject = token_endpoint_auth_method === 'tls_client_auth' && { tls_client_auth_subject_dn: 'CN=till' }
      const sent = { ...poll, ...signing, ...subject, token_endpoint_auth_method }
      const { status, text } = await calls(stage).register(sent)
      assert.equal(status, listed.includes(token_endpoint_auth_method) ? 201 : 400, text)
    }
  })

  describe(`response types that a client library adds are accepted, and left out of the response, on ${engine.name}`, () => {
    /** A registration of Nimbus (com.nimbusds:oauth2-oidc-sdk) after `applyDefaults`, as it is on the wire. */
    const sentByNimbus =
      '{"grant_types":["urn:openid:params:grant-type:ciba"],"application_type":"web","scope":"openid",' +
      '"id_token_signed_response_alg":"RS256","response_types":["code"],"token_endpoint_auth_method":"client_secret_basic",' +
      '"backchannel_token_delivery_mode":"poll"}'
    const endpoint = { backchannel_client_notification_endpoint: 'http://localhost:9/notify' }
    const signIn = { redirect_uris: ['https://app.example/callback'] }
    const variants: [name: string, body: unknown, responseTypes: string[]][] = [
      ['the bytes of a client in Java', sentByNimbus, []],
      ['poll with "code"', { ...poll, response_types: ['code'] }, []],
      [
        'ping with "code"',
        { ...poll, ...endpoint, backchannel_token_delivery_mode: 'ping', response_types: ['code'] },
        [],
      ],
      [
        'push without a grant',
        { grant_types: [], ...endpoint, backchannel_token_delivery_mode: 'push', response_types: ['code'] },
        [],
      ],
      ['an empty list', { ...poll, response_types: [] }, []],
      [
        'CIBA beside sign-in',
        { ...poll, ...signIn, grant_types: [CIBA, 'authorization_code'], response_types: ['code'] },
        ['code'],
      ],
      ['sign-in, the same type twice', { ...signIn, response_types: ['code', 'code'] }, ['code']],
    ]
    for (const [name, sent, responseTypes] of variants) {
      test(name, async (t) => {
        const { stage, register, send } = await opened(t, open, engine)
        const { status, body, text } = await register(sent)
        assert.deepEqual([status, body.response_types], [201, responseTypes], text)
        const read = await send(
          'GET',
          String(body.registration_client_uri),
          undefined,
          String(body.registration_access_token),
        )
        assert.deepEqual(read.body.response_types, responseTypes)
        if (body.backchannel_token_delivery_mode === 'poll') await rings(stage, body)
      })
    }
  })
}

test('a response type that is not supported, or that the grants do not fit, is still refused', async (t) => {
  const { register } = await opened(t)
  const signIn = { redirect_uris: ['https://app.example/callback'] }
  for (const wrong of [
    { ...poll, response_types: ['id_token'] },
    { ...poll, response_types: ['none'] },
    { ...poll, response_types: 'code' },
    { ...signIn, response_types: [] },
    { ...signIn, grant_types: ['refresh_token'], response_types: ['code'] },
  ]) {
    const { status, body } = await register(wrong)
    assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], JSON.stringify(wrong))
    assert.match(String(body.error_description), /response_types/)
  }
})

test('a client of the configuration may have them too', async (t) => {
  const client_secret = 'a-secret-of-the-configuration'
  const client = { client_id: 'shelf', client_secret, ...poll, response_types: ['code'] } as const
  const stage = await openStage(t, { config: { clients: [client as never] } })
  await rings(stage, { client_id: 'shelf', client_secret })
})

test('a client keeps its secret for another algorithm, unless the secret is too short for it', async (t) => {
  const { stage, register, send } = await opened(t)
  const { body: made } = await register({ ...poll, token_endpoint_auth_method: 'client_secret_basic' })
  const keyed = (alg: string) => ({
    ...poll,
    client_id: made.client_id,
    token_endpoint_auth_method: 'client_secret_jwt',
    token_endpoint_auth_signing_alg: alg,
  })
  let token = String(made.registration_access_token)
  const secrets: unknown[] = []
  for (const alg of ['HS256', 'HS512', 'HS384']) {
    const { status, body, text } = await send('PUT', String(made.registration_client_uri), keyed(alg), token)
    assert.equal(status, 200, text)
    token = String(body.registration_access_token)
    secrets.push(body.client_secret)
  }
  assert.ok(String(secrets[0]).length >= 64, 'the secret is long enough for every algorithm')
  assert.deepEqual(secrets.slice(1), [undefined, undefined], 'so the secret stays')
  const key = new TextEncoder().encode(String(secrets[0]))
  const assertion = await assertionOf(stage, String(made.client_id), { key, header: { alg: 'HS384' } })
  const asked = { scope: 'openid', login_hint: 'ana', ...asserted(assertion) }
  const { status, text } = await stage.post('/backchannel/authorize', asked)
  assert.equal(status, 200, text)

  // Stores a secret of 43 characters, as an earlier version made it.
  const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
  const sealed = vault.seal(newSecret(), secretAad(String(made.client_id)))
  await rowsOf(stage, 'update clients set secret_sealed = $2 where id = $1 returning id', [
    String(made.client_id),
    sealed,
  ])
  await stage.restart()
  const longer = await send('PUT', String(made.registration_client_uri), keyed('HS512'), token)
  assert.deepEqual([longer.status, String(longer.body.client_secret).length >= 64], [200, true], longer.text)
})

async function rings(stage: Stage, { client_id, client_secret }: Record<string, unknown>): Promise<void> {
  const credentials = basic(String(client_id), String(client_secret))
  const asked = await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, credentials)
  assert.equal(asked.status, 200, asked.text)
}
