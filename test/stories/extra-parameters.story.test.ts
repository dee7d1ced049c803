/**
 * Parameters that an endpoint does not ask for change nothing: neither whose tokens are issued nor who gets them. And a
 * public client, which anybody can pretend to be, can neither ask nor redeem.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt } from 'jose'
import { engines } from '../cast/engines.ts'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { ana, ben, CIBA, credentials, openStage, type RingingClient, type Stage } from '../cast/stage.ts'

const modes: RingingClient[] = ['kiosk', 'northbank', 'till']

/** What a caller might try in order to be somebody else, or to be given what is somebody else's. */
const aboutBen: Record<string, string> = {
  sub: ben.id,
  user: ben.id,
  user_id: ben.id,
  userId: ben.id,
  username: ben.username,
  account_id: ben.id,
  accountId: ben.id,
  subject: ben.id,
  requested_subject: ben.id,
  login: ben.email,
  email: ben.email,
  act: JSON.stringify({ sub: ben.id }),
  claims: JSON.stringify({ id_token: { sub: { value: ben.id } } }),
  aud: 'northbank',
  azp: 'northbank',
  iss: 'https://elsewhere.example',
  client: 'northbank',
  on_behalf_of: ben.id,
  impersonate: ben.id,
  __proto__: ben.id,
  constructor: ben.id,
}

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
  describe(`extra parameters on ${engine.name}`, () => {
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

    test('nor do they when tokens are refreshed', async (t) => {
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

    test('a decision is about the request that is named, whoever else is named beside it', async (t) => {
      const stage = await openStage(t, { engine })
      await stage.ring('kiosk', { login_hint: ben.email })
      const bens = await stage.newestRequest('ben')
      await stage.ring('kiosk')
      const anas = await stage.newestRequest('ana')
      const foreign = await stage.decide(bens, 'approved', aboutBen)
      assert.equal(foreign.status, 404, 'it is decided for Ana, whose request it is not')
      assert.equal((await stage.decide(anas, 'denied', { ...aboutBen, other_request_id: bens })).status, 200)
      assert.equal((await stage.waiting('ben')).length, 1)
    })

    test('a public client can neither ask nor redeem, at any address, whoever it says it is', async (t) => {
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
