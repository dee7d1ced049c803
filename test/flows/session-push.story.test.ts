/** A push subscription belongs to the session of its browser: it ends with it, wherever the session is ended. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { fingerprint } from '../../src/platform/crypto.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

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
    // The app asks this whenever it is opened.
    const claimed = await stage.post('/backchannel/push-subscriptions/claim', { endpoint }, after)
    assert.deepEqual(claimed.body, { subscribed: true, ended_another: false })
    await endSessionOf(before, other)
    assert.deepEqual(await subscribed(), [fingerprint(endpoint)], 'the former session is over already')
    await endSessionOf(after, other)
    assert.deepEqual(await subscribed(), [])
  })
}

type Browser = ReturnType<Awaited<ReturnType<typeof openPushService>>['newBrowser']>

async function scene(t: TestContext, engine: Engine) {
  const service = await openPushService(t)
  const stage = await openStage(t, { engine, config: { webPush: { subject: 'mailto:ops@id.example' } } })
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
