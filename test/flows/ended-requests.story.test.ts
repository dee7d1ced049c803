/**
 * A user is locked or removed, blocks a client, or revokes an approval, while requests are open. The client gets a
 * denial.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { DoorbellOptions } from '../../src/doorbell.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { User } from '../../src/user/user.ts'
import { byCommand, dora } from '../support/commands.ts'
import { engines } from '../support/engines.ts'
import { type Neighbour, openNeighbour } from '../support/neighbour.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { CIBA, credentials, newNotificationToken, openStage, type RingingClient, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  describe(`open requests, on ${engine.name}`, () => {
    for (const ending of ['locked', 'removed', 'erased'] as const) {
      test(`of a user who is ${ending} are denied: by poll, by ping and by push, pending or approved`, async (t) => {
        const endpoint = await openNotificationEndpoint(t)
        const stage = await openStage(t, { engine, northbank: endpoint.url, till: endpoint.url })
        await byCommand(stage, ({ addDora }) => addDora())
        const [polled, approved] = [await sendRequest(stage, 'kiosk'), await sendRequest(stage, 'kiosk')]
        await stage.decide(approved.requestId, 'approved', { login_hint: 'dora' })
        const pinged = await sendRequest(stage, 'northbank')
        await sendRequest(stage, 'till')
        assert.equal((await stage.poll('kiosk', polled.authReqId)).body.error, 'authorization_pending')
        await byCommand(stage, ({ endUser }) => endUser(dora.id, ending, { mustBe: 'added', by: 'command' }))

        assert.equal((await stage.poll('kiosk', approved.authReqId)).body.error, 'access_denied')
        // This node answers polls of a pending request from memory until it is notified of the change, which another
        // process has made.
        await until(async () => (await stage.poll('kiosk', polled.authReqId)).body.error === 'access_denied')
        const heard = await whileTimePasses(stage, endpoint.hears(2))
        const push = heard.find(({ body }) => 'error' in body)
        assert.equal(push?.body.error, 'access_denied')
        assert.ok(heard.some(({ body }) => body.auth_req_id === pinged.authReqId))
        assert.equal((await stage.poll('northbank', pinged.authReqId)).body.error, 'access_denied')
        if (ending === 'erased') return
        const reason = ending === 'locked' ? 'user_locked' : 'user_removed'
        const history = await rowsOf(
          stage,
          "select outcome, decided_by, reason from backchannel_auth_consent_history where reason <> ''",
        )
        assert.deepEqual(history, Array(4).fill({ outcome: 'denied', decided_by: 'application', reason }))
      })
    }

    test('of a user who is signed out stay pending; an approved one that was not collected yet is denied', async (t) => {
      const stage = await openStage(t, { engine })
      await byCommand(stage, ({ addDora }) => addDora())
      const [waiting, approved] = [await sendRequest(stage, 'kiosk'), await sendRequest(stage, 'kiosk')]
      await stage.decide(approved.requestId, 'approved', { login_hint: 'dora' })
      await byCommand(stage, ({ setPassword }) => setPassword(dora.id, 'another one'))
      assert.equal((await stage.poll('kiosk', approved.authReqId)).body.error, 'access_denied')
      assert.equal((await stage.poll('kiosk', waiting.authReqId)).body.error, 'authorization_pending')
      await stage.decide(waiting.requestId, 'approved', { login_hint: 'dora' })
      stage.clock.advance(6000)
      assert.equal((await stage.poll('kiosk', waiting.authReqId)).status, 200)
      const history = await rowsOf(
        stage,
        "select outcome, decided_by, reason from backchannel_auth_consent_history where reason <> ''",
      )
      assert.deepEqual(history, [{ outcome: 'denied', decided_by: 'application', reason: 'user_signed_out' }])
    })
    for (const by of ['command', 'configuration', 'application'] as const) {
      test(`are audited as denied by the cause of the user's ending: ${by}`, async (t) => {
        const stage = await openStage(t, { engine })
        const asked = await byCommand(stage, async ({ addDora }) => {
          await addDora()
          return [await sendRequest(stage, 'kiosk'), await sendRequest(stage, 'kiosk')]
        })
        const told = await byCommand(stage, async ({ endUser, events }) => {
          await endUser(dora.id, 'locked', { by })
          return events.map(({ event, request, by, outcome }) => [event, request, by, outcome])
        })
        assert.deepEqual(told.toSorted(), [
          ...asked.map(({ requestId }) => ['request.denied', requestId, by, 'user_locked']).toSorted(),
          ['user.locked', undefined, by, undefined],
        ])
        const history = await rowsOf(stage, `select decided_by from backchannel_auth_consent_history`)
        assert.deepEqual(history, Array(2).fill({ decided_by: 'application' }))
      })
    }

    test('that a long poll waits for are answered at once', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { longPoll: 25 } } })
      await byCommand(stage, ({ addDora }) => addDora())
      const { authReqId } = await sendRequest(stage, 'kiosk')
      const polling = stage.poll('kiosk', authReqId)
      await byCommand(stage, ({ endUser }) => endUser(dora.id, 'locked', { by: 'command' }))
      assert.equal((await whileTimePasses(stage, polling)).body.error, 'access_denied')
    })

    if (engine.name === 'postgres')
      test('that a long poll waits for at another node are answered at once, and tokens end there too', async (t) => {
        const options = { engine, config: { requests: { longPoll: 25 } } }
        const stage = await openStage(t, options)
        const neighbour = await openNeighbour(t, stage, options)
        await byCommand(stage, ({ addDora }) => addDora())
        const form = { scope: 'openid offline_access', login_hint: 'dora' }
        const approved = await stage.post('/backchannel/authorize', form, credentials.kiosk)
        await stage.decide(await stage.newestRequest('dora'), 'approved', { login_hint: 'dora' })
        const tokens = (await stage.poll('kiosk', approved.body.auth_req_id)).body
        const isActive = async (node: Pick<Neighbour, 'post'>) => {
          const kinds = [tokens.access_token, tokens.refresh_token].map(String)
          const answers = kinds.map((token) => node.post('/oauth/introspect', { token }, credentials.kiosk))
          return (await Promise.all(answers)).map(({ body }) => body.active)
        }
        for (const node of [stage, neighbour]) assert.deepEqual(await isActive(node), [true, true])

        const { authReqId } = await sendRequest(stage, 'kiosk')
        const poll = { grant_type: CIBA, auth_req_id: String(authReqId) }
        const polling = neighbour.post('/oauth/token', poll, credentials.kiosk)
        await until(async () => (await metricsOf(neighbour)).includes('doorbell_polls_held 1'))
        await byCommand(stage, ({ endUser }) => endUser(dora.id, 'locked', { by: 'command' }))
        assert.equal((await whileTimePasses(stage, polling)).body.error, 'access_denied')
        for (const node of [neighbour, stage]) assert.deepEqual(await isActive(node), [false, false])
      })

    test('of a client are denied when the user reports one of them; those of other clients stay', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const stage = await openStage(t, { engine, northbank: endpoint.url })
      await byCommand(stage, ({ addDora }) => addDora())
      const asked = [
        await sendRequest(stage, 'northbank'),
        await sendRequest(stage, 'northbank'),
        await sendRequest(stage, 'northbank'),
      ]
      const others = await sendRequest(stage, 'kiosk')
      const anas = await stage.ring('northbank')
      const reported = await stage.decide(asked[1]!.requestId, 'denied', { login_hint: 'dora', report: 'true' })
      assert.deepEqual([reported.status, reported.body.status], [200, 'denied'])
      await endpoint.hears(3)
      for (const { authReqId } of asked) {
        assert.equal((await stage.poll('northbank', authReqId)).body.error, 'access_denied')
      }
      assert.equal((await stage.poll('kiosk', others.authReqId)).body.error, 'authorization_pending')
      assert.equal((await stage.poll('northbank', anas.body.auth_req_id)).body.error, 'authorization_pending')
      const history = await rowsOf(
        stage,
        'select reported, reason from backchannel_auth_consent_history order by reason',
      )
      const reasons = history.map(({ reported, reason }) => [reported, reason])
      assert.deepEqual(
        reasons.sort(),
        [
          [0, 'client_blocked'],
          [0, 'client_blocked'],
          [1, null],
        ].sort(),
      )
      const again = await stage.decide(asked[0]!.requestId, 'denied', { login_hint: 'dora', report: 'true' })
      assert.equal(again.status, 409, 'it is settled once')
    })

    test('of a client are denied when the user blocks it in her history', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      const { body } = await stage.ring('kiosk')
      assert.equal(
        (await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, bearer)).status,
        200,
      )
      assert.equal((await stage.poll('kiosk', body.auth_req_id)).body.error, 'access_denied')
    })

    for (const way of ['reports one of them', 'blocks the client'] as const) {
      test(`of a push client get the denial pushed, once each, when the user ${way}; those of other users stay`, async (t) => {
        const endpoint = await openNotificationEndpoint(t)
        const stage = await openStage(t, { engine, till: endpoint.url })
        const bearer = await bearerOf(stage)
        await stage.ring('till', { login_hint: 'ben' })
        const tokens = [newNotificationToken(), newNotificationToken(), newNotificationToken()]
        const asked: unknown[] = []
        for (const client_notification_token of tokens) {
          asked.push((await stage.ring('till', { client_notification_token })).body.auth_req_id)
        }
        const { status } =
          way === 'blocks the client'
            ? await stage.post('/backchannel/block', { client_id: 'till', blocked: 'true' }, bearer)
            : await stage.decide(await stage.newestRequest(), 'denied', { report: 'true' })
        assert.equal(status, 200)
        await stage.doorbell.idle()
        const pushed = endpoint.heard.map(({ body, authorization }) => [body.auth_req_id, body.error, authorization])
        const denied = asked.map((authReqId, index) => [authReqId, 'access_denied', `Bearer ${tokens[index]}`])
        assert.deepEqual(pushed.toSorted(), denied.toSorted())
        const statuses = async (name: string) => (await stage.waiting(name)).map(({ status }) => status)
        assert.deepEqual([await statuses('ana'), await statuses('ben')], [Array(3).fill('denied'), ['pending']])
      })
    }

    test("of an application's own user are denied when the application says so; while the user is disabled, the tokens are not active", async (t) => {
      const person: User = { id: 'user-ana', email: 'ana@example.com' }
      const users = { find: async () => person, findByHint: async () => person }
      const stage = await openStage(t, { engine, config: { users } })
      const { authReqId } = await anasApproved(stage)
      const { body } = await stage.poll('kiosk', authReqId)
      const inspect = () => stage.post('/oauth/introspect', { token: String(body.access_token) }, credentials.kiosk)
      const uncollected = await anasApproved(stage)
      const waiting = await stage.ring('kiosk')
      assert.equal((await inspect()).body.active, true)
      person.disabled = true
      assert.deepEqual((await inspect()).body, { active: false })
      assert.equal((await stage.poll('kiosk', uncollected.authReqId)).body.error, 'access_denied')
      await stage.doorbell.users.end('user-ana')
      assert.equal((await stage.poll('kiosk', waiting.body.auth_req_id)).body.error, 'access_denied')
      person.disabled = false
      assert.deepEqual((await inspect()).body, { active: false }, 'what ended does not come back')
      // For some seconds, new requests are refused, because a node with another clock may have received them before the
      // ending.
      assert.equal((await stage.ring('kiosk')).status, 429)
      stage.clock.advance(5_000)
      assert.equal((await stage.ring('kiosk')).status, 200)
    })

    test('an approval is revoked in one step: tokens that can be collected, and tokens that were', async (t) => {
      const counting = countSteps()
      const stage = await openStage(t, { engine, parts: counting.parts })
      const bearer = await bearerOf(stage)
      const collected = await anasApproved(stage)
      const { body } = await stage.poll('kiosk', collected.authReqId)
      const waiting = await anasApproved(stage)
      for (const { requestId } of [collected, waiting]) {
        const before = counting.steps()
        const revoked = await stage.post('/backchannel/revoke', { request_id: requestId }, bearer)
        assert.deepEqual([revoked.status, revoked.body.revoked], [200, true])
        assert.equal(counting.steps() - before, 1)
      }
      assert.equal(
        (await stage.post('/oauth/introspect', { token: String(body.access_token) }, credentials.kiosk)).body.active,
        false,
      )
      assert.equal((await stage.poll('kiosk', waiting.authReqId)).body.error, 'access_denied')
    })

    test('of a revocation and a poll at once: the client keeps no usable token', async (t) => {
      const stage = await openStage(t, { engine })
      const bearer = await bearerOf(stage)
      for (let round = 0; round < 8; round++) {
        const { requestId, authReqId } = await anasApproved(stage)
        const [polled, revoked] = await Promise.all([
          stage.poll('kiosk', authReqId),
          stage.post('/backchannel/revoke', { request_id: requestId }, bearer),
        ])
        assert.equal(revoked.body.revoked, true)
        if (polled.status !== 200) continue
        const token = String(polled.body.access_token)
        assert.equal((await stage.post('/oauth/introspect', { token }, credentials.kiosk)).body.active, false)
      }
    })
  })
}

/**
 * Advances the clock until `waited` settles. SQLite does not notify other processes, so a server finds changes that a
 * command made only when its timers run.
 */
async function whileTimePasses<Result>(stage: Stage, waited: Promise<Result>): Promise<Result> {
  const ticking = setInterval(() => stage.clock.advance(500), 50)
  try {
    return await waited
  } finally {
    clearInterval(ticking)
  }
}

async function metricsOf({ url }: Neighbour): Promise<string> {
  return (await fetch(`${url}/metrics`)).text()
}

async function sendRequest(stage: Stage, as: RingingClient) {
  const { body } = await stage.ring(as, { login_hint: 'dora' })
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest('dora') }
}

async function anasApproved(stage: Stage) {
  const { body } = await stage.ring('kiosk')
  const requestId = await stage.newestRequest()
  await stage.decide(requestId, 'approved')
  return { requestId, authReqId: body.auth_req_id }
}

function countSteps(): { parts: DoorbellOptions; steps(): number } {
  let steps = 0
  const open: typeof openDatabase = async (...about) => {
    const database = await openDatabase(...about)
    return {
      ...database,
      get listening() {
        return database.listening
      },
      get epoch() {
        return database.epoch
      },
      step(first, options) {
        steps += 1
        return database.step(first, options)
      },
    }
  }
  return { parts: { openDatabase: open, workers: false }, steps: () => steps }
}
