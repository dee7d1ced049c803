/** How often a client may poll, and what happens when many clients poll at once (CIBA §10.1, §11). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as openid from 'openid-client'
import { engines } from '../support/engines.ts'
import { collect, playedBy } from '../support/foreign-client.ts'
import { CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'

for (const engine of engines) {
  describe(`the pause between polls, on ${engine.name}`, () => {
    test('the first poll may come at once; each early one adds five seconds, also after a restart (M40, M5, TE-1, TK-18)', async (t) => {
      const stage = await openStage(t, { engine })
      const { auth_req_id, interval } = (await stage.ring('kiosk')).body
      assert.equal(interval, 5)
      const poll = async () => (await stage.poll('kiosk', auth_req_id)).body.error

      assert.equal(await poll(), 'authorization_pending')
      stage.clock.advance(4_499)
      assert.equal(await poll(), 'slow_down') // now 10
      stage.clock.advance(8_999)
      assert.equal(await poll(), 'slow_down') // now 15
      stage.clock.advance(15_000)
      assert.equal(await poll(), 'authorization_pending')
      assert.equal(await intervalOf(stage), 15)

      await stage.restart()
      stage.clock.advance(13_499)
      assert.equal(await poll(), 'slow_down', 'the interval outlives a restart') // now 20
      stage.clock.advance(20_000)
      assert.equal(await poll(), 'authorization_pending')
    })

    for (const status of ['approved', 'denied'] as const) {
      test(`slow_down never hides a result: ${status} (M5, TK-15)`, async (t) => {
        const stage = await openStage(t, { engine })
        const { auth_req_id } = (await stage.ring('kiosk')).body
        for (let i = 0; i < 3; i++) await stage.poll('kiosk', auth_req_id)
        await stage.decide(await stage.newestRequest(), status)
        const { body } = await stage.poll('kiosk', auth_req_id)
        if (status === 'approved') assert.ok(body.access_token)
        else assert.equal(body.error, 'access_denied')
      })
    }

    test('of 20 early polls at once each is counted (M23, M41, M45)', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { longestInterval: 200 } } })
      const { auth_req_id } = (await stage.ring('kiosk')).body
      assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
      stage.clock.advance(1_000)
      const answers = await Promise.all(Array.from({ length: 20 }, () => stage.poll('kiosk', auth_req_id)))
      assert.deepEqual(new Set(answers.map(({ body }) => body.error)), new Set(['slow_down']))
      assert.equal(await intervalOf(stage), 5 + 20 * 5)
    })
  })

  describe(`a request is redeemed once, on ${engine.name}`, () => {
    for (const as of ['kiosk', 'northbank'] as const) {
      test(`of 40 polls by ${as} at once, one gets tokens, and they keep working (M4, M18, M19, M20, TK-14)`, async (t) => {
        const stage = await openStage(t, { engine })
        const response = (await stage.ring(as, { scope: 'openid offline_access' })).body
        await stage.decide(await stage.newestRequest(), 'approved')
        const polls = Array.from({ length: 40 }, () => stage.poll(as, response.auth_req_id))
        const answers = await Promise.all(polls)
        const won = answers.filter(({ status }) => status === 200)
        assert.equal(won.length, 1)
        const lost = answers.filter(({ status, body }) => status === 400 && body.error === 'invalid_grant')
        assert.equal(lost.length, 39)

        const client = await playedBy(stage, as)
        const tokens = won[0]!.body as unknown as { access_token: string; refresh_token: string }
        await assert.rejects(collect(client, response as never), { error: 'invalid_grant' })
        assert.equal((await openid.fetchUserInfo(client, tokens.access_token, 'user-ana')).sub, 'user-ana')
        assert.ok((await openid.refreshTokenGrant(client, tokens.refresh_token)).access_token)
        const made = await rowsOf(stage, 'select model from oidc_models where request_id is not null order by model')
        assert.deepEqual(
          made.map(({ model }) => model),
          ['AccessToken', 'Grant', 'RefreshToken'],
        )
      })
    }

    test('an approval that was not collected expires with the request; no token is made (M3)', async (t) => {
      const stage = await openStage(t, { engine })
      const { auth_req_id } = (await stage.ring('kiosk', { requested_expiry: '60' })).body
      await stage.decide(await stage.newestRequest(), 'approved')
      stage.clock.advance(60_000)
      assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'expired_token')
      await stage.doorbell.sweep()
      assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'expired_token')
      assert.equal((await countRows(stage)).oidc_models, 0)
      assert.equal((await stage.waiting())[0]!.status, 'expired')
    })

    test('an approval one millisecond before the deadline counts, one at the deadline is 410 (M21)', async (t) => {
      const stage = await openStage(t, { engine })
      const first = (await stage.ring('kiosk', { requested_expiry: '60' })).body.auth_req_id
      stage.clock.advance(59_999)
      assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
      assert.equal((await stage.poll('kiosk', first)).status, 200)

      const second = (await stage.ring('kiosk', { requested_expiry: '60' })).body.auth_req_id
      const requestId = await stage.newestRequest()
      stage.clock.advance(60_000)
      const late = await stage.decide(requestId, 'approved')
      assert.deepEqual([late.status, late.body.error, late.body.status], [410, 'expired', 'expired'])
      assert.equal((await stage.poll('kiosk', second)).body.error, 'expired_token')
    })

    test('a denial after the approval is a conflict, and of both at once one takes effect (M22, CN-5)', async (t) => {
      const stage = await openStage(t, { engine })
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const requestId = await stage.newestRequest()
      assert.equal((await stage.decide(requestId, 'approved')).status, 200)
      const late = await stage.decide(requestId, 'denied')
      assert.deepEqual([late.status, late.body.error, late.body.status], [409, 'already_decided', 'approved'])
      assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200)

      await stage.ring('kiosk')
      const contested = await stage.newestRequest()
      const words = ['approved', 'denied', 'approved', 'denied', 'approved', 'denied'] as const
      const answers = await Promise.all(words.map((word) => stage.decide(contested, word)))
      const stands = answers.find(({ status }) => status === 200)!.body.status
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409, 409, 409, 409, 409])
      for (const { body } of answers) assert.equal(body.status, stands)
      const history = await rowsOf(stage, 'select * from backchannel_auth_consent_history where request_id = $1', [
        contested,
      ])
      assert.equal(history.length, 1)
    })

    test("another client's auth_req_id gets the same answer as an unknown one, and nothing changes (M24, M25, TE-2, TE-9, TK-2)", async (t) => {
      const stage = await openStage(t, { engine })
      const { auth_req_id } = (await stage.ring('kiosk')).body
      await stage.poll('kiosk', auth_req_id)
      const row = () => rowsOf(stage, 'select * from backchannel_auth_requests')
      const pending = await row()
      const foreign = await stage.poll('northbank', auth_req_id)
      const unknown = await stage.poll('northbank', 'unknown')
      assert.deepEqual([foreign.status, foreign.text], [unknown.status, unknown.text])
      assert.equal(foreign.body.error, 'invalid_grant')
      assert.deepEqual(await row(), pending)

      await stage.decide(await stage.newestRequest(), 'approved')
      assert.equal((await stage.poll('northbank', auth_req_id)).text, unknown.text)
      const form = { grant_type: CIBA, auth_req_id: String(auth_req_id), client_id: 'kiosk' }
      assert.equal((await stage.post('/oauth/token', form, credentials.northbank)).status, 401)
      assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200)
      assert.equal((await stage.poll('northbank', auth_req_id)).text, unknown.text)
    })
  })
}

async function intervalOf(stage: Stage): Promise<unknown> {
  await stage.doorbell.idle()
  const [row] = await rowsOf(stage, 'select interval_seconds from backchannel_auth_requests')
  return row!.interval_seconds
}
