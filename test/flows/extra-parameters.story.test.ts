/**
 * Parameters that an endpoint does not define have no effect: they change neither whose tokens are issued nor which
 * client gets them. Any caller can impersonate a public client. So a public client can neither send an authentication
 * request nor redeem one.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import { endpoints } from '../../src/routes.ts'
import { type CreationOptions, createAuthenticator } from '../support/authenticator.ts'
import { openBrowser } from '../support/browser.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf, codeFor } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { routesOf } from '../support/routes.ts'
import {
  type Answer,
  ana,
  ben,
  CIBA,
  credentials,
  openStage,
  type RingingClient,
  type Stage,
} from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { aboutBen, besideToken } from './about-ben.ts'

const modes: RingingClient[] = ['kiosk', 'northbank', 'till']

async function settledFor(as: RingingClient, stage: Stage, pushed: () => Record<string, unknown>) {
  const { body } = await stage.ring(as, aboutBen)
  assert.ok(body.auth_req_id, JSON.stringify(body))
  assert.deepEqual(await stage.waiting('ben'), [], 'Ben is not asked')
  await stage.decide(await stage.newestRequest('ana'), 'approved', aboutBen)
  await stage.doorbell.idle()
  if (as === 'till') return pushed()
  const redeeming = { ...aboutBen, login_hint: ben.email, grant_type: CIBA, auth_req_id: String(body.auth_req_id) }
  return (await stage.post('/oauth/token', redeeming, credentials[as])).body
}

for (const engine of engines) {
  describe(`extra parameters, on ${engine.name}`, () => {
    test('at every address of a flow, in each mode: the tokens are those of the user who was asked', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const stage = await openStage(t, { engine, northbank: endpoint.url, till: endpoint.url })
      for (const as of modes) {
        const tokens = await settledFor(as, stage, () => endpoint.heard.at(-1)!.body)
        const idToken = decodeJwt(String(tokens.id_token))
        assert.deepEqual([idToken.sub, idToken.aud, idToken.iss], [ana.id, as, stage.url], as)
        const authorization = `Bearer ${tokens.access_token}`
        assert.equal(
          (await stage.get(`/oauth/userinfo?${new URLSearchParams(aboutBen)}`, { authorization })).body.sub,
          ana.id,
        )
        const about = await stage.post(
          '/oauth/introspect',
          { ...aboutBen, token: String(tokens.access_token) },
          credentials[as],
        )
        assert.deepEqual([about.body.sub, about.body.client_id], [ana.id, as], as)
      }
    })

    test('at a refresh they change nothing either', async (t) => {
      const stage = await openStage(t, { engine })
      const { body } = await stage.ring('kiosk', { scope: 'openid offline_access' })
      await stage.decide(await stage.newestRequest(), 'approved')
      const first = (await stage.poll('kiosk', body.auth_req_id)).body
      const refreshing = { ...aboutBen, login_hint: ben.email, grant_type: 'refresh_token' }
      const form = { ...refreshing, refresh_token: String(first.refresh_token) }
      const refreshed = await stage.post('/oauth/token', form, credentials.kiosk)
      assert.equal(decodeJwt(String(refreshed.body.id_token)).sub, ana.id)
      const stolen = await stage.post('/oauth/token', form, credentials.northbank)
      assert.equal(stolen.body.error, 'invalid_grant')
    })

    test('a decision is about the request that is named, whichever other ids are sent with it', async (t) => {
      const stage = await openStage(t, { engine })
      await stage.ring('kiosk', { login_hint: ben.email })
      const bens = await stage.newestRequest('ben')
      await stage.ring('kiosk')
      const anas = await stage.newestRequest('ana')
      const foreign = await stage.decide(bens, 'approved', aboutBen)
      assert.equal(foreign.status, 404, "another user's request cannot be decided")
      assert.equal((await stage.decide(anas, 'denied', { ...aboutBen, other_request_id: bens })).status, 200)
      assert.equal((await stage.waiting('ben')).length, 1)
    })

    test('a public client can neither ask nor redeem, at any address, whichever client it claims to be', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const stage = await openStage(t, { engine, northbank: endpoint.url, till: endpoint.url })
      for (const as of modes) {
        const { body } = await stage.ring(as)
        const requestId = await stage.newestRequest()
        const redeeming = { grant_type: CIBA, auth_req_id: String(body.auth_req_id) }
        const asking = { scope: 'openid', login_hint: ana.email, client_notification_token: 'x'.repeat(43) }
        const tries: [string, Record<string, string>][] = [
          ['/backchannel/authorize', asking],
          ['/oauth/token', redeeming],
          ['/backchannel/authinfo', { login_hint: ana.email }],
          ['/backchannel/complete', { login_hint: ana.email, request_id: requestId, status: 'approved' }],
          ['/backchannel/clientconfig', { backchannel_token_delivery_mode: 'poll' }],
        ]
        const pretending = [{ client_id: 'phone-app' }, { client_id: as }, { client_id: as, client_secret: '' }, {}]
        const refuseAll = async () => {
          for (const [path, form] of tries) {
            for (const who of pretending) {
              const { status, body } = await stage.post(path, { ...form, ...who })
              assert.equal(status, 401, `${as}, ${path} as ${JSON.stringify(who)}: ${JSON.stringify(body)}`)
            }
            const { status } = await stage.post(path, { ...form, client_id: as }, 'Basic cGhvbmUtYXBwOg==')
            assert.equal(status, 401, `${as}, ${path} with an empty password`)
          }
        }
        await refuseAll()
        await stage.decide(requestId, 'approved')
        await stage.doorbell.idle()
        await refuseAll()
        const tokens = as === 'till' ? endpoint.heard.at(-1)!.body : (await stage.poll(as, body.auth_req_id)).body
        assert.equal(decodeJwt(String(tokens.id_token)).aud, as)
      }
    })
  })
}

/** How a body is parsed does not depend on the engine, so each way is tested on one of the two. */
function typesOn({ name }: Engine): string[] {
  const form = 'application/x-www-form-urlencoded'
  return name === 'sqlite' ? [form, 'application/json'] : [form]
}

