/** The session or the user of a call ends before the call has written anything. The call then writes nothing. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { beforeSteps, beforeTurns } from '../support/before-steps.ts'
import { byCommand, dora } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

/**
 * @param statement the first statement of the transaction that is held up. If undefined, the transitions of requests
 *   are held up
 */
async function scene(t: TestContext, engine: Engine, statement?: RegExp) {
  const gate = createGate()
  const openDatabase = statement === undefined ? beforeTurns(gate.pass) : beforeSteps(statement, gate.pass)
  t.after(gate.release)
  const config = { webPush: { subject: 'mailto:ops@id.example' } }
  const stage = await openStage(t, { engine, config, parts: { openDatabase } })
  const token = await bearerOf(stage)
  /** Sends a call, ends Ana's session while the call is held up, and resolves to the answer of the call. */
  async function send(path: string, fields: Record<string, string>, end: SignOut = byApplication) {
    gate.hold()
    const answer = stage.post(path, fields, token)
    await gate.waiting(1)
    await end(stage, token)
    gate.release()
    return answer
  }
  return { stage, send, gate }
}

type SignOut = (stage: Stage, token: string) => Promise<unknown>

const byApplication: SignOut = (stage) => stage.doorbell.users.signOut(ana.id)

/** Events that make the token of a call invalid. */
const signOuts: Record<string, SignOut> = {
  'signed out by the application': byApplication,
  'removed by the application': (stage) => stage.doorbell.users.end(ana.id),
  'whose session ends on the page of another browser': async (stage, token) => {
    const { sessions } = (await stage.get('/backchannel/sessions', { authorization: token })).body
    const own = (sessions as { id: string; current: boolean }[]).find(({ current }) => current)
    return stage.post('/backchannel/sessions/end', { id: own!.id }, await bearerOf(stage))
  },
  'signed out everywhere on the page': (stage, token) =>
    stage.post('/backchannel/sessions/end', { everywhere: 'true' }, token),
}

const ofPair = /client_id \|\| '' = \$2/

