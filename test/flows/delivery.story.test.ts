/** Poll, ping and push bring the result to the client, on both engines, with independent client libraries (M53). */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { createRemoteJWKSet, decodeJwt, type JWTPayload, jwtVerify } from 'jose'
import * as openid from 'openid-client'
import { engines } from '../support/engines.ts'
import { type Acknowledgement, collect, playedBy, refusalOf } from '../support/foreign-client.ts'
import { type Heard, type NotificationEndpoint, openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { newNotificationToken, openStage, type RingingClient, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const AUTH_REQ_ID = 'urn:openid:params:jwt:claim:auth_req_id'
const RT_HASH = 'urn:openid:params:jwt:claim:rt_hash'

for (const engine of engines) {
  describe(`the result reaches the client, on ${engine.name}`, () => {
    for (const as of ['kiosk', 'northbank'] as const) {
      test(`${as}: tokens once; refresh, userinfo, introspection and revocation accept them (TK-9, TK-11, TK-12)`, async (t) => {
        const { stage } = await openStageWithEndpoints(t, { engine })
        const client = await playedBy(stage, as)
        const response = await sendRequest(client, as, { scope: 'openid email offline_access' })
        assert.deepEqual([response.expires_in, response.interval], [600, 5])
        assert.match(response.auth_req_id, /^[A-Za-z0-9_-]{43}$/, 'AK-2, AK-3')

        const authTime = Math.floor(stage.clock.now() / 1000) - 30
        const how = { acr: 'urn:bank:strong', amr: 'face hwk', auth_time: String(authTime) }
        assert.equal((await stage.decide(await stage.newestRequest(), 'approved', how)).status, 200)

        const tokens = await collect(client, response)
        const claims = tokens.claims()!
        assert.equal(claims.sub, 'user-ana')
        // The ID token says how and when the user was authenticated. It contains neither the claims of a push nor
        // claims by scope (M13, M43).
        assert.deepEqual([claims.acr, claims.amr, claims.auth_time], ['urn:bank:strong', ['face', 'hwk'], authTime])
        for (const absent of ['at_hash', AUTH_REQ_ID, RT_HASH, 'email', 'nonce']) assert.ok(!(absent in claims), absent)
        assert.deepEqual(await refusalOf(collect(client, response)), { error: 'invalid_grant', status: 400 })
        await refreshLookUpAndRevoke(client, tokens)
      })

      test(`${as} gets a denial, and the same plain 400 when it polls again (M5, TE-8, AE-1)`, async (t) => {
        const { stage } = await openStageWithEndpoints(t, { engine })
        const client = await playedBy(stage, as)
        const response = await sendRequest(client, as)
        await stage.decide(await stage.newestRequest(), 'denied')
        assert.deepEqual(await refusalOf(collect(client, response)), { error: 'access_denied', status: 400 })
        assert.deepEqual(await refusalOf(collect(client, response)), { error: 'access_denied', status: 400 })
      })

      test(`${as} polls at the deadline and gets expired_token, before or after the sweep (M14, M42)`, async (t) => {
        const { stage, northbank } = await openStageWithEndpoints(t, { engine })
        const client = await playedBy(stage, as)
        const response = await sendRequest(client, as, { requested_expiry: '60' })
        assert.equal(response.expires_in, 60)
        stage.clock.advance(60_000)
        assert.deepEqual(await refusalOf(collect(client, response)), { error: 'expired_token', status: 400 })
        await stage.doorbell.sweep()
        await stage.doorbell.idle()
        assert.deepEqual(await refusalOf(collect(client, response)), { error: 'expired_token', status: 400 })
        assert.equal(northbank.heard.length, 0, 'an expiry causes no ping (PI-2)')
      })
    }

    for (const status of ['approved', 'denied'] as const) {
      test(`Northbank is pinged when Ana has ${status} (M38, PI-1, PI-3, PI-10, NE-2)`, async (t) => {
        const { stage, northbank } = await openStageWithEndpoints(t, { engine })
        const client = await playedBy(stage, 'northbank')
        const token = newNotificationToken()
        const response = await sendRequest(client, 'northbank', { client_notification_token: token })
        await stage.decide(await stage.newestRequest(), status)
        const [ping] = await northbank.hears(1)
        assertCallBack(ping!, token)
        assert.deepEqual(ping!.body, { auth_req_id: response.auth_req_id })
        const collected = collect(client, response)
        if (status === 'approved') assert.equal((await collected).claims()!.sub, 'user-ana')
        else assert.equal((await refusalOf(collected)).error, 'access_denied')
        await stage.doorbell.idle()
        assert.equal(northbank.heard.length, 1)
      })
    }

    test('Till is pushed tokens that an independent library verifies (M34, PU-1, PU-3, PU-4)', async (t) => {
      const { stage, till } = await openStageWithEndpoints(t, { engine })
      const client = await playedBy(stage, 'till')
      const token = newNotificationToken()
      const parameters = { client_notification_token: token, scope: 'openid offline_access', acr_values: 'strong' }
      const response = await sendRequest(client, 'till', parameters)
      assert.ok(!('interval' in response), 'AK-4')
      const authTime = Math.floor(stage.clock.now() / 1000) - 5
      await stage.decide(await stage.newestRequest(), 'approved', { auth_time: String(authTime), acr: 'strong' })

      const [push] = await till.hears(1)
      assertCallBack(push!, token)
      const body = push!.body as Record<string, string>
      const said = ['access_token', 'auth_req_id', 'expires_in', 'id_token', 'refresh_token', 'scope', 'token_type']
      assert.deepEqual(Object.keys(body).sort(), said)
      assert.equal(body.auth_req_id, response.auth_req_id)
      const claims = await verify(stage, body.id_token!, 'till')
      assert.equal(claims[AUTH_REQ_ID], response.auth_req_id)
      assert.equal(claims.at_hash, leftHalf(body.access_token!))
      assert.equal(claims[RT_HASH], leftHalf(body.refresh_token!))
      assert.deepEqual([claims.auth_time, claims.acr], [authTime, 'strong'])
      await refreshLookUpAndRevoke(client, body as never)
    })

    test('a push without a refresh token has no hash of one (PU-4)', async (t) => {
      const { stage, till } = await openStageWithEndpoints(t, { engine })
      await stage.ring('till')
      await stage.decide(await stage.newestRequest(), 'approved')
      const [push] = await till.hears(1)
      assert.ok(!('refresh_token' in push!.body))
      const claims = await verify(stage, String(push!.body.id_token), 'till')
      assert.ok(!(RT_HASH in claims))
      assert.ok('at_hash' in claims)
    })

    test('Till is pushed access_denied (PU-2, PE-1)', async (t) => {
      const { stage, till } = await openStageWithEndpoints(t, { engine })
      const token = newNotificationToken()
      const response = await stage.ring('till', { client_notification_token: token })
      await stage.decide(await stage.newestRequest(), 'denied')
      const [push] = await till.hears(1)
      assertCallBack(push!, token)
      assert.deepEqual(pushError(push!), ['access_denied', response.body.auth_req_id])
    })

    test('the sweep pushes expired_token to Till, without any poll (M14)', async (t) => {
      const { stage, till } = await openStageWithEndpoints(t, { engine })
      const response = await stage.ring('till', { requested_expiry: '30' })
      stage.clock.advance(30_000)
      // The worker may sweep by itself before this call.
      await stage.doorbell.sweep()
      const [push] = await till.hears(1)
      assert.deepEqual(pushError(push!), ['expired_token', response.body.auth_req_id])
      const [history] = await rowsOf(stage, 'select outcome, decided_by from backchannel_auth_consent_history')
      assert.deepEqual(history, { outcome: 'expired', decided_by: 'clock' })
      await stage.doorbell.idle()
      assert.equal(till.heard.length, 1)
    })

    test('Till may not poll, before or after the decision (TE-4)', async (t) => {
      const { stage, till } = await openStageWithEndpoints(t, { engine })
      const { auth_req_id } = (await stage.ring('till')).body
      assert.deepEqual(outcome(await stage.poll('till', auth_req_id)), [400, 'unauthorized_client'])
      await stage.decide(await stage.newestRequest(), 'approved')
      await till.hears(1)
      assert.deepEqual(outcome(await stage.poll('till', auth_req_id)), [400, 'unauthorized_client'])
    })
  })
}

describe('tokens follow the request and the client', () => {
  for (const alg of ['ES256', 'RS256', 'PS256'] as const) {
    test(`the hashes in a push follow the client's algorithm ${alg} (M13)`, async (t) => {
      const shop = {
        client_id: 'shop',
        client_secret: newNotificationToken(),
        backchannel_token_delivery_mode: 'push',
        id_token_signed_response_alg: alg,
      } as const
      const endpoint = await openNotificationEndpoint(t)
      const clients = [{ ...shop, backchannel_client_notification_endpoint: endpoint.url }]
      const stage = await openStage(t, { config: { clients } })
      const form = { scope: 'openid', login_hint: 'ana', client_notification_token: newNotificationToken() }
      const credentials = { client_id: 'shop', client_secret: shop.client_secret }
      const basic = Buffer.from(Object.values(credentials).join(':')).toString('base64')
      assert.equal((await stage.post('/backchannel/authorize', form, `Basic ${basic}`)).status, 200)
      await stage.decide(await stage.newestRequest(), 'approved')
      const [push] = await endpoint.hears(1)
      const claims = await verify(stage, String(push!.body.id_token), 'shop', alg)
      assert.equal(claims.at_hash, leftHalf(String(push!.body.access_token)))
    })
  }

  test('a refresh token is issued for offline_access only, and scope never exceeds what was requested', async (t) => {
    const stage = await openStage(t)
    const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid email' })).body
    await stage.decide(await stage.newestRequest(), 'approved')
    const { body, headers } = await stage.poll('kiosk', auth_req_id)
    assert.deepEqual(Object.keys(body).sort(), ['access_token', 'expires_in', 'id_token', 'scope', 'token_type'])
    assert.equal(body.scope, 'openid email')
    assert.equal(headers.get('cache-control'), 'no-store', 'TK-11')
    const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${body.access_token}` })
    assert.deepEqual(userinfo.body, { sub: 'user-ana', email: 'ana@example.com' })
  })

  test('the acknowledgement comes at once, and expires_in is the deadline that is enforced (OV-2, M44)', async (t) => {
    const stage = await openStage(t)
    const { auth_req_id, expires_in } = (await stage.ring('kiosk', { requested_expiry: '90' })).body
    stage.clock.advance(Number(expires_in) * 1000 - 1)
    assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
    stage.clock.advance(1)
    assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'expired_token')
  })
})

async function openStageWithEndpoints(t: Parameters<typeof openStage>[0], options: Parameters<typeof openStage>[1]) {
  const northbank = await openNotificationEndpoint(t)
  const till: NotificationEndpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, { ...options, northbank: northbank.url, till: till.url })
  return { stage, northbank, till }
}

function sendRequest(
  client: openid.Configuration,
  as: RingingClient,
  parameters: Record<string, string> = {},
): Promise<Acknowledgement> {
  return openid.initiateBackchannelAuthentication(client, {
    scope: 'openid',
    login_hint: 'ana@example.com',
    ...(as !== 'kiosk' && { client_notification_token: newNotificationToken() }),
    ...parameters,
  })
}

function assertCallBack(heard: Heard, token: string) {
  assert.equal(heard.method, 'POST')
  assert.equal(heard.authorization, `Bearer ${token}`)
  assert.match(String(heard.contentType), /^application\/json\b/)
}

function pushError({ body }: Heard) {
  assert.deepEqual(Object.keys(body).sort(), ['auth_req_id', 'error', 'error_description'])
  assert.match(String(body.error_description), /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/)
  return [body.error, body.auth_req_id]
}

const outcome = ({ status, body }: { status: number; body: Record<string, unknown> }) => [status, body.error]

async function verify(stage: Stage, idToken: string, audience: string, alg = 'ES256'): Promise<JWTPayload> {
  const keys = createRemoteJWKSet(new URL(`${stage.url}/oauth/jwks`))
  return (await jwtVerify(idToken, keys, { issuer: stage.url, audience, algorithms: [alg] })).payload
}

function leftHalf(token: string): string {
  return createHash('sha256').update(token).digest().subarray(0, 16).toString('base64url')
}

async function refreshLookUpAndRevoke(client: openid.Configuration, tokens: openid.TokenEndpointResponse) {
  const before = decodeJwt(tokens.id_token!)
  assert.equal((await openid.fetchUserInfo(client, tokens.access_token, 'user-ana')).sub, 'user-ana')
  const seen = await openid.tokenIntrospection(client, tokens.access_token)
  assert.deepEqual([seen.active, seen.client_id, seen.sub], [true, before.aud, 'user-ana'])

  const refreshed = await openid.refreshTokenGrant(client, tokens.refresh_token!)
  const { auth_time, acr, amr, sub } = refreshed.claims()!
  assert.deepEqual([auth_time, acr, amr, sub], [before.auth_time, before.acr, before.amr, before.sub], 'RT-3')
  for (const absent of [AUTH_REQ_ID, RT_HASH]) assert.ok(!(absent in refreshed.claims()!), absent)

  await openid.tokenRevocation(client, tokens.refresh_token!)
  assert.equal((await refusalOf(openid.refreshTokenGrant(client, tokens.refresh_token!))).error, 'invalid_grant')
  assert.equal((await openid.tokenIntrospection(client, refreshed.access_token)).active, false)
}
