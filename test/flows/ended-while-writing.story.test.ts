/** A call with the token of a session that ends before the call has written anything: it writes nothing. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { beforeSteps } from '../support/before-steps.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

async function scene(t: TestContext, engine: Engine, statement: RegExp) {
  const gate = createGate()
  const openDatabase = beforeSteps(statement, gate.pass)
  t.after(gate.release)
  const config = { webPush: { subject: 'mailto:ops@id.example' } }
  const stage = await openStage(t, { engine, config, parts: { openDatabase } })
  const token = await bearerOf(stage)
  /** Sends a call, ends the sessions of Ana while it is held up, and resolves to its answer. */
  async function send(path: string, fields: Record<string, string>) {
    gate.hold()
    const answer = stage.post(path, fields, token)
    await gate.waiting(1)
    await stage.doorbell.users.signOut(ana.id)
    gate.release()
    return answer
  }
  return { stage, send }
}

for (const engine of engines) {
  for (const outcome of ['approved', 'denied'] as const) {
    test(`a decision (${outcome}) is not accepted, on ${engine.name}`, async (t) => {
      const { stage, send } = await scene(t, engine, /^\s*update backchannel_auth_requests\s+set status = answer/)
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const request_id = await stage.newestRequest()
      const { status, body } = await send('/backchannel/complete', { request_id, status: outcome })
      assert.deepEqual([status, body.error], [403, 'access_denied'])
      assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
      await stage.decide(request_id, 'approved')
      stage.clock.advance(60_000)
      assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200, 'the user can still decide')
    })
  }

  test(`a push subscription is not added, on ${engine.name}`, async (t) => {
    const { stage, send } = await scene(t, engine, /insert into push_subscriptions/)
    const { subscription } = (await openPushService(t)).newBrowser()
    const { status, body } = await send('/backchannel/push-subscriptions', {
      subscription: JSON.stringify(subscription),
    })
    assert.deepEqual([status, body.error], [401, 'invalid_token'])
    assert.deepEqual(await rowsOf(stage, 'select id from push_subscriptions'), [])
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
}
