/**
 * The encrypted content of a row is damaged, or was encrypted with another secret. The server treats the row as
 * missing, and logs this once. All other calls work as usual.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createPushSubscriptionStore } from '../../src/authentication-device/channels/push-subscription-store.ts'
import { createPushSubscriptions } from '../../src/authentication-device/channels/push-subscriptions.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { withDatabase } from '../support/beside.ts'
import { openShop } from '../support/changing-client.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { callBacksOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'
import { calls } from './registration-calls.ts'

const later = { status: 503, headers: { 'retry-after': '60' } }
const minuteMs = 60_000

for (const engine of engines) {
  describe(`a row whose content cannot be decrypted, on ${engine.name}`, () => {
    test('a push of tokens, and its client polls now: invalid_grant, each time', async (t) => {
      const { shop, authReqId } = await pushedInVain(t, engine)
      await damage(shop.stage, 'notifications', "kind = 'push'")
      await shop.changesTo({ mode: 'poll' })
      for (let polls = 0; polls < 3; polls++) {
        shop.stage.clock.advance(6_000)
        const { status, body } = await shop.poll(authReqId)
        assert.deepEqual([status, body.error], [400, 'invalid_grant'])
      }
      assert.equal(reports(shop.stage, 'notifications/').length, 1)
    })

    test('a push: it is parked at its next attempt, and other pushes are sent', async (t) => {
      const { shop, endpoint } = await pushedInVain(t, engine)
      await damage(shop.stage, 'notifications', "kind = 'push'")
      endpoint.behaves(204)
      shop.stage.clock.advance(minuteMs + 1_000)
      await shop.stage.doorbell.idle()
      await shop.ring()
      await shop.stage.decide(await shop.stage.newestRequest(), 'approved')
      await shop.stage.doorbell.idle()
      assert.deepEqual(
        (await callBacksOf(shop.stage)).map(({ state, last_outcome }) => [state, last_outcome]),
        [
          ['parked', 'the content cannot be decrypted'],
          ['delivered', 'answered 204'],
        ],
      )
      assert.equal(reports(shop.stage, 'notifications/').length, 1)
    })

    test('a push that is given up: it is parked, and not claimed again and again', async (t) => {
      const { shop } = await pushedInVain(t, engine)
      await damage(shop.stage, 'notifications', "kind = 'push'")
      shop.stage.clock.advance(11 * minuteMs)
      await shop.stage.doorbell.idle()
      shop.stage.clock.advance(minuteMs)
      await shop.stage.doorbell.idle()
      const [message] = await callBacksOf(shop.stage)
      assert.deepEqual([message!.state, message!.last_outcome], ['parked', 'it expired before it could be sent'])
      assert.ok(shop.stage.logLines.every((line) => !line.includes('outbox.record_failed')))
    })

    test('the tokens of a held poll: invalid_grant, and they still work', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { longPoll: 20 } } })
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const held = stage.poll('kiosk', auth_req_id)
      await until(async () => (await stage.get('/metrics')).text.includes('doorbell_polls_held 1\n'))
      await stage.decide(await stage.newestRequest(), 'approved')
      const { access_token } = (await held).body
      await damage(stage, 'oidc_models', "model = 'HeldResponse'")
      for (let polls = 0; polls < 2; polls++) {
        assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'invalid_grant')
      }
      assert.equal((await stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })).status, 200)
      assert.equal(reports(stage, 'oidc_models/HeldResponse/').length, 1)
    })

    test('a token or its grant: the token is not valid; another one is', async (t) => {
      const stage = await openStage(t, { engine })
      for (const model of ['AccessToken', 'RefreshToken', 'Grant']) {
        const [damaged, intact] = [await tokensOf(stage), await tokensOf(stage)]
        await damage(stage, 'oidc_models', `model = '${model}' and request_id = '${damaged.requestId}'`)
        const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${damaged.access_token}` })
        assert.equal(userinfo.status, model === 'RefreshToken' ? 200 : 401, `${model}: ${userinfo.text}`)
        const refreshed = await refresh(stage, damaged.refresh_token)
        assert.equal(refreshed.status, model === 'AccessToken' ? 200 : 400, `${model}: ${refreshed.text}`)
        const introspected = await stage.post('/oauth/introspect', { token: damaged.access_token }, credentials.kiosk)
        assert.deepEqual([introspected.status, introspected.body.active], [200, model === 'RefreshToken'], model)
        assert.equal((await refresh(stage, intact.refresh_token)).status, 200)
        assert.equal(reports(stage, `oidc_models/${model}/`).length, 1)
      }
    })

    test('a session: its user signs in again', async (t) => {
      const stage = await openStage(t, { engine })
      const browser = openVisitor(stage.url)
      await browser.signIn(ana)
      await damage(stage, 'oidc_models', "model = 'Session'")
      for (const cookie of [...browser.jar.keys()].filter((name) => name.includes('doorbell_app'))) {
        browser.jar.delete(cookie)
      }
      const page = await browser.follow(await browser.get('/'))
      assert.match(page.text, /action="\/sign-in\//)
      assert.equal((await browser.signIn(ana)).status, 200)
    })

    test('the push subscription of a browser: the other browsers are notified', async (t) => {
      const service = await openPushService(t)
      const webPush = { subject: 'mailto:ops@id.example' }
      const stage = await openStage(t, { engine, config: { webPush } })
      const browsers = [service.newBrowser(), service.newBrowser()]
      await withDatabase(stage, async (database) => {
        const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
        const store = createPushSubscriptionStore(database)
        const subscriptions = createPushSubscriptions({ store, vault, clock: stage.clock })
        for (const { subscription } of browsers) await subscriptions.add(ana.id, subscription)
        const [first] = await store.listForUser(ana.id)
        await damage(stage, 'push_subscriptions', `id = '${first!.id}'`)
      })
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      assert.equal(browsers.flatMap(({ received }) => received).length, 1)
      assert.equal(reports(stage, 'push_subscriptions/').length, 1)
    })

    test('the secret of a client: its assertions are refused; a new registration gets a new secret', async (t) => {
      const registration = { mode: 'open', perHour: 100 } as const
      const stage = await openStage(t, { engine, config: { registration } })
      const { register, send } = calls(stage)
      const metadata = {
        grant_types: [CIBA],
        backchannel_token_delivery_mode: 'poll',
        token_endpoint_auth_method: 'client_secret_jwt',
      }
      const { body } = await register(metadata)
      await damage(stage, 'clients', `id = '${body.client_id}'`, 'secret_sealed')
      const uri = String(body.registration_client_uri)
      const changed = { ...metadata, client_id: body.client_id, client_name: 'Shop' }
      const answer = await send('PUT', uri, changed, String(body.registration_access_token))
      assert.equal(answer.status, 200, answer.text)
      assert.notEqual(answer.body.client_secret, undefined)
      assert.equal(reports(stage, 'clients/').length, 1)
    })
  })
}

/** Shop sends a request, Ana approves it, and the first push is answered with 503. */
async function pushedInVain(t: TestContext, engine: Engine) {
  const endpoint = await openNotificationEndpoint(t)
  const shop = await openShop(t, { engine, way: 'clientconfig', first: { mode: 'push', url: endpoint.url } })
  endpoint.behaves(later)
  const { authReqId, requestId } = await shop.ring({ requested_expiry: '300' })
  await shop.stage.decide(requestId, 'approved')
  await endpoint.hears(1)
  await shop.stage.doorbell.idle()
  return { shop, endpoint, authReqId }
}

async function tokensOf(stage: Stage) {
  stage.clock.advance(1)
  const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
  const requestId = await stage.newestRequest()
  await stage.decide(requestId, 'approved')
  const { access_token, refresh_token } = (await stage.poll('kiosk', auth_req_id)).body
  return { requestId, access_token: String(access_token), refresh_token: String(refresh_token) }
}

const refresh = (stage: Stage, refresh_token: string) =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token }, credentials.kiosk)

/** Replaces the encrypted content of rows by a value of another secret. */
async function damage(stage: Stage, table: string, where: string, column = 'sealed'): Promise<void> {
  const other = createVault(newSecret()).seal('{}', 'elsewhere')
  await withDatabase(stage, async (database) => {
    const sql = `update ${table} set ${column} = $1 where ${where} returning 1 as one`
    assert.ok((await database.step({ sql, values: [other] })).length > 0, where)
  })
}

function reports(stage: Stage, place: string): unknown[] {
  return stage.logLines
    .map((line) => JSON.parse(line) as { event?: string; place?: string })
    .filter((line) => line.event === 'storage.unreadable' && line.place?.startsWith(place))
}