/** Addresses at which a client authenticates itself. All other addresses of the device API need a token of the user. */
const addressesOfClients: string[] = [
  endpoints.backchannel,
  endpoints.clientconfig,
  endpoints.authinfo,
  endpoints.complete,
]

/** Addresses at which users manage their own data. These addresses need only the user's token. */
async function ownAddressesOf(stage: Stage, method: 'GET' | 'POST'): Promise<string[]> {
  const all = (await routesOf(stage)).filter(({ url }) => url.startsWith('/backchannel/'))
  const notAllowed = async (url: string) => (await fetch(stage.url + url, { method })).status === 405
  const own: string[] = []
  for (const url of new Set(all.filter((route) => route.method.includes(method)).map(({ url }) => url))) {
    if (!addressesOfClients.includes(url) && !(await notAllowed(url))) own.push(url)
  }
  return own
}

for (const engine of engines) {
  describe(`data of the token's user, on ${engine.name}`, () => {
    for (const type of typesOn(engine)) {
      test(`requests, history, approvals and blocks are those of the token's user (${type})`, async (t) => {
        const { stage, ana: anas, ben: bens } = await bothSignedIn(t, engine, type)
        const [hers, his] = [await approvedBy(stage, 'ana'), await approvedBy(stage, 'ben')]
        const ids = (entries: unknown) => (entries as { request_id: string }[]).map(({ request_id }) => request_id)
        assert.deepEqual(ids((await anas.get('/backchannel/authinfo')).body.requests), [hers.requestId])
        assert.deepEqual(ids((await anas.post('/backchannel/authinfo')).body.requests), [hers.requestId])
        const named = await anas.post('/backchannel/authinfo', { request_id: his.requestId })
        assert.deepEqual(named.body.requests, [])
        assert.deepEqual(ids((await anas.get('/backchannel/activity')).body.activity), [hers.requestId])

        const foreign = await anas.post('/backchannel/revoke', { request_id: his.requestId })
        assert.deepEqual([foreign.status, foreign.body.error], [404, 'not_found'])
        assert.equal((await anas.post('/backchannel/revoke', { request_id: hers.requestId })).body.revoked, true)
        assert.deepEqual([await worksAt(stage, hers.token), await worksAt(stage, his.token)], [false, true])

        await anas.post('/backchannel/block', { client_id: 'till', blocked: 'true' })
        await bens.post('/backchannel/block', { client_id: 'till', blocked: 'false' })
        assert.deepEqual(await rowsOf(stage, 'select user_id, client_id from blocked_clients'), [
          { user_id: ana.id, client_id: 'till' },
        ])
      })

      test(`passkeys and user codes are those of the token's user (${type})`, async (t) => {
        const { stage, ana: anas, ben: bens } = await bothSignedIn(t, engine, type)
        const creation = (await anas.post('/backchannel/passkeys/options')).body as unknown as CreationOptions
        assert.match(JSON.stringify(creation.user), /"name":"ana"/)
        const passkey = createAuthenticator(stage.url).create(creation)
        const added = await anas.post('/backchannel/passkeys', { passkey })
        assert.equal(added.status, 201, added.text)
        const ownersOf = (table: string) => rowsOf(stage, `select user_id from ${table}`)
        assert.deepEqual(await ownersOf('passkeys'), [{ user_id: ana.id }])
        assert.deepEqual((await bens.get('/backchannel/passkeys')).body.passkeys, [])
        assert.equal((await bens.post('/backchannel/passkeys/remove', { id: String(added.body.id) })).status, 404)
        await stage.ring('kiosk')
        const request_id = await stage.newestRequest()
        assert.equal((await bens.post('/backchannel/passkeys/confirm-options', { request_id })).status, 404)
        assert.equal((await anas.post('/backchannel/passkeys/confirm-options', { request_id })).status, 200)

        assert.equal((await anas.post('/backchannel/user-code', { user_code: 'heron-4711' })).body.set, true)
        assert.equal((await anas.get('/backchannel/user-code')).body.set, true)
        assert.equal((await bens.get('/backchannel/user-code')).body.set, false)
        await bens.post('/backchannel/user-code/remove')
        assert.equal((await anas.get('/backchannel/user-code')).body.set, true)
      })

      test(`sessions and subscriptions are those of the token's user (${type})`, async (t) => {
        const { stage, ana: anas, ben: bens } = await bothSignedIn(t, engine, type)
        const service = await openPushService(t)
        for (const by of [anas, bens]) {
          assert.equal((await by.post('/backchannel/sessions', { browser: 'Firefox' })).status, 201)
          const subscription = JSON.stringify(service.newBrowser().subscription)
          assert.equal((await by.post('/backchannel/push-subscriptions', { subscription })).status, 201)
          const { endpoint } = JSON.parse(subscription) as { endpoint: string }
          const other = by === anas ? bens : anas
          await other.post('/backchannel/push-subscriptions/remove', { endpoint })
          const claimed = await by.post('/backchannel/push-subscriptions/claim', { endpoint })
          assert.deepEqual(claimed.body, { subscribed: true, ended_another: false })
        }
        const owners = 'select user_id from push_subscriptions order by user_id'
        assert.deepEqual(await rowsOf(stage, owners), [{ user_id: ana.id }, { user_id: ben.id }])
        const listed = async (by: Bearer) =>
          ((await by.get('/backchannel/sessions')).body.sessions as { id: string }[]).map(({ id }) => id)
        const [[hers], [his]] = [await listed(anas), await listed(bens)]
        assert.ok(hers && his && hers !== his)
        assert.equal((await anas.post('/backchannel/sessions/end', { id: his })).status, 404)
        assert.equal((await anas.post('/backchannel/sessions/end', { everywhere: 'true' })).status, 200)
        assert.deepEqual(
          [(await anas.get('/backchannel/authinfo')).status, (await bens.get('/backchannel/authinfo')).status],
          [401, 200],
        )
      })
    }

    test('without a token of the user, no client gets access by naming one', async (t) => {
      const stage = await openStage(t, { engine })
      const naming = { ...besideToken, login_hint: ana.email, user: ana.id, user_id: ana.id, sub: ana.id }
      const meant = { request_id: 'x', client_id: 'till', blocked: 'true', user_code: '4711', everywhere: 'true' }
      const [read, changed] = [await ownAddressesOf(stage, 'GET'), await ownAddressesOf(stage, 'POST')]
      assert.ok(changed.length >= 13 && read.length >= 4, `${changed} ${read}`)
      for (const path of changed) {
        for (const who of [credentials.phoneService, credentials.kiosk, undefined]) {
          const { status } = await stage.post(path, { ...naming, ...meant }, who)
          assert.equal(status, 401, `POST ${path} as ${who}`)
        }
      }
      for (const path of [...read, endpoints.authinfo]) {
        for (const authorization of [credentials.phoneService, credentials.kiosk]) {
          const { status } = await stage.get(`${path}?${new URLSearchParams(naming)}`, { authorization })
          assert.equal(status, 401, `GET ${path}`)
        }
      }
    })

    test('a client revokes and introspects its own tokens, whichever other parameters it sends', async (t) => {
      const stage = await openStage(t, { engine })
      const hers = await approvedBy(stage, 'ana')
      const others = await codeFor(stage, ben).then(({ exchange }) => exchange())
      const foreign = String(others.body.access_token)
      const besides = { client: 'phone-app', azp: 'phone-app', aud: 'phone-app', sub: ben.id, user_id: ben.id }
      const look = (extra: object) =>
        stage.post('/oauth/introspect', { ...extra, token: hers.token }, credentials.northbank)
      const usual = (await look({})).body
      for (const extra of [besides, { ...besides, client_id: 'northbank' }]) {
        assert.deepEqual((await look(extra)).body, usual)
        await stage.post('/oauth/revoke', { ...extra, token: foreign }, credentials.kiosk)
      }
      const asAnother = { ...besides, client_id: 'phone-app' }
      assert.equal((await look(asAnother)).body.error, 'invalid_client')
      assert.equal((await stage.post('/oauth/revoke', { ...asAnother, token: foreign }, credentials.kiosk)).status, 401)
      assert.equal(await worksAt(stage, foreign), true)
      const bens = await approvedBy(stage, 'ben')
      assert.equal(
        (await stage.post('/oauth/revoke', { ...besides, token: hers.token }, credentials.kiosk)).status,
        200,
      )
      assert.deepEqual([await worksAt(stage, hers.token), await worksAt(stage, bens.token)], [false, true])
    })

    test('an authorization code belongs to the user who signed in, and to the client that asked', async (t) => {
      const stage = await openStage(t, { engine })
      const browser = openBrowser(stage.url)
      // In the second round, the browser has a session of Ana.
      for (const beside of [aboutBen, { ...aboutBen, login_hint: ben.email }]) {
        const { exchange } = await codeFor(stage, ana, browser, beside)
        const { body } = await exchange({ ...besideToken, scope: 'openid offline_access ciba:decide' })
        const { sub, aud, iss } = decodeJwt(String(body.id_token))
        assert.deepEqual([sub, aud, iss], [ana.id, 'phone-app', stage.url])
        assert.equal(body.scope, 'openid ciba:decide')
        const authorization = `Bearer ${body.access_token}`
        assert.equal((await stage.get('/backchannel/authinfo', { authorization })).status, 200)
      }
    })
  })
}

