/** Client metadata at registration: what is stored, and what is refused. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { newKey } from '../support/assertions.ts'
import { ana, basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { calls, opened, poll } from './registration-calls.ts'

describe('registered metadata', () => {
  test('are returned completely, with defaults, and without unknown members (DR-2, DR-4, DR-7)', async (t) => {
    const { stage, register } = await opened(t)
    const { status, body, headers } = await register({
      ...poll,
      client_name: 'Trolley',
      foo: 'bar',
      software_version: '1',
    })
    assert.equal(status, 201)
    assert.match(String(headers.get('cache-control')), /no-store/)
    const { client_id, client_secret, registration_access_token, client_id_issued_at, ...rest } = body
    assert.deepEqual(rest, {
      client_name: 'Trolley',
      ...poll,
      redirect_uris: [],
      response_types: [],
      scope: 'openid profile email phone offline_access',
      token_endpoint_auth_method: 'client_secret_basic',
      application_type: 'web',
      subject_type: 'public',
      id_token_signed_response_alg: 'RS256',
      require_auth_time: false,
      dpop_bound_access_tokens: false,
      tls_client_certificate_bound_access_tokens: false,
      backchannel_user_code_parameter: true,
      backchannel_require_passkey: false,
      backchannel_allowed_hints: ['login_hint', 'id_token_hint', 'login_hint_token'],
      client_secret_expires_at: 0,
      registration_client_uri: `${stage.url}/oauth/register/${client_id}`,
    })
    assert.ok(String(client_secret).length >= 43 && String(registration_access_token).length >= 43)
    assert.equal(client_id_issued_at, Math.floor(stage.clock.now() / 1000))
  })

  test('need no redirect URI for CIBA alone, and come without a secret if the client has keys (DR-6, DR-8)', async (t) => {
    const { register } = await opened(t)
    const { publicJwk } = await newKey('one', 'PS256')
    const { status, body } = await register({
      ...{ grant_types: [CIBA], response_types: [], backchannel_user_code_parameter: false },
      backchannel_token_delivery_mode: 'poll',
      backchannel_authentication_request_signing_alg: 'PS256',
      id_token_signed_response_alg: 'PS256',
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'PS256',
      jwks: { keys: [publicJwk] },
      client_name: 'Suite',
    })
    assert.equal(status, 201, JSON.stringify(body))
    assert.ok(!('client_secret' in body) && !('client_secret_expires_at' in body))
  })

  test('keep only the known members of a key', async (t) => {
    const { register } = await opened(t)
    const { publicJwk } = await newKey('one')
    const many = Array.from({ length: 10_000 }, () => [])
    const { status, body } = await register({
      ...poll,
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [{ ...publicJwk, x5c: ['MII'], a: many }], b: many },
    })
    assert.equal(status, 201)
    assert.deepEqual(body.jwks, { keys: [{ ...publicJwk, x5c: ['MII'] }] })
  })

  test('cannot exempt a client from user codes, at registration or later (UC-2)', async (t) => {
    const cleo = { id: 'user-cleo', username: 'cleo', user_code: 'otter-1234' }
    const stage = await openStage(t, { config: { registration: { mode: 'open' }, users: [ana, cleo] } })
    const { register, send } = calls(stage)
    for (const backchannel_user_code_parameter of [undefined, false, true]) {
      const said = { ...poll, backchannel_user_code_parameter }
      const { body } = await register(said)
      assert.equal(body.backchannel_user_code_parameter, true, 'and the answer says so')
      const token = String(body.registration_access_token)
      const replaced = await send(
        'PUT',
        String(body.registration_client_uri),
        { ...said, client_id: body.client_id },
        token,
      )
      assert.equal(replaced.body.backchannel_user_code_parameter, true)
      const credentials = basic(String(body.client_id), String(body.client_secret))
      const sendRequest = (login_hint: string, more = {}) =>
        stage.post('/backchannel/authorize', { scope: 'openid', login_hint, ...more }, credentials)
      assert.equal((await sendRequest('cleo')).body.error, 'missing_user_code')
      assert.equal((await sendRequest('cleo', { user_code: 'otter-1234' })).status, 200)
      assert.equal((await sendRequest('ana')).status, 200, 'a user without a code needs none')
    }
    const signIn = { redirect_uris: ['https://app.example/callback'] }
    assert.ok(!('backchannel_user_code_parameter' in (await register(signIn)).body), 'a client without the CIBA grant')
  })

  test('have no member about user codes where no user can have one', async (t) => {
    const users = { find: async () => null, findByHint: async () => null }
    const stage = await openStage(t, { config: { registration: { mode: 'open' }, users } })
    const { body } = await calls(stage).register({ ...poll, backchannel_user_code_parameter: false })
    assert.equal(body.backchannel_user_code_parameter, false)
  })

  const wrong: [name: string, metadata: unknown, error: string, names: RegExp][] = [
    [
      'ping without an endpoint (RG-3)',
      { ...poll, backchannel_token_delivery_mode: 'ping' },
      'invalid_client_metadata',
      /notification_endpoint is missing/,
    ],
    [
      'an endpoint without https (RG-4)',
      {
        ...poll,
        backchannel_token_delivery_mode: 'ping',
        backchannel_client_notification_endpoint: 'http://example.com/n',
      },
      'invalid_client_metadata',
      /must be an https address/,
    ],
    [
      'an endpoint with a fragment (RG-6)',
      {
        ...poll,
        backchannel_token_delivery_mode: 'ping',
        backchannel_client_notification_endpoint: 'https://example.com/n#x',
      },
      'invalid_client_metadata',
      /fragment/,
    ],
    [
      'an unknown mode (RG-6)',
      { ...poll, backchannel_token_delivery_mode: 'pool' },
      'invalid_client_metadata',
      /delivery_mode/,
    ],
    [
      'poll without its grant (RG-2)',
      {
        backchannel_token_delivery_mode: 'poll',
        grant_types: ['authorization_code'],
        redirect_uris: ['https://a.example/cb'],
      },
      'invalid_client_metadata',
      /grant_types must contain/,
    ],
    [
      'requests signed with a shared secret (RG-6)',
      { ...poll, backchannel_authentication_request_signing_alg: 'HS256' },
      'invalid_client_metadata',
      /signing_alg must be/,
    ],
    [
      'jwks and jwks_uri (DR-5)',
      { ...poll, jwks_uri: 'https://a.example/jwks', jwks: { keys: [{ kty: 'EC' }] } },
      'invalid_client_metadata',
      /must not both/,
    ],
    [
      'a private key (DR-5)',
      { ...poll, jwks: { keys: [{ kty: 'EC', d: 'hush-hush' }] } },
      'invalid_client_metadata',
      /private member/,
    ],
    [
      'a key that makes verification expensive',
      { ...poll, jwks: { keys: [{ kty: 'RSA', n: 'x'.repeat(512), e: 'x'.repeat(500) }] } },
      'invalid_client_metadata',
      /exponent of at most 32 bits/,
    ],
    [
      'more keys than allowed',
      { ...poll, jwks: { keys: Array.from({ length: 101 }, () => ({ kty: 'EC' })) } },
      'invalid_client_metadata',
      /at most 100 keys/,
    ],
    [
      'a list so long that its error message would be expensive',
      {
        ...poll,
        redirect_uris: Array.from({ length: 15_000 }, () => ''),
        contacts: Array.from({ length: 501 }, () => ''),
      },
      'invalid_client_metadata',
      /^redirect_uris must have at most 500 entries; contacts must have at most 500 entries$/,
    ],
    [
      'keys without keys (DR-9)',
      { ...poll, token_endpoint_auth_method: 'private_key_jwt' },
      'invalid_client_metadata',
      /jwks or jwks_uri is missing/,
    ],
    [
      'the code grant without redirects (DR-6)',
      { client_name: 'x' },
      'invalid_redirect_uri',
      /redirect_uris is missing/,
    ],
    [
      'an http redirect',
      { redirect_uris: ['http://a.example/cb'] },
      'invalid_redirect_uri',
      /redirect_uris must be https/,
    ],
    [
      'a public client with the CIBA grant (EP-11)',
      { ...poll, token_endpoint_auth_method: 'none' },
      'invalid_client_metadata',
      /must not be none/,
    ],
    [
      'the privilege to decide for users',
      { token_endpoint_auth_method: 'client_secret_basic', backchannel_device_service: true, grant_types: [] },
      'invalid_client_metadata',
      /by the operator/,
    ],
    [
      'the scope with which users decide',
      { redirect_uris: ['https://a.example/cb'], scope: 'openid ciba:decide' },
      'invalid_client_metadata',
      /only the operator/,
    ],
    ['an unknown scope', { ...poll, scope: 'openid zebra' }, 'invalid_client_metadata', /scope contains/],
    [
      'pairwise without jwks_uri (RG-8, RG-10)',
      { ...poll, subject_type: 'pairwise' },
      'invalid_client_metadata',
      /RG-8/,
    ],
    [
      'pairwise without a grant that uses its keys (RG-12)',
      { ...poll, subject_type: 'pairwise', jwks_uri: 'https://a.example/jwks' },
      'invalid_client_metadata',
      /RG-12/,
    ],
    [
      "another party's sector by its keys, with a redirect of its own (RG-8)",
      {
        ...poll,
        grant_types: [CIBA, 'authorization_code'],
        subject_type: 'pairwise',
        jwks_uri: 'https://bank.example/jwks',
        backchannel_authentication_request_signing_alg: 'ES256',
        redirect_uris: ['https://evil.example/cb'],
      },
      'invalid_redirect_uri',
      /redirect_uris must all have the host/,
    ],
    [
      "another party's sector by its notification endpoint, with a redirect of its own (RG-11)",
      {
        grant_types: ['authorization_code'],
        backchannel_token_delivery_mode: 'push',
        backchannel_client_notification_endpoint: 'https://bank.example/told',
        subject_type: 'pairwise',
        redirect_uris: ['https://evil.example/cb'],
      },
      'invalid_redirect_uri',
      /redirect_uris must all have the host/,
    ],
    ...['com.evil://bank.example/cb', 'com.evil:/cb', 'http://127.0.0.1/cb'].map(
      (uri): [string, unknown, string, RegExp] => [
        `pairwise by an address that is nobody's own: ${uri}`,
        { application_type: 'native', subject_type: 'pairwise', redirect_uris: [uri] },
        'invalid_client_metadata',
        /sector_identifier_uri is missing/,
      ],
    ),
    ['nothing', [], 'invalid_client_metadata', /JSON object/],
    ['no JSON', '{', 'invalid_request', /JSON/],
  ]
  test('are refused with an error code and the name of the member; nothing is stored (DR-3)', async (t) => {
    const { stage, register } = await opened(t)
    const before = await countClients(stage)
    for (const [name, metadata, error, names] of wrong) {
      const { status, body, text } = await register(metadata)
      assert.deepEqual([status, body.error], [400, error], `${name}: ${text}`)
      assert.match(String(body.error_description), names, name)
      assert.doesNotMatch(text, /hush/, name)
    }
    assert.equal(await countClients(stage), before)
  })

  test('cannot be sent in any other way', async (t) => {
    const { stage, send } = await opened(t)
    const form = await stage.post('/oauth/register', { client_name: 'x' })
    assert.deepEqual([form.status, form.body.error], [400, 'invalid_request'])
    for (const method of ['GET', 'PUT', 'DELETE']) assert.equal((await send(method, '/oauth/register')).status, 405)
    const large = await send('POST', '/oauth/register', { client_name: 'x'.repeat(70_000) })
    assert.equal(large.status, 413)
  })
})

async function countClients(stage: Stage): Promise<number> {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  try {
    const [row] = await database.read<{ number: number }>('select count(*) as number from clients')
    return row!.number
  } finally {
    await database.close()
  }
}
