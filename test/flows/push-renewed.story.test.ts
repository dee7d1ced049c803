/**
 * A browser replaces its push subscription. The new one reaches the server, which removes the old one in the same step.
 * Only the user who has switched on notifications in this browser gets messages by the new one.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { fingerprint } from '../../src/platform/crypto.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { type Browser, openPushService } from '../support/push-service.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

for (const engine of engines) {
  describe(`a browser replaces its push subscription, on ${engine.name}`, () => {
    test('messages go to the new one, and no longer to the old one', async (t) => {
      const { stage, visitor, before, after, renew, subscribed } = await switchedOn(t, engine)
      const { status, text } = await renew(after)
      assert.deepEqual([status, JSON.parse(text)], [200, { subscribed: true }])
      assert.deepEqual(await subscribed(), [fingerprint(after.subscription.endpoint)])
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      assert.deepEqual([before.received.length, after.received.length], [0, 1])

      const third = (await openPushService(t)).newBrowser()
      assert.deepEqual(JSON.parse((await renew(third)).text), { subscribed: true })
      assert.deepEqual(await subscribed(), [fingerprint(third.subscription.endpoint)])
      await visitor.post('/session/end', { form_token: formTokenOn(await visitor.get('/')) })
      assert.deepEqual(await subscribed(), [], 'a sign-out ends the new one')
    })

    test('also if it was removed before, as Chrome does until the user permits notifications again', async (t) => {
      const { stage, before, after, renew, subscribed } = await switchedOn(t, engine)
      before.answers(410)
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      assert.deepEqual(await subscribed(), [])
      assert.deepEqual(
        JSON.parse((await renew(before)).text),
        { subscribed: false },
        'it is refused, so it stays removed',
      )
      assert.deepEqual(JSON.parse((await renew(after)).text), { subscribed: true })
      assert.deepEqual(await subscribed(), [fingerprint(after.subscription.endpoint)])
    })

    test('forty calls at once store it once', async (t) => {
      const { after, renew, subscribed } = await switchedOn(t, engine)
      const calls = await Promise.all(Array.from({ length: 40 }, () => renew(after)))
      assert.ok(calls.every(({ status }) => [200, 429, 503].includes(status)))
      assert.deepEqual(await subscribed(), [fingerprint(after.subscription.endpoint)])
    })

    test('while nobody is signed in, nothing is stored; after she signs in again, her page stores it', async (t) => {
      const { visitor, before, after, renew, subscribed } = await switchedOn(t, engine)
      const session = visitor.jar.get('doorbell_app')!
      visitor.jar.delete('doorbell_app')
      assert.equal((await renew(after)).status, 403)
      assert.deepEqual(await subscribed(), [fingerprint(before.subscription.endpoint)])
      visitor.jar.set('doorbell_app', session)
      assert.equal((await renew(after)).status, 200)
      assert.deepEqual(await subscribed(), [fingerprint(after.subscription.endpoint)])
    })

    test('Ben, signed in at the same browser, gets no messages by it', async (t) => {
      const { visitor, after, renew, subscribed } = await switchedOn(t, engine)
      for (const name of [...visitor.jar.keys()]) if (name !== 'doorbell_app_browser') visitor.jar.delete(name)
      await visitor.signIn(ben)
      assert.deepEqual(JSON.parse((await renew(after)).text), { subscribed: false })
      assert.deepEqual(await subscribed(), [], 'that of Ana was removed when Ben signed in')
    })

    test('not after she has switched notifications off, and not with a session that has ended', async (t) => {
      const { stage, visitor, before, after, renew, subscribed } = await switchedOn(t, engine)
      const remembered = visitor.jar.get('doorbell_app_browser')!
      const form = { form_token: formTokenOn(await visitor.get('/')), endpoint: before.subscription.endpoint }
      await visitor.post('/notifications', form)
      assert.deepEqual(JSON.parse((await renew(after)).text), { subscribed: false })
      visitor.jar.set('doorbell_app_browser', remembered)
      await stage.doorbell.users.signOut(ana.id)
      assert.equal((await renew(after)).status, 401)
      assert.deepEqual(await subscribed(), [])
    })

    test('the device API does the same for an app of your own, and removes nothing of another user', async (t) => {
      const { stage, before, after, subscribed } = await switchedOn(t, engine)
      const path = '/backchannel/push-subscriptions'
      const { endpoint } = before.subscription
      const fields = { subscription: JSON.stringify(after.subscription), replaces: endpoint }
      assert.equal((await stage.post(path, fields, await bearerOf(stage, ben))).status, 201)
      assert.equal((await subscribed()).length, 2)
      assert.equal((await stage.post(path, fields, await bearerOf(stage))).status, 201)
      assert.deepEqual(await subscribed(), [fingerprint(after.subscription.endpoint)])
      const same = {
        subscription: JSON.stringify(after.subscription),
        replaces_hash: fingerprint(after.subscription.endpoint),
      }
      assert.equal((await stage.post(path, same, await bearerOf(stage))).status, 201)
      assert.deepEqual(await subscribed(), [fingerprint(after.subscription.endpoint)])
    })
  })
}

test('only scripts of the app may replace it: another site, a form and a program are refused', async (t) => {
  const { stage, visitor, before, after, subscribed } = await switchedOn(t)
  const form = { subscription: JSON.stringify(after.subscription), form_token: formTokenOn(await visitor.get('/')) }
  for (const origin of [undefined, 'null', 'https://evil.example', `${stage.url}.evil.example`]) {
    const { status } = await visitor.post('/notifications/renew', form, origin === undefined ? {} : { origin })
    assert.equal(status, 403, origin)
  }
  for (const subscription of [
    '',
    'nonsense',
    '{}',
    '{"endpoint":7}',
    '{"endpoint":"https://push.example/1"}',
    'null',
  ]) {
    const { status } = await visitor.post('/notifications/renew', { subscription }, { origin: stage.url })
    assert.equal(status, 400, subscription)
  }
  assert.deepEqual(await subscribed(), [fingerprint(before.subscription.endpoint)])
})

test('a cookie of an earlier version names no user: the browser is asked again', async (t) => {
  const { visitor, after, renew, before } = await switchedOn(t)
  visitor.jar.delete('doorbell_app_browser')
  assert.deepEqual(JSON.parse((await renew(after)).text), { subscribed: false })
  // Each page that is opened in the meantime writes the cookie again.
  const form = { form_token: formTokenOn(await visitor.get('/')), endpoint: before.subscription.endpoint }
  await visitor.post('/notifications/claim', form)
  assert.deepEqual(JSON.parse((await renew(after)).text), { subscribed: true })
})

test('the key of the server is public, and null if push messages are off', async (t) => {
  const { stage } = await switchedOn(t)
  assert.match(String((await stage.get('/notifications/key')).body.key), /^[\w-]{87}$/)
  const off = await openStage(t)
  assert.deepEqual((await off.get('/notifications/key')).body, { key: null })
})

/** Ana has switched on notifications in a browser. */
async function switchedOn(t: TestContext, engine?: Engine) {
  const service = await openPushService(t)
  const config = { webPush: { subject: 'mailto:ops@id.example' } }
  const stage = await openStage(t, engine ? { engine, config } : { config })
  const [before, after] = [service.newBrowser(), service.newBrowser()]
  const visitor = openVisitor(stage.url)
  const form_token = formTokenOn(await visitor.signIn(ana))
  const { endpoint } = before.subscription
  await visitor.post('/notifications', { form_token, subscription: JSON.stringify(before.subscription), endpoint })
  return {
    stage,
    visitor,
    before,
    after,
    /** The call of the service worker, and of a page. */
    renew: ({ subscription }: Browser) =>
      visitor.post(
        '/notifications/renew',
        { subscription: JSON.stringify(subscription) },
        { origin: stage.url, accept: '*/*' },
      ),
    /** Resolves to the hashes of the subscribed endpoints. */
    async subscribed() {
      const rows = await rowsOf(stage, 'select endpoint_hash from push_subscriptions')
      return rows.map(({ endpoint_hash }) => endpoint_hash)
    },
  }
}
