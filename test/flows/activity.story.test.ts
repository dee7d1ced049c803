/** Ana reads her history, revokes an approval, and blocks a client (CD-14). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ben, credentials, openStage, type Stage } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

type Entry = Record<string, unknown>

for (const engine of engines) {
  describe(`the history of Ana's decisions, on ${engine.name}`, () => {
    test('is listed newest first, with what she was shown, and without the requests of others', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      assert.deepEqual(await activity(stage, bearer), [])
      const approved = await sendRequest(stage, { scope: 'openid email' })
      await stage.decide(approved.requestId, 'approved')
      const decidedAt = Math.floor(stage.clock.now() / 1000)
      stage.clock.advance(1_000)
      const reported = await sendRequest(stage, { binding_message: 'Transfer 900' })
      await stage.decide(reported.requestId, 'denied', { report: 'true' })
      // A report blocks the client (CD-5); Ana unblocks it.
      await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'false' }, bearer)
      await sendRequest(stage, { requested_expiry: '5' })
      stage.clock.advance(5_000)
      await stage.doorbell.sweep()

      const entries = await activity(stage, bearer)
      assert.deepEqual(
        entries.map(({ outcome, reported, in_use }) => [outcome, reported, in_use]),
        [
          ['expired', false, false],
          ['denied', true, false],
          ['approved', false, true],
        ],
      )
      assert.equal(entries[1]!.binding_message, 'Transfer 900')
      assert.deepEqual(entries[2], {
        request_id: approved.requestId,
        outcome: 'approved',
        reported: false,
        decided_at: decidedAt,
        scope: 'openid email',
        binding_message: 'Coffee 4.20',
        client: { client_id: 'kiosk', client_name: 'Kiosk' },
        in_use: true,
        client_blocked: false,
      })
      assert.deepEqual(await activity(stage, await bearerOf(stage, ben)), [])
    })

    test('an approval is in use until its last token expires, including refreshed tokens', async (t) => {
      const stage = await openStage(t, { engine, config: { tokens: { accessTtl: 600, refreshTtl: 3600 } } })
      const { requestId, authReqId } = await sendRequest(stage, { scope: 'openid offline_access' })
      await stage.decide(requestId, 'approved')
      assert.equal(await isInUse(stage), true, 'it can be collected')
      const { refresh_token } = (await stage.poll('kiosk', authReqId)).body
      assert.equal(await isInUse(stage), true)

      stage.clock.advance(55 * 60_000)
      const { access_token } = (await refresh(stage, refresh_token)).body
      stage.clock.advance(6 * 60_000)
      // The server removes expired tokens once a minute. In the end, none of the first tokens is stored.
      const firstTokens = "select id_hash from oidc_models where model = 'RefreshToken'"
      await until(async () => {
        stage.clock.advance(1_000)
        return (await rowsOf(stage, firstTokens)).length === 0
      })
      assert.equal(await isInUse(stage), true)
      const userinfo = () => stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })
      assert.equal((await userinfo()).status, 200)
      assert.equal((await revoke(stage, requestId, await bearerOf(stage))).body.revoked, true)
      assert.equal((await userinfo()).status, 401)
      assert.equal(await isInUse(stage), false)
    })

    test('an approval is no longer in use when its only token has expired', async (t) => {
      const stage = await openStage(t, { engine, config: { tokens: { accessTtl: 60 } } })
      const { requestId, authReqId } = await sendRequest(stage)
      await stage.decide(requestId, 'approved')
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
      assert.equal(await isInUse(stage), true)
      stage.clock.advance(60_000)
      assert.equal(await isInUse(stage), false)
    })
  })

  describe(`an approval that Ana revokes, on ${engine.name}`, () => {
    test('invalidates its access tokens, refresh tokens and refreshed tokens; other approvals stay', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      const collect = async () => {
        const { requestId, authReqId } = await sendRequest(stage, { scope: 'openid offline_access' })
        await stage.decide(requestId, 'approved')
        const { body } = await stage.poll('kiosk', authReqId)
        return { requestId, body, again: (await refresh(stage, body.refresh_token)).body }
      }
      const taken = await collect()
      const other = await collect()
      const userinfo = async (token: unknown) =>
        (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status
      assert.deepEqual([await userinfo(taken.body.access_token), await userinfo(taken.again.access_token)], [200, 200])

      const revoked = await revoke(stage, taken.requestId, bearer)
      assert.deepEqual([revoked.status, revoked.body], [200, { request_id: taken.requestId, revoked: true }])
      assert.equal(revoked.headers.get('cache-control'), 'no-store')
      for (const { access_token, refresh_token } of [taken.body, taken.again]) {
        assert.equal(await userinfo(access_token), 401)
        assert.equal((await refresh(stage, refresh_token)).body.error, 'invalid_grant')
        const looked = await stage.post('/oauth/introspect', { token: String(access_token) }, credentials.kiosk)
        assert.equal(looked.body.active, false)
      }
      const [newest, oldest] = await activity(stage, bearer)
      assert.deepEqual([newest!.in_use, oldest!.in_use], [true, false])
      assert.equal(await userinfo(other.again.access_token), 200)
      assert.equal((await refresh(stage, other.again.refresh_token)).status, 200)
      assert.equal((await revoke(stage, taken.requestId, bearer)).body.revoked, false, 'there was nothing left')
    })

    test('is denied from then on if its tokens were not collected yet', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      const { requestId, authReqId } = await sendRequest(stage)
      await stage.decide(requestId, 'approved')
      stage.clock.advance(1)

      const answer = await stage.post('/backchannel/revoke', { request_id: requestId }, bearer)

      assert.deepEqual(answer.body, { request_id: requestId, revoked: true })
      const poll = await stage.poll('kiosk', authReqId)
      assert.deepEqual([poll.status, poll.body.error], [400, 'access_denied'])
      const outcomes = (await activity(stage, bearer)).map(({ outcome, in_use }) => [outcome, in_use])
      assert.deepEqual(outcomes, [
        ['denied', false],
        ['approved', false],
      ])
      const again = await stage.post('/backchannel/revoke', { request_id: requestId }, bearer)
      assert.equal(again.body.revoked, false)
    })

    test('is pushed as denied if the push was not made yet', async (t) => {
      const till = await openNotificationEndpoint(t)
      const stage = await openStage(t, { engine, till: till.url, parts: { workers: false } })
      const bearer = await bearerOf(stage)
      const response = await stage.ring('till')
      const requestId = await stage.newestRequest()
      await stage.decide(requestId, 'approved')
      await stage.post('/backchannel/revoke', { request_id: requestId }, bearer)

      // Only one server may use a SQLite file, so the first server is closed.
      await stage.doorbell.close()
      const sending = await openStage(t, {
        engine: { name: engine.name, fresh: async () => sameDatabase(stage) },
        till: till.url,
      })
      const [pushed] = await till.hears(1)

      assert.equal(pushed!.body.error, 'access_denied')
      assert.equal(pushed!.body.auth_req_id, response.body.auth_req_id)
      await sending.close()
    })

    test('must be her own: requests of Ben, unknown ids and a missing id change nothing', async (t) => {
      const stage = await openStage(t, { engine })
      const { requestId, authReqId } = await sendRequest(stage)
      await stage.decide(requestId, 'approved')
      await stage.poll('kiosk', authReqId)
      const bens = await bearerOf(stage, ben)
      const [foreign, unknown] = [await revoke(stage, requestId, bens), await revoke(stage, 'no-such-request', bens)]
      assert.deepEqual([foreign.status, foreign.text], [404, unknown.text])
      assert.equal((await stage.post('/backchannel/revoke', {}, bens)).status, 400)
      assert.equal(await isInUse(stage), true)
    })
  })

  describe(`a client that Ana blocks, on ${engine.name}`, () => {
    test('is refused before anything reaches her, until she unblocks it; other clients are not affected', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      await sendRequest(stage)
      await stage.decide(await stage.newestRequest(), 'denied')
      const blocked = await block(stage, 'kiosk', 'true', bearer)
      assert.deepEqual([blocked.status, blocked.body], [200, { client_id: 'kiosk', blocked: true }])
      assert.equal((await block(stage, 'kiosk', 'true', bearer)).status, 200, 'twice is once')
      assert.deepEqual(
        (await activity(stage, bearer)).map(({ client_blocked }) => client_blocked),
        [true],
      )

      await stage.doorbell.idle()
      const before = await countRows(stage)
      const refused = await stage.ring('kiosk')
      assert.deepEqual([refused.status, refused.body.error], [403, 'access_denied'])
      assert.doesNotMatch(refused.text, /user-ana/)
      await stage.doorbell.idle()
      assert.deepEqual(await countRows(stage), before, 'no request, no notification')
      const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
      assert.equal((body.mails as unknown[]).length, 1, 'the mail of the first request')

      assert.equal((await stage.ring('northbank')).status, 200)
      assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'Ben is not affected')
      assert.equal((await block(stage, 'kiosk', 'perhaps', bearer)).status, 400)
      assert.equal((await stage.ring('kiosk')).status, 403, 'an invalid value does not unblock it')
      await stage.restart()
      assert.equal((await stage.ring('kiosk')).status, 403, 'it is kept')

      assert.deepEqual((await block(stage, 'kiosk', 'false', bearer)).body, { client_id: 'kiosk', blocked: false })
      assert.equal((await stage.ring('kiosk')).status, 200)
    })

    test('must exist', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      assert.equal((await block(stage, 'nobody', 'true', bearer)).status, 404)
      for (const form of [{}, { client_id: 'kiosk' }, { blocked: 'true' }] as Record<string, string>[]) {
        assert.equal((await stage.post('/backchannel/block', form, bearer)).status, 400, JSON.stringify(form))
      }
    })
  })
}

describe('only Ana herself can use these addresses', () => {
  const callers: [who: string, authorization: string | undefined][] = [
    ['the phone service', credentials.phoneService],
    ['the client that sends authentication requests', credentials.kiosk],
    ['an invented token', 'Bearer made-up'],
    ['nobody', undefined],
  ]
  for (const [who, authorization] of callers) {
    test(`${who}: 401, and nothing changes`, async (t) => {
      const stage = await openStage(t)
      const { requestId, authReqId } = await sendRequest(stage)
      await stage.decide(requestId, 'approved')
      await stage.poll('kiosk', authReqId)
      const named = { login_hint: 'ana', request_id: requestId, client_id: 'kiosk', blocked: 'true' }
      const answers = [
        await stage.get('/backchannel/activity', authorization === undefined ? {} : { authorization }),
        await stage.post('/backchannel/revoke', named, authorization),
        await stage.post('/backchannel/block', named, authorization),
      ]
      for (const { status, body, headers } of answers) {
        assert.deepEqual([status, body.error], [401, 'invalid_token'])
        assert.match(String(headers.get('www-authenticate')), /^Bearer /)
      }
      assert.equal(await isInUse(stage), true)
      assert.equal((await stage.ring('kiosk')).status, 200)
    })
  }

  test('an access token issued for her approval opens none of them', async (t) => {
    const stage = await openStage(t)
    const { requestId, authReqId } = await sendRequest(stage)
    await stage.decide(requestId, 'approved')
    const authorization = `Bearer ${(await stage.poll('kiosk', authReqId)).body.access_token}`
    for (const { status } of [
      await stage.get('/backchannel/activity', { authorization }),
      await revoke(stage, requestId, authorization),
      await block(stage, 'northbank', 'true', authorization),
    ]) {
      assert.equal(status, 403)
    }
    assert.equal(await isInUse(stage), true)
  })
})

async function sendRequest(stage: Stage, parameters: Record<string, string> = {}) {
  const { body } = await stage.ring('kiosk', parameters)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

async function activity(stage: Stage, authorization: string): Promise<Entry[]> {
  const { status, body, headers, text } = await stage.get('/backchannel/activity', { authorization })
  assert.equal(status, 200, text)
  assert.equal(headers.get('cache-control'), 'no-store')
  return body.activity as Entry[]
}

/**
 * Whether Ana's last approval is in use. Ana signs in again, because her own token may have expired with the others.
 */
async function isInUse(stage: Stage): Promise<unknown> {
  return (await activity(stage, await bearerOf(stage)))[0]!.in_use
}

function revoke(stage: Stage, requestId: string, authorization: string) {
  return stage.post('/backchannel/revoke', { request_id: requestId }, authorization)
}

function block(stage: Stage, clientId: string, blocked: string, authorization: string) {
  return stage.post('/backchannel/block', { client_id: clientId, blocked }, authorization)
}

function refresh(stage: Stage, token: unknown) {
  return stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: String(token) }, credentials.kiosk)
}

/** The database of the first node, for a second node. When the second node is closed, the database is not dropped. */
const sameDatabase = (stage: Stage) => ({ url: stage.database, drop: async () => {} })