interface Bearer {
  get(path: string): Promise<Answer>
  post(path: string, form?: Record<string, string>): Promise<Answer>
}

/** Signs in Ana and Ben, each with a token. Every call of one of them also names the other one. */
async function bothSignedIn(t: TestContext, engine: Engine, type: string) {
  const stage = await openStage(t, { engine })
  const bearer = async (who: typeof ana | typeof ben, beside: Record<string, string>): Promise<Bearer> => {
    const authorization = await bearerOf(stage, who)
    return {
      get: (path) => stage.get(`${path}?${new URLSearchParams(beside)}`, { authorization }),
      async post(path, form = {}) {
        const fields = { ...beside, ...form }
        const body = type === 'application/json' ? JSON.stringify(fields) : String(new URLSearchParams(fields))
        const headers = { authorization, 'content-type': type }
        const response = await fetch(stage.url + path, { method: 'POST', headers, body })
        const text = await response.text()
        return { status: response.status, headers: response.headers, text, body: text ? JSON.parse(text) : {} }
      },
    }
  }
  const aboutAna = Object.fromEntries(
    Object.entries(besideToken).map(([name, value]) => [name, value.replaceAll('ben', 'ana')]),
  )
  const both = { ana: await bearer(ana, besideToken), ben: await bearer(ben, aboutAna) }
  // oidc-provider uses the real clock. By the clock of the stage, their sign-in would be in the future.
  stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
  return { stage, ...both }
}

/** A request of the kiosk that a user has approved, and the access token issued for it. */
async function approvedBy(stage: Stage, name: 'ana' | 'ben') {
  const { body } = await stage.ring('kiosk', { login_hint: name })
  const requestId = await stage.newestRequest(name)
  await stage.decide(requestId, 'approved', { login_hint: name })
  const { access_token } = (await stage.poll('kiosk', body.auth_req_id)).body
  return { requestId, token: String(access_token) }
}

/** Whether an access token is still active. */
async function worksAt(stage: Stage, token: string): Promise<boolean> {
  return (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status === 200
}
