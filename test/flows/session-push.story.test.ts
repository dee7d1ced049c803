/**
 * A push subscription belongs to the session of its browser. When this session ends, at any place, the subscription
 * ends too.
 */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { DoorbellOptions } from '../../src/doorbell.ts'
import { fingerprint } from '../../src/platform/crypto.ts'
import { beforeSteps } from '../support/before-steps.ts'
import { byCommand } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

for (const engine of engines) {
  test(`ending a session in the list ends the messages to its browser, and to no other, on ${engine.name}`, async (t) => {
    const { stage, service, subscribe, subscribed, endSessionOf } = await scene(t, engine)
    const [lost, kept] = [await bearerOf(stage), await bearerOf(stage)]
    const [phone, laptop] = [service.newBrowser(), service.newBrowser()]
    await subscribe(lost, phone)
    await subscribe(kept, laptop)
    await endSessionOf(lost, kept)
    assert.deepEqual(await subscribed(), [laptop.subscription.endpoint].map(fingerprint))
  })

  test(`after another sign-in in the same browser, the messages end with the new session, on ${engine.name}`, async (t) => {
    const { stage, service, subscribe, subscribed, endSessionOf } = await scene(t, engine)
    const [before, after, other] = [await bearerOf(stage), await bearerOf(stage), await bearerOf(stage)]
    const phone = service.newBrowser()
    const { endpoint } = phone.subscription
    await subscribe(before, phone)
    // The app makes this call whenever it is opened.
    const claimed = await stage.post('/backchannel/push-subscriptions/claim', { endpoint }, after)
    assert.deepEqual(claimed.body, { subscribed: true, ended_another: false })
    await endSessionOf(before, other)
    assert.deepEqual(await subscribed(), [fingerprint(endpoint)], 'the former session is over already')
    await endSessionOf(after, other)
    assert.deepEqual(await subscribed(), [])
  })

  for (const [late, statement] of [
    ['of the former session', /user_id <> \$2/],
    ['of the session that ends', /update push_subscriptions set uid_hash/],
  ] as const) {
    test(`a claim ${late} that arrives after the session has ended changes nothing, on ${engine.name}`, async (t) => {
      const gate = createGate()
      t.after(gate.release)
      const openDatabase = beforeSteps(statement, gate.pass)
      const { stage, service, subscribe, subscribed, endSessionOf } = await scene(t, engine, { openDatabase })
      const [first, away] = [await bearerOf(stage), await bearerOf(stage)]
      const phone = service.newBrowser()
      await subscribe(first, phone)
      const second = await bearerOf(stage)
      const claimer = late === 'of the former session' ? first : second
      gate.hold()
      const { endpoint } = phone.subscription
      const claiming = stage.post('/backchannel/push-subscriptions/claim', { endpoint }, claimer)
      await gate.waiting(1)
      await endSessionOf(claimer, away)
      if (claimer === first) await subscribe(second, phone)
      gate.release()
      await claiming
      await endSessionOf(claimer === first ? second : first, away)
      assert.deepEqual(await subscribed(), [])
    })
  }

  test(`a subscription from an earlier version, which names no session, ends with any session, on ${engine.name}`, async (t) => {
    const { stage, service, subscribe, subscribed, endSessionOf } = await scene(t, engine)
    const [phone, laptop, other] = [await bearerOf(stage), await bearerOf(stage), await bearerOf(stage)]
    await subscribe(phone, service.newBrowser())
    await subscribe(laptop, service.newBrowser())
    const forget = { sql: 'update push_subscriptions set uid_hash = null returning id', values: [] }
    await byCommand(stage, ({ database }) => database.step(forget))
    await endSessionOf(phone, other)
    assert.deepEqual(await subscribed(), [])
  })

  for (const [whose, forget] of [
    ['another session of the user', undefined],
    ['no session', 'update push_subscriptions set uid_hash = null returning id'],
    ['a session that ended long ago', "update push_subscriptions set uid_hash = 'ended' returning id"],
  ] as const) {
    test(`a sign-out ends the messages to the browser that the page names, if they belong to ${whose}, on ${engine.name}`, async (t) => {
      const { stage, service, subscribe, subscribed } = await scene(t, engine)
      const [phone, elsewhere] = [service.newBrowser(), service.newBrowser()]
      await subscribe(await bearerOf(stage), phone)
      if (forget) await byCommand(stage, ({ database }) => database.step({ sql: forget, values: [] }))
      await subscribe(await bearerOf(stage), elsewhere)
      const visitor = openVisitor(stage.url)
      await visitor.signIn(ana)
      const form = { form_token: formTokenOn(await visitor.get('/')), endpoint: phone.subscription.endpoint }
      assert.equal((await visitor.post('/session/end', form)).status, 303)
      assert.deepEqual(await subscribed(), [fingerprint(elsewhere.subscription.endpoint)])
    })
  }

  test(`a sign-out ends the messages to its browser even if the page does not name the subscription, on ${engine.name}`, async (t) => {
    const { stage, service, subscribe, subscribed } = await scene(t, engine)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    const phone = service.newBrowser()
    const { endpoint } = phone.subscription
    const subscription = JSON.stringify(phone.subscription)
    const form = { form_token: formTokenOn(await visitor.get('/')), subscription, endpoint }
    assert.ok((await visitor.post('/notifications', form)).status < 400)
    const elsewhere = service.newBrowser()
    await subscribe(await bearerOf(stage), elsewhere)
    assert.equal((await subscribed()).length, 2)
    const form_token = formTokenOn(await visitor.get('/'))
    assert.ok(visitor.jar.delete('doorbell_app_browser'))
    assert.equal((await visitor.post('/session/end', { form_token })).status, 303)
    assert.deepEqual(await subscribed(), [fingerprint(elsewhere.subscription.endpoint)])
  })
}

type Browser = ReturnType<Awaited<ReturnType<typeof openPushService>>['newBrowser']>

async function scene(t: TestContext, engine: Engine, parts: DoorbellOptions = {}) {
  const service = await openPushService(t)
  const stage = await openStage(t, { engine, parts, config: { webPush: { subject: 'mailto:ops@id.example' } } })
  return {
    stage,
    service,
    async subscribe(token: string, { subscription }: Browser) {
      const fields = { subscription: JSON.stringify(subscription) }
      assert.equal((await stage.post('/backchannel/push-subscriptions', fields, token)).status, 201)
    },
    /** Resolves to the hashes of the subscribed endpoints. */
    async subscribed() {
      const rows = await rowsOf(stage, 'select endpoint_hash from push_subscriptions')
      return rows.map(({ endpoint_hash }) => endpoint_hash)
    },
    /** Ends the session of one token by a call with another. */
    async endSessionOf(token: string, by: string) {
      const { sessions } = (await stage.get('/backchannel/sessions', { authorization: token })).body
      const own = (sessions as { id: string; current: boolean }[]).find(({ current }) => current)
      assert.equal((await stage.post('/backchannel/sessions/end', { id: own!.id }, by)).status, 200)
    },
  }
}
