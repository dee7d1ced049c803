/** Clients that register themselves (RFC 7591, RFC 7592), from their first call to tokens. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { createInitialAccessStore } from '../../src/client/registration/initial-access-token-store.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { asserted, assertionOf, newKey, pollClient } from '../cast/assertions.ts'
import { type Engine, engines } from '../cast/engines.ts'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { ana, basic, CIBA, castConfig, newNotificationToken, openStage, type Stage } from '../cast/stage.ts'
import { closeAfter } from '../cast/teardown.ts'

const open = { registration: { mode: 'open', perHour: 1000 } } satisfies ConfigInput

async function opened(t: TestContext, config: ConfigInput = open, engine?: Engine) {
  const stage = await openStage(t, { config, ...(engine && { engine }) })
  return { stage, ...calls(stage) }
}

function calls(stage: Stage) {
  const send = async (method: string, url: string, body?: unknown, token?: string) => {
    const response = await fetch(url.startsWith('http') ? url : stage.url + url, {
      method,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: (text.startsWith('{') ? JSON.parse(text) : {}) as Record<string, never> & Record<string, unknown>,
    }
  }
  return { send, register: (body: unknown, token?: string) => send('POST', '/oauth/register', body, token) }
}

const poll = { grant_types: [CIBA, 'refresh_token'], backchannel_token_delivery_mode: 'poll' }

describe('M35: from registration to tokens', () => {
  for (const engine of engines) {
    for (const mode of ['poll', 'ping', 'push'] as const) {
      test(`${engine.name}: a client that registers for ${mode} rings and gets its tokens`, async (t) => {
        const { stage, register } = await opened(t, open, engine)
        const hears = await openNotificationEndpoint(t)
        const { status, body, text } = await register({
          client_name: 'Newcomer',
          grant_types: mode === 'push' ? [] : [CIBA],
          backchannel_token_delivery_mode: mode,
          ...(mode !== 'poll' && { backchannel_client_notification_endpoint: hears.url }),
        })
        assert.equal(status, 201, text)
        const credentials = basic(String(body.client_id), String(body.client_secret))
        const { body: rung } = await stage.post(
          '/backchannel/authorize',
          {
            scope: 'openid email',
            login_hint: 'ana',
            ...(mode !== 'poll' && { client_notification_token: newNotificationToken() }),
          },
          credentials,
        )
        await stage.decide(await stage.newestRequest(), 'approved')
        if (mode === 'push') {
          await stage.doorbell.idle()
          assert.ok((await hears.hears(1))[0]!.body.access_token)
          return
        }
        if (mode === 'ping') assert.equal((await hears.hears(1))[0]!.body.auth_req_id, rung.auth_req_id)
        const form = { grant_type: CIBA, auth_req_id: String(rung.auth_req_id) }
        assert.equal((await stage.post('/oauth/token', form, credentials)).status, 200)
      })
    }
  }
})

describe('what is registered', () => {
  test('is answered whole, defaults included, and only what is understood (DR-2, DR-4, DR-7)', async (t) => {
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
      backchannel_user_code_parameter: true,
      client_secret_expires_at: 0,
      registration_client_uri: `${stage.url}/oauth/register/${client_id}`,
    })
    assert.ok(String(client_secret).length >= 43 && String(registration_access_token).length >= 43)
    assert.equal(client_id_issued_at, Math.floor(stage.clock.now() / 1000))
  })

  test('needs no redirect for CIBA alone, and no secret where keys prove (DR-6, DR-8)', async (t) => {
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

  test('keeps of keys what keys have, and nothing that only takes memory', async (t) => {
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

  test('does not spare a client the code that users ask for, whatever it says, then or later (UC-2)', async (t) => {
    const cleo = { id: 'user-cleo', username: 'cleo', user_code: 'otter-1234' }
    const stage = await openStage(t, { config: { registration: { mode: 'open' }, users: [ana, cleo] } })
    const { register, send } = calls(stage)
    for (const backchannel_user_code_parameter of [undefined, false, true]) {
      const said = { ...poll, backchannel_user_code_parameter }
      const { body } = await register(said)
      assert.equal(body.backchannel_user_code_parameter, true, 'and it is told so')
      const token = String(body.registration_access_token)
      const replaced = await send(
        'PUT',
        String(body.registration_client_uri),
        { ...said, client_id: body.client_id },
        token,
      )
      assert.equal(replaced.body.backchannel_user_code_parameter, true)
      const credentials = basic(String(body.client_id), String(body.client_secret))
      const ring = (login_hint: string, more = {}) =>
        stage.post('/backchannel/authorize', { scope: 'openid', login_hint, ...more }, credentials)
      assert.equal((await ring('cleo')).body.error, 'missing_user_code')
      assert.equal((await ring('cleo', { user_code: 'otter-1234' })).status, 200)
      assert.equal((await ring('ana')).status, 200, 'who has no code is asked for none')
    }
    const signIn = { redirect_uris: ['https://app.example/callback'] }
    assert.ok(!('backchannel_user_code_parameter' in (await register(signIn)).body), 'it does not ring')
  })

  test('says nothing of codes where no user can have one', async (t) => {
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
      'a mode nobody knows (RG-6)',
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
      /grant_types must hold/,
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
      'a key with which verifying would be work',
      { ...poll, jwks: { keys: [{ kty: 'RSA', n: 'x'.repeat(512), e: 'x'.repeat(500) }] } },
      'invalid_client_metadata',
      /exponent of 32 bits/,
    ],
    [
      'more keys than anybody has',
      { ...poll, jwks: { keys: Array.from({ length: 101 }, () => ({ kty: 'EC' })) } },
      'invalid_client_metadata',
      /at most 100 keys/,
    ],
    [
      'a list so long that complaining about it would be work',
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
      'a public client that rings (EP-11)',
      { ...poll, token_endpoint_auth_method: 'none' },
      'invalid_client_metadata',
      /must not be none/,
    ],
    [
      'the power to answer for users',
      { token_endpoint_auth_method: 'client_secret_basic', backchannel_device_service: true, grant_types: [] },
      'invalid_client_metadata',
      /operator only/,
    ],
    [
      'the scope with which users decide',
      { redirect_uris: ['https://a.example/cb'], scope: 'openid ciba:decide' },
      'invalid_client_metadata',
      /operator only/,
    ],
    ['a scope that nobody knows', { ...poll, scope: 'openid zebra' }, 'invalid_client_metadata', /scope holds/],
    [
      'pairwise without jwks_uri (RG-8, RG-10)',
      { ...poll, subject_type: 'pairwise' },
      'invalid_client_metadata',
      /RG-8/,
    ],
    [
      'pairwise without use of its keys (RG-12)',
      { ...poll, subject_type: 'pairwise', jwks_uri: 'https://a.example/jwks' },
      'invalid_client_metadata',
      /RG-12/,
    ],
    [
      "somebody else's sector by its keys, with a redirect of one's own (RG-8)",
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
      "somebody else's sector by where it is told, with a redirect of one's own (RG-11)",
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
  test('is refused with a code, and the metadata it is about; nothing is kept (DR-3)', async (t) => {
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

  test('is nothing that anybody may send in another way', async (t) => {
    const { stage, send } = await opened(t)
    const form = await stage.post('/oauth/register', { client_name: 'x' })
    assert.deepEqual([form.status, form.body.error], [400, 'invalid_request'])
    for (const method of ['GET', 'PUT', 'DELETE']) assert.equal((await send(method, '/oauth/register')).status, 405)
    const large = await send('POST', '/oauth/register', { client_name: 'x'.repeat(70_000) })
    assert.equal(large.status, 413)
  })
})

describe('who may register', () => {
  test('nobody, unless it is switched on; and it is promised only then', async (t) => {
    const { stage, register } = await opened(t, {})
    assert.equal((await register(poll)).status, 404)
    assert.ok(!('registration_endpoint' in (await stage.get('/.well-known/openid-configuration')).body))
    const on = await opened(t)
    const { body } = await on.stage.get('/.well-known/openid-configuration')
    assert.equal(body.registration_endpoint, `${on.stage.url}/oauth/register`)
  })

  for (const engine of engines) {
    test(`${engine.name}: with tokens, who has one, as often as it says, until it ends`, async (t) => {
      const { stage, register } = await opened(t, { registration: { mode: 'token' } }, engine)
      const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
      t.after(() => database.close())
      const invitations = createInitialAccessStore(database)
      const now = stage.clock.now()
      await invitations.add('three-times', 3, now, now + 1000)
      await invitations.add('another', 1, now, now + 1000)

      for (const token of [undefined, 'made-up']) {
        const { status, body, headers } = await register(poll, token)
        assert.deepEqual([status, body.error], [401, 'invalid_token'])
        assert.match(String(headers.get('www-authenticate')), /^Bearer/)
      }
      assert.equal((await register({ ...poll, scope: 'zebra' }, 'three-times')).status, 400, 'costs nothing')
      const answers = await Promise.all(Array.from({ length: 8 }, () => register(poll, 'three-times')))
      assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, ...Array(5).fill(401)])
      stage.clock.advance(1001)
      assert.equal((await register(poll, 'another')).status, 401, 'its time is over')
    })

    test(`${engine.name}: where it is open, one address registers so many in an hour (DR-13)`, async (t) => {
      const { stage, register } = await opened(t, { registration: { mode: 'open', perHour: 3 } }, engine)
      const answers = await Promise.all(Array.from({ length: 8 }, () => register(poll)))
      assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, ...Array(5).fill(429)])
      const over = answers.find(({ status }) => status === 429)!
      assert.equal(over.headers.get('retry-after'), '3600')
      stage.clock.advance(3600_001)
      assert.equal((await register(poll)).status, 201)
    })

    test(`${engine.name}: another address is not had by saying so, nor within one's own IPv6 network`, async (t) => {
      const from = async (stage: Stage, address: string) => {
        const headers = { 'content-type': 'application/json', 'x-forwarded-for': address }
        const body = JSON.stringify(poll)
        return (await fetch(`${stage.url}/oauth/register`, { method: 'POST', headers, body })).status
      }
      const registration = { mode: 'open', perHour: 1 } as const
      const { stage: bare } = await opened(t, { registration }, engine)
      assert.deepEqual([await from(bare, '192.0.2.1'), await from(bare, '192.0.2.2')], [201, 429])
      const { stage: behind } = await opened(t, { registration, proxy: { trust: ['127.0.0.0/8', '::1'] } }, engine)
      const statuses = []
      for (const address of ['2001:db8:1:2::1', '2001:db8:1:2:ffff::2', '2001:db8:1:3::1', '192.0.2.1', '192.0.2.2']) {
        statuses.push(await from(behind, address))
      }
      assert.deepEqual(statuses, [201, 429, 201, 201, 201])
    })
  }
})

describe('a client looks after its registration (DR-11, DR-12)', () => {
  test('reads it, replaces it whole, and gets a new token for the next time', async (t) => {
    const { stage, register, send } = await opened(t)
    const { body: made } = await register({ ...poll, client_name: 'Trolley', contacts: ['a@b.example'] })
    const uri = String(made.registration_client_uri)
    const token = String(made.registration_access_token)

    const { status, body: seen } = await send('GET', uri, undefined, token)
    assert.deepEqual([status, seen.client_name, seen.client_id], [200, 'Trolley', made.client_id])
    assert.ok(!('client_secret' in seen))

    const replaced = await send('PUT', uri, { client_id: made.client_id, ...poll, client_name: 'Trolley 2' }, token)
    assert.equal(replaced.status, 200, replaced.text)
    assert.equal(replaced.body.client_name, 'Trolley 2')
    assert.ok(!('contacts' in replaced.body), 'what is not said again is gone')
    assert.notEqual(replaced.body.registration_access_token, token)
    assert.equal((await send('GET', uri, undefined, token)).status, 401, 'the old token')

    const credentials = basic(String(made.client_id), String(made.client_secret))
    const ring = await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, credentials)
    assert.equal(ring.status, 200, 'the secret has stayed')
  })

  test('two replacements at once: one of them stands', async (t) => {
    const { register, send } = await opened(t)
    const { body: made } = await register(poll)
    const change = (client_name: string) =>
      send(
        'PUT',
        String(made.registration_client_uri),
        { client_id: made.client_id, ...poll, client_name },
        String(made.registration_access_token),
      )
    const answers = await Promise.all(['a', 'b', 'c'].map(change))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 401, 401])
  })

  test('another method brings a secret, or takes it away', async (t) => {
    const { register, send } = await opened(t)
    const { publicJwk } = await newKey('one')
    const { body: made } = await register(poll)
    const keyed = {
      client_id: made.client_id,
      ...poll,
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [publicJwk] },
    }
    const { body: second } = await send(
      'PUT',
      String(made.registration_client_uri),
      keyed,
      String(made.registration_access_token),
    )
    assert.ok(!('client_secret' in second))
    const back = { client_id: made.client_id, ...poll }
    const { body: third } = await send(
      'PUT',
      String(made.registration_client_uri),
      back,
      String(second.registration_access_token),
    )
    assert.ok(third.client_secret && third.client_secret !== made.client_secret)
  })

  test('what it may not say is refused, and nothing is changed', async (t) => {
    const { register, send } = await opened(t)
    const { body: made } = await register({ ...poll, client_name: 'Trolley' })
    const uri = String(made.registration_client_uri)
    const token = String(made.registration_access_token)
    for (const more of [
      { client_id: 'another' },
      { client_id: undefined },
      { client_secret: 'made-up' },
      { registration_access_token: token },
      { registration_client_uri: uri },
      { client_id_issued_at: 1 },
      { client_secret_expires_at: 0 },
      { backchannel_device_service: true },
    ]) {
      const { status } = await send('PUT', uri, { client_id: made.client_id, ...poll, ...more }, token)
      assert.equal(status, 400, JSON.stringify(more))
    }
    const same = { client_id: made.client_id, ...poll, client_name: 'Trolley', client_secret: made.client_secret }
    assert.equal((await send('PUT', uri, same, token)).status, 200)
  })

  test('a wrong token and an unknown client are answered alike, and no other method is taken', async (t) => {
    const { stage, register, send } = await opened(t)
    const { body: made } = await register(poll)
    const { body: other } = await register(poll)
    const uri = String(made.registration_client_uri)
    const answers = await Promise.all([
      send('GET', uri),
      send('GET', uri, undefined, 'made-up'),
      send('GET', uri, undefined, String(other.registration_access_token)),
      send('GET', `${stage.url}/oauth/register/nobody`, undefined, String(made.registration_access_token)),
      send('GET', `${stage.url}/oauth/register/kiosk`, undefined, String(made.registration_access_token)),
      send('PUT', uri, { client_id: made.client_id, ...poll }, 'made-up'),
      send('DELETE', uri, undefined, 'made-up'),
    ])
    for (const { status, text } of answers) assert.deepEqual([status, text], [401, answers[0]!.text])
    assert.equal((await send('POST', uri, {}, String(made.registration_access_token))).status, 405)
  })

  for (const engine of engines) {
    test(`${engine.name}: and ends it, with its tokens, its requests, and what it was still to be told`, async (t) => {
      const { stage, register, send } = await opened(t, open, engine)
      const silent = await openNotificationEndpoint(t)
      silent.behaves(503)
      const { body: made } = await register({
        grant_types: [CIBA, 'refresh_token'],
        backchannel_token_delivery_mode: 'ping',
        backchannel_client_notification_endpoint: silent.url,
      })
      const credentials = basic(String(made.client_id), String(made.client_secret))
      const ring = async () => {
        stage.clock.advance(1)
        const asked = { scope: 'openid', login_hint: 'ana', client_notification_token: newNotificationToken() }
        return String((await stage.post('/backchannel/authorize', asked, credentials)).body.auth_req_id)
      }
      const first = await ring()
      await stage.decide(await stage.newestRequest(), 'approved')
      const form = { grant_type: CIBA, auth_req_id: first }
      const { body: tokens } = await stage.post('/oauth/token', form, credentials)
      const authorization = `Bearer ${tokens.access_token}`
      assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 200)
      await ring()
      const open_ = await stage.newestRequest()
      stage.clock.advance(10)

      const uri = String(made.registration_client_uri)
      assert.equal((await send('DELETE', uri, undefined, String(made.registration_access_token))).status, 204)
      assert.equal((await send('GET', uri, undefined, String(made.registration_access_token))).status, 401)
      assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 401)
      assert.equal((await stage.decide(open_, 'approved')).status, 410)
      stage.clock.advance(1000)
      await stage.doorbell.sweep()
      const told = silent.heard.length
      stage.clock.advance(600_000)
      await stage.doorbell.idle()
      assert.equal(silent.heard.length, told, 'nothing is sent any more')
    })
  }
})

describe('a registered client that an operator takes into the configuration', () => {
  for (const engine of engines) {
    test(`${engine.name}: is the operator's from then on: its own token changes and removes nothing`, async (t) => {
      const { stage, register, send } = await opened(t, open, engine)
      const { body } = await register(poll)
      const [uri, token] = [String(body.registration_client_uri), String(body.registration_access_token)]
      const adopted = pollClient(String(body.client_id), {
        client_secret: 'hush-hush',
        backchannel_require_passkey: true,
      })
      const config = castConfig(0, stage.database, {
        config: { ...open, issuer: stage.url, clients: [adopted] },
      })
      const loaded = await loadConfig({ env: {}, overrides: config })
      // A SQLite file is for one server; on Postgres the one that was there before may go on.
      if (engine.name === 'sqlite') await stage.doorbell.close()
      const node = await createDoorbell(loaded, { clock: stage.clock, log: createLog('silent') })
      closeAfter(t, () => node.close())
      if (engine.name === 'sqlite') await node.listen({ port: Number(new URL(stage.url).port) })
      assert.equal((await send('GET', uri, undefined, token)).status, 401)
      assert.equal((await send('PUT', uri, { ...poll, client_id: adopted.client_id }, token)).status, 401)
      assert.equal((await send('DELETE', uri, undefined, token)).status, 401)
    })
  }
})

describe('pairwise subjects (PW-1, RG-8 – RG-12)', () => {
  /** Key sets and lists of two parties, each on a host of its own. */
  async function parties(t: TestContext, keys: unknown[]) {
    const pages = new Map<string, unknown>([['/jwks', { keys }]])
    let fetched = 0
    const server = createServer((request, response) => {
      fetched++
      const page = pages.get(request.url!)
      response.writeHead(page === undefined ? 404 : 200).end(JSON.stringify(page))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.after(() => server.close())
    const { port } = server.address() as AddressInfo
    return { one: `http://127.0.0.1:${port}`, two: `http://localhost:${port}`, pages, fetched: () => fetched }
  }

  for (const engine of engines) {
    test(`${engine.name}: each sector knows Ana by another name, for good, and may hint with it`, async (t) => {
      const key = await newKey('one')
      const { one, two } = await parties(t, [key.publicJwk])
      const { stage, register } = await opened(t, open, engine)
      const client = async (jwks_uri: string) => {
        const { body, text } = await register({
          ...poll,
          subject_type: 'pairwise',
          jwks_uri,
          token_endpoint_auth_method: 'private_key_jwt',
        })
        assert.ok(body.client_id, text)
        return String(body.client_id)
      }
      const proof = async (id: string) => asserted(await assertionOf(stage, id, { key: key.privateKey }))
      const known = async (id: string, hint: Record<string, string> = { login_hint: 'ana' }) => {
        stage.clock.advance(1)
        const asked = { scope: 'openid offline_access', ...hint, ...(await proof(id)) }
        const { body: rung, text } = await stage.post('/backchannel/authorize', asked)
        assert.ok(rung.auth_req_id, text)
        await stage.decide(await stage.newestRequest(), 'approved')
        const form = { grant_type: CIBA, auth_req_id: String(rung.auth_req_id), ...(await proof(id)) }
        const { body: tokens } = await stage.post('/oauth/token', form)
        const claims = JSON.parse(Buffer.from(String(tokens.id_token).split('.')[1]!, 'base64url').toString())
        const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${tokens.access_token}` })
        assert.equal(userinfo.body.sub, claims.sub)
        return { sub: String(claims.sub), idToken: String(tokens.id_token), refreshToken: String(tokens.refresh_token) }
      }
      const [first, second, third] = [
        await client(`${one}/jwks`),
        await client(`${one}/jwks`),
        await client(`${two}/jwks`),
      ]
      const here = await known(first)
      assert.notEqual(here.sub, 'user-ana')
      assert.match(here.sub, /^[A-Za-z0-9_-]{43}$/)
      assert.equal((await known(second)).sub, here.sub, 'the same sector')
      assert.notEqual((await known(third)).sub, here.sub, 'another sector')
      await stage.restart()
      assert.equal(
        (await known(first, { id_token_hint: here.idToken })).sub,
        here.sub,
        'and the hint leads back to her',
      )

      const form = { grant_type: 'refresh_token', refresh_token: here.refreshToken, ...(await proof(first)) }
      const { body: fresh } = await stage.post('/oauth/token', form)
      assert.equal(JSON.parse(Buffer.from(String(fresh.id_token).split('.')[1]!, 'base64url').toString()).sub, here.sub)
    })
  }

  test('sector_identifier_uri has to list what the client uses (RG-9, DR-10), and is fetched with care', async (t) => {
    const key = await newKey('one')
    const { one, two, pages } = await parties(t, [key.publicJwk])
    const { stage, register } = await opened(t)
    const metadata = {
      ...poll,
      subject_type: 'pairwise',
      jwks_uri: `${one}/jwks`,
      sector_identifier_uri: `${two}/sector`,
      backchannel_authentication_request_signing_alg: 'ES256',
    }
    for (const list of [undefined, {}, 'x', [], [`${two}/jwks`]]) {
      if (list !== undefined) pages.set('/sector', list)
      const { status, body } = await register(metadata)
      assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], JSON.stringify(list))
      assert.match(String(body.error_description), /^sector_identifier_uri/)
      // An address that failed is left alone for a while.
      stage.clock.advance(30_000)
    }
    pages.set('/sector', ['https://another.example/cb', `${one}/jwks`])
    const { jwks_uri: _, ...unlisted } = { ...metadata, jwks: { keys: [key.publicJwk] } }
    assert.equal((await register(unlisted)).status, 400, 'RG-8: with keys of its own only, it belongs nowhere')
    assert.equal((await register(metadata)).status, 201)
    assert.equal((await register({ ...metadata, sector_identifier_uri: 'http://10.0.0.1/sector' })).status, 400)
  })

  test('nothing is fetched for an address that may register no more', async (t) => {
    const { one, pages, fetched } = await parties(t, [])
    pages.set('/sector', [])
    const { register } = await opened(t, { registration: { mode: 'open', perHour: 1 } })
    const metadata = { redirect_uris: ['https://a.example/cb'], sector_identifier_uri: `${one}/sector` }
    assert.equal((await register(metadata)).status, 400)
    assert.equal((await register(poll)).status, 201)
    assert.equal((await register(metadata)).status, 429)
    assert.equal(fetched(), 1)
  })

  test('a client that was let into a sector cannot have its tokens sent elsewhere (RG-9)', async (t) => {
    const { two, pages } = await parties(t, [])
    const { stage, register } = await opened(t)
    const listed = `${two}/told`
    pages.set('/sector', [listed])
    const push = { grant_types: [], backchannel_token_delivery_mode: 'push', subject_type: 'pairwise' }
    const settle = async (body: Record<string, unknown>, change: Record<string, string>) =>
      stage.post('/backchannel/clientconfig', change, basic(String(body.client_id), String(body.client_secret)))
    const endpoint = 'backchannel_client_notification_endpoint'
    for (const sector of [{ sector_identifier_uri: `${two}/sector` }, {}]) {
      const { body, text } = await register({ ...push, ...sector, [endpoint]: listed })
      assert.ok(body.client_id, text)
      const moved = await settle(body, { [endpoint]: 'http://127.0.0.1:9/told' })
      assert.deepEqual([moved.status, moved.body.error], [400, 'invalid_client_metadata'], moved.text)
      assert.equal((await settle(body, { [endpoint]: listed })).status, 200, 'what it is stays')
    }
  })
})

describe('PW-1, PW-2: a client does not get into the sector of somebody else', () => {
  const shop = 'https://shop.example'
  const pushed = {
    grant_types: [],
    backchannel_token_delivery_mode: 'push',
    subject_type: 'pairwise',
    backchannel_client_notification_endpoint: 'https://mine.example/n',
  }

  test('by signing users in elsewhere than its keys or its endpoint are', async (t) => {
    const { register } = await opened(t)
    const signsIn = { redirect_uris: ['https://mine.example/cb'], response_types: ['code'] }
    const rings = {
      ...pushed,
      backchannel_client_notification_endpoint: `${shop}/n`,
      grant_types: ['authorization_code'],
    }
    const { status, body } = await register({ ...rings, ...signsIn })
    assert.equal(status, 400)
    assert.match(String(body.error_description), /redirect_uris must all have the host of the sector/)
    const own = { ...rings, backchannel_client_notification_endpoint: 'https://mine.example/n' }
    assert.equal((await register({ ...own, ...signsIn })).status, 201)
  })

  test('by moving there while its requests are open', async (t) => {
    const { stage, register, send } = await opened(t)
    const { body } = await register(pushed)
    const credentials = basic(String(body.client_id), String(body.client_secret))
    for (const change of [
      { backchannel_client_notification_endpoint: `${shop}/n` },
      { backchannel_token_delivery_mode: 'ping' },
    ]) {
      const settings = await stage.post('/backchannel/clientconfig', change as Record<string, string>, credentials)
      assert.deepEqual([settings.status, settings.body.error], [400, 'invalid_client_metadata'])
    }
    const kept = { backchannel_client_notification_endpoint: 'https://mine.example/other' }
    assert.equal((await stage.post('/backchannel/clientconfig', kept, credentials)).status, 200)

    const replace = (said: object) =>
      send(
        'PUT',
        String(body.registration_client_uri),
        { client_id: body.client_id, ...said },
        String(body.registration_access_token),
      )
    const polls = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll', jwks_uri: `${shop}/keys` }
    for (const said of [
      { ...pushed, backchannel_client_notification_endpoint: `${shop}/n` },
      { ...polls, subject_type: 'pairwise', backchannel_authentication_request_signing_alg: 'ES256' },
    ]) {
      const { status, text } = await replace(said)
      assert.equal(status, 400, text)
      assert.match(text, /stays in its sector/)
    }
    assert.equal((await replace(pushed)).status, 200)
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
