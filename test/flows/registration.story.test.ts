/** Clients that register themselves (RFC 7591, RFC 7592), from their first call to tokens. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createInitialAccessStore } from '../../src/client/registration/initial-access-token-store.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { newKey, pollClient } from '../support/assertions.ts'
import { openDocumentServer } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { basic, CIBA, castConfig, newNotificationToken, type Stage } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { open, opened, poll } from './registration-calls.ts'

describe('from registration to tokens (M35)', () => {
  for (const engine of engines) {
    for (const mode of ['poll', 'ping', 'push'] as const) {
      test(`a client that registers for ${mode} sends a request and gets its tokens, on ${engine.name}`, async (t) => {
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
        const { body: response } = await stage.post(
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
        if (mode === 'ping') assert.equal((await hears.hears(1))[0]!.body.auth_req_id, response.auth_req_id)
        const form = { grant_type: CIBA, auth_req_id: String(response.auth_req_id) }
        assert.equal((await stage.post('/oauth/token', form, credentials)).status, 200)
      })
    }
  }
})

describe('who may register', () => {
  test('no client, unless registration is switched on; only then the metadata announce it', async (t) => {
    const { stage, register } = await opened(t, {})
    assert.equal((await register(poll)).status, 404)
    assert.ok(!('registration_endpoint' in (await stage.get('/.well-known/openid-configuration')).body))
    const on = await opened(t)
    const { body } = await on.stage.get('/.well-known/openid-configuration')
    assert.equal(body.registration_endpoint, `${on.stage.url}/oauth/register`)
  })

  for (const engine of engines) {
    test(`with initial access tokens: a client that has one, as often as the token allows, until it expires, on ${engine.name}`, async (t) => {
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

    test(`with open registration: a limited number for one address in an hour, on ${engine.name} (DR-13)`, async (t) => {
      const { stage, register } = await opened(t, { registration: { mode: 'open', perHour: 3 } }, engine)
      const answers = await Promise.all(Array.from({ length: 8 }, () => register(poll)))
      assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, ...Array(5).fill(429)])
      const over = answers.find(({ status }) => status === 429)!
      assert.equal(over.headers.get('retry-after'), '3600')
      stage.clock.advance(3600_001)
      assert.equal((await register(poll)).status, 201)
    })

    test(`an invented address header, or another address within the same IPv6 network, does not raise the limit, on ${engine.name}`, async (t) => {
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

describe('a client manages its registration (DR-11, DR-12)', () => {
  test('reads it, replaces it as a whole, and gets a new token for the next time', async (t) => {
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
    assert.ok(!('contacts' in replaced.body), 'a member that is left out is removed')
    assert.notEqual(replaced.body.registration_access_token, token)
    assert.equal((await send('GET', uri, undefined, token)).status, 401, 'the old token')

    const credentials = basic(String(made.client_id), String(made.client_secret))
    const response = await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, credentials)
    assert.equal(response.status, 200, 'the secret has stayed')
  })

  test('of two replacements at once one takes effect', async (t) => {
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

  test('another authentication method adds or removes a secret', async (t) => {
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

  test('a forbidden value is refused, and nothing is changed', async (t) => {
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

  test('a wrong token and an unknown client get the same answer, and other methods are refused', async (t) => {
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
    test(`at most sixty times in an hour, without further fetches beyond that, on ${engine.name}`, async (t) => {
      const { stage, register, send } = await opened(t, { registration: { mode: 'open', perHour: 100 } }, engine)
      const replace = async (made: Record<string, unknown>, more: object = {}) =>
        send(
          'PUT',
          String(made.registration_client_uri),
          { client_id: made.client_id, ...poll, ...more },
          String(made.registration_access_token),
        )
      let { body: made } = await register(poll)
      const { body: other } = await register(poll)
      for (let time = 0; time < 60; time++) made = (await replace(made)).body
      const list = await openDocumentServer(t)
      const over = await replace(made, { sector_identifier_uri: list.byAddress })
      assert.deepEqual([over.status, over.headers.get('retry-after')], [429, '3600'])
      assert.equal(list.asked(), 0)
      assert.equal((await replace(other)).status, 200, 'another client')
      stage.clock.advance(3600_001)
      assert.equal((await replace(made)).status, 200)
    })

    test(`and ends it, with its tokens, its requests and its pending notifications, on ${engine.name}`, async (t) => {
      const { stage, register, send } = await opened(t, open, engine)
      const silent = await openNotificationEndpoint(t)
      silent.behaves(503)
      const { body: made } = await register({
        grant_types: [CIBA, 'refresh_token'],
        backchannel_token_delivery_mode: 'ping',
        backchannel_client_notification_endpoint: silent.url,
      })
      const credentials = basic(String(made.client_id), String(made.client_secret))
      const sendRequest = async () => {
        stage.clock.advance(1)
        const asked = { scope: 'openid', login_hint: 'ana', client_notification_token: newNotificationToken() }
        return String((await stage.post('/backchannel/authorize', asked, credentials)).body.auth_req_id)
      }
      const first = await sendRequest()
      await stage.decide(await stage.newestRequest(), 'approved')
      const form = { grant_type: CIBA, auth_req_id: first }
      const { body: tokens } = await stage.post('/oauth/token', form, credentials)
      const authorization = `Bearer ${tokens.access_token}`
      assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 200)
      await sendRequest()
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

describe('a registered client that an operator adds to the configuration', () => {
  for (const engine of engines) {
    test(`belongs to the operator from then on: its own token changes and removes nothing, on ${engine.name}`, async (t) => {
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
      // Only one server may use a SQLite file. On Postgres, the earlier server may keep running.
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