for (const engine of engines) {
  for (const [how, end] of Object.entries(signOuts)) {
    for (const outcome of ['approved', 'denied', 'reported'] as const) {
      test(`a decision (${outcome}) of a user ${how} is not accepted, on ${engine.name}`, async (t) => {
        const { stage, send } = await scene(t, engine, outcome === 'reported' ? ofPair : undefined)
        await stage.ring('kiosk')
        const request_id = await stage.newestRequest()
        const fields = outcome === 'reported' ? { status: 'denied', report: 'true' } : { status: outcome }
        const { status, body } = await send('/backchannel/complete', { request_id, ...fields }, end)
        const [row] = await rowsOf(stage, 'select status, settled_by from backchannel_auth_requests')
        if (how.startsWith('removed')) {
          assert.deepEqual([status, body.error, row?.status], [409, 'already_decided', 'denied'])
          const [entry] = await rowsOf(stage, 'select decided_by from backchannel_auth_consent_history')
          assert.equal(entry?.decided_by, 'application')
        } else assert.deepEqual([status, body.error, row?.status], [403, 'access_denied', 'pending'])
        assert.deepEqual(await rowsOf(stage, 'select client_id from blocked_clients'), [])
      })
    }
  }

  test(`after a sign-out the user can decide the same request, on ${engine.name}`, async (t) => {
    const { stage, send } = await scene(t, engine)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const request_id = await stage.newestRequest()
    await send('/backchannel/complete', { request_id, status: 'approved' })
    assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
    await stage.decide(request_id, 'approved')
    stage.clock.advance(60_000)
    assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200)
  })

  for (const [how, end] of Object.entries(signOuts)) {
    test(`a user ${how} blocks no client, on ${engine.name}`, async (t) => {
      const { stage, send } = await scene(t, engine, ofPair)
      const blocking = await send('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, end)
      assert.deepEqual([blocking.status, blocking.body.error], [401, 'invalid_token'])
      assert.deepEqual(await rowsOf(stage, 'select client_id from blocked_clients'), [])
    })
  }

  for (const [how, end] of Object.entries(signOuts)) {
    test(`a user ${how} unblocks no client, on ${engine.name}`, async (t) => {
      const { stage, send } = await scene(t, engine, /^select 1 as present where/)
      await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, await bearerOf(stage))
      const isBlocked = async () => (await rowsOf(stage, 'select client_id from blocked_clients')).length === 1
      assert.ok(await isBlocked())
      const { status, body } = await send('/backchannel/block', { client_id: 'kiosk', blocked: 'false' }, end)
      assert.deepEqual([status, body.error], [401, 'invalid_token'])
      assert.equal(await isBlocked(), !how.startsWith('removed'))
      assert.equal(stage.logLines.filter((line) => line.includes('client.unblocked')).length, 0)
    })
  }

  test(`tokens of an approval that are being issued while its user signs out everywhere are valid, on ${engine.name}`, async (t) => {
    const { stage, gate } = await scene(t, engine, /set status = 'redeemed'/)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    gate.hold()
    const polling = stage.poll('kiosk', auth_req_id)
    await gate.waiting(1)
    await stage.post('/backchannel/sessions/end', { everywhere: 'true' }, await bearerOf(stage))
    gate.release()
    const { access_token } = (await polling).body
    assert.equal((await stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })).status, 200)
  })

  test(`an approval is not revoked, on ${engine.name}`, async (t) => {
    const { stage, send } = await scene(t, engine, /with named as materialized/)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const request_id = await stage.newestRequest()
    await stage.decide(request_id, 'approved')
    const everywhere = signOuts['signed out everywhere on the page']
    const { status, body } = await send('/backchannel/revoke', { request_id }, everywhere)
    assert.deepEqual([status, body.error], [401, 'invalid_token'])
    assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200, 'the approval is still valid')
  })

  test(`a push subscription is not added, on ${engine.name}`, async (t) => {
    const { stage, send } = await scene(t, engine, /insert into push_subscriptions/)
    const { subscription } = (await openPushService(t)).newBrowser()
    const { status, body } = await send('/backchannel/push-subscriptions', {
      subscription: JSON.stringify(subscription),
    })
    assert.deepEqual([status, body.error], [401, 'invalid_token'])
    assert.deepEqual(await rowsOf(stage, 'select id from push_subscriptions'), [])
  })

  test(`a push subscription is neither removed nor claimed, on ${engine.name}`, async (t) => {
    const { endpoint } = (await openPushService(t)).newBrowser().subscription
    for (const [path, statement] of [
      ['remove', /as count\s+from \(select 1 as present/],
      ['claim', /delete from push_subscriptions\s+where endpoint_hash/],
    ] as const) {
      const { send } = await scene(t, engine, statement)
      const { status, body } = await send(`/backchannel/push-subscriptions/${path}`, { endpoint })
      assert.deepEqual([path, status, body.error], [path, 401, 'invalid_token'])
    }
  })

  test(`a session is not noted, on ${engine.name}`, async (t) => {
    const { stage, send } = await scene(t, engine, /insert into user_sessions/)
    const { status, body } = await send('/backchannel/sessions', { browser: 'Firefox' })
    assert.deepEqual([status, body.error], [401, 'invalid_token'])
    assert.deepEqual(await rowsOf(stage, 'select id from user_sessions'), [])
  })

  test(`a user code is not set, nor removed, on ${engine.name}`, async (t) => {
    for (const [path, fields] of [
      ['/backchannel/user-code', { user_code: 'thief-1' }],
      ['/backchannel/user-code/remove', {}],
    ] as const) {
      const { stage, send } = await scene(t, engine, /insert into user_codes/)
      const { status, body } = await send(path, fields)
      assert.deepEqual([status, body.error], [409, 'already_decided'])
      assert.deepEqual(await rowsOf(stage, 'select user_id from user_codes'), [])
    }
  })

  for (const ending of ['locked', 'removed', 'erased'] as const) {
    test(`a request about a user who is ${ending} is not accepted, on ${engine.name}`, async (t) => {
      const { stage, gate } = await scene(t, engine, /insert into backchannel_auth_requests/)
      await byCommand(stage, ({ addDora }) => addDora())
      gate.hold()
      const answer = stage.ring('kiosk', { login_hint: dora.username })
      await gate.waiting(1)
      await byCommand(stage, ({ endUser }) => endUser(dora.id, ending, { by: 'command', mustBe: 'added' }))
      gate.release()
      const { status, body, headers } = await answer
      assert.deepEqual([status, body.error, headers.get('retry-after')], [429, 'access_denied', '1'])
      const again = await stage.ring('kiosk', { login_hint: dora.username })
      assert.deepEqual([again.status, again.body.error], [400, 'unknown_user_id'])
      const known = 'select user_id from user_generations where user_id = $1'
      assert.equal((await rowsOf(stage, known, [dora.id])).length, 1, 'later calls are refused, too')
      assert.deepEqual(await rowsOf(stage, 'select id from backchannel_auth_requests'), [])
      stage.clock.advance(10 * 60_000)
      await stage.doorbell.prune()
      assert.equal((await rowsOf(stage, known, [dora.id])).length, ending === 'erased' ? 0 : 1)
    })
  }
}
