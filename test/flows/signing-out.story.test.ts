/**
 * Signing out also ends the session at the provider, the push messages of this browser, and calls that began before.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'

const minute = 60_000
const hour = 60 * minute

for (const engine of engines) {
  describe(`signing out, on ${engine.name}`, () => {
    test('ends the session of the provider: a copy of all cookies is not signed in', async (t) => {
      const { stage, visitor, isSignedIn } = await signedIn(t, engine)
      const copy = openVisitor(stage.url)
      for (const [name, value] of visitor.jar) copy.jar.set(name, value)
      const seen = await signOut(visitor)
      assert.deepEqual([seen.status, seen.location], [303, '/session/start'])
      for (const name of ['doorbell_app', 'doorbell_session', 'doorbell_session.sig']) assert.ok(!visitor.jar.has(name))
      assert.equal(await isSignedIn(copy), false)
      const left = await rowsOf(stage, `select model from oidc_models where user_id = 'user-ana'`)
      assert.deepEqual(left, [])
    })

    test('does so when the session of the app has expired before', async (t) => {
      const { stage, visitor, isSignedIn } = await signedIn(t, engine)
      const copy = openVisitor(stage.url)
      for (const [name, value] of visitor.jar) copy.jar.set(name, value)
      stage.clock.advance(11 * minute)
      assert.match((await visitor.get('/')).location ?? '', /^\/session\/start/, 'it has expired')
      await visitor.post('/session/end', {})
      assert.equal(await isSignedIn(copy), false)
    })

    test("leaves the user's sessions in other browsers, and other users', as they are", async (t) => {
      const { stage, visitor, isSignedIn } = await signedIn(t, engine)
      const [anas, bens] = [openVisitor(stage.url), openVisitor(stage.url)]
      await anas.signIn(ana)
      await bens.signIn(ben)
      await signOut(visitor)
      for (const other of [anas, bens]) assert.equal(await isSignedIn(other), true)
    })

    test('also holds when a call that began before writes the session back afterwards', async (t) => {
      const { stage, visitor, isSignedIn, gate } = await signedIn(t, engine)
      const copy = openVisitor(stage.url)
      for (const [name, value] of visitor.jar) copy.jar.set(name, value)
      copy.jar.delete('doorbell_app')
      let step = await copy.get('/')
      while (!step.location?.startsWith('/oauth/authorize')) step = await copy.get(step.location!)
      gate.hold()
      const late = copy.get(step.location)
      await gate.waiting(1)
      await signOut(visitor)
      gate.release()
      await copy.follow(await late)
      assert.equal(await isSignedIn(copy), false)
    })

    test('at the provider ends as much: messages, the list of sessions, and a call that writes the session back', async (t) => {
      const { stage, visitor, isSignedIn, gate } = await signedIn(t, engine)
      const { subscription } = (await openPushService(t)).newBrowser()
      await subscribe(visitor, subscription)
      const copy = openVisitor(stage.url)
      for (const [name, value] of visitor.jar) copy.jar.set(name, value)
      copy.jar.delete('doorbell_app')
      let step = await copy.get('/')
      while (!step.location?.startsWith('/oauth/authorize')) step = await copy.get(step.location!)
      const xsrf = /name="xsrf" value="([^"]+)"/.exec((await visitor.get('/oauth/logout')).text)![1]!
      gate.hold()
      const late = copy.get(step.location)
      await gate.waiting(1)
      await visitor.post('/oauth/logout/confirm', { xsrf, logout: 'yes' })
      gate.release()
      await copy.follow(await late)
      assert.equal(await isSignedIn(copy), false)
      for (const table of ['user_sessions', 'push_subscriptions']) {
        assert.deepEqual(await rowsOf(stage, `select id from ${table} where user_id = 'user-ana'`), [], table)
      }
    })

    test('can be requested by our own pages only', async (t) => {
      const { visitor, isSignedIn } = await signedIn(t, engine)
      visitor.jar.delete('doorbell_app')
      const seen = await visitor.post('/session/end', {}, { origin: 'https://elsewhere.example' })
      assert.equal(seen.status, 403)
      assert.equal(await isSignedIn(visitor), true)
    })
  })

  describe(`a session expires, on ${engine.name}`, () => {
    test('at the configured time', async (t) => {
      const { stage, visitor, isSignedIn } = await signedIn(t, engine, {
        sessions: { idleTtl: 1800, absoluteTtl: 3600 },
      })
      for (const isIn of [true, true, false]) {
        stage.clock.advance(21 * minute)
        assert.equal(await isSignedIn(visitor), isIn)
      }
    })
  })

  describe(`messages to a browser that another user uses, on ${engine.name}`, () => {
    const subject = 'mailto:ops@id.example'
    const config = { webPush: { subject } }

    async function toldHere(t: TestContext) {
      const service = await openPushService(t)
      const browser = service.newBrowser()
      const scene = await signedIn(t, engine, config)
      await subscribe(scene.visitor, browser.subscription)
      const told = async (who: typeof ana | typeof ben) => {
        const before = browser.received.length
        await scene.stage.ring('kiosk', { login_hint: who.email })
        await scene.stage.doorbell.idle()
        return browser.received.length - before
      }
      assert.equal(await told(ana), 1)
      return { ...scene, browser, told }
    }

    test('end when their user signs out', async (t) => {
      const { visitor, told } = await toldHere(t)
      await signOut(visitor)
      assert.equal(await told(ana), 0)
    })

    test('end when their user signs out after the session has expired', async (t) => {
      const { stage, visitor, told } = await toldHere(t)
      stage.clock.advance(25 * hour)
      await visitor.post('/session/end', {})
      assert.equal(await told(ana), 0)
    })

    test('end when another user signs in there, though the first has not signed out', async (t) => {
      const { stage, visitor, told } = await toldHere(t)
      stage.clock.advance(25 * hour)
      await visitor.signIn(ben)
      assert.equal(await told(ana), 0)
      assert.equal(await told(ben), 0, 'who has not subscribed')
    })

    test('end when a page reports the subscription, in a browser without cookies', async (t) => {
      const { stage, browser, told } = await toldHere(t)
      const bens = openVisitor(stage.url)
      await bens.signIn(ben)
      const claim = async () => {
        const form_token = formTokenOn(await bens.get('/'))
        return JSON.parse(
          (await bens.post('/notifications/claim', { form_token, endpoint: browser.subscription.endpoint })).text,
        )
      }
      assert.deepEqual(await claim(), { subscribed: false, ended_another: true })
      assert.deepEqual(await claim(), { subscribed: false, ended_another: false })
      assert.equal(await told(ana), 0)
      await subscribe(bens, browser.subscription)
      assert.deepEqual(await claim(), { subscribed: true, ended_another: false })
      assert.deepEqual([await told(ana), await told(ben)], [0, 1])
    })

    test('go on when the same user signs in again', async (t) => {
      const { visitor, told } = await toldHere(t)
      await visitor.signIn(ana, '/session/start?as=another')
      assert.equal(await told(ana), 1)
    })
  })
}

describe('by default a session ends', () => {
  test('after a day without use', async (t) => {
    const { stage, visitor, isSignedIn } = await signedIn(t, engines[0]!)
    for (let use = 0; use < 3; use++) {
      stage.clock.advance(23 * hour)
      assert.equal(await isSignedIn(visitor), true)
    }
    stage.clock.advance(24 * hour)
    assert.equal(await isSignedIn(visitor), false)
  })

  test('a fortnight after its user was authenticated, however often it was used', async (t) => {
    const { stage, visitor, isSignedIn } = await signedIn(t, engines[0]!)
    for (let use = 0; use < 16; use++) {
      stage.clock.advance(20 * hour)
      assert.equal(await isSignedIn(visitor), true, `after ${(use + 1) * 20} hours`)
    }
    stage.clock.advance(17 * hour)
    assert.equal(await isSignedIn(visitor), false)
  })
})

async function signedIn(t: TestContext, engine: Engine, config: ConfigInput = {}) {
  const gate = createGate()
  const open: typeof openDatabase = async (...given) => {
    const database = await openDatabase(...given)
    const { step } = database
    database.step = async (first, options) => {
      if (first.sql.startsWith('insert into oidc_models')) await gate.pass()
      return step(first, options)
    }
    return database
  }
  const stage = await openStage(t, { engine, config, parts: { openDatabase: open } })
  const visitor = openVisitor(stage.url)
  await visitor.signIn(ana)
  /** Whether the provider still has a session for the browser. The app's own session is removed first. */
  const isSignedIn = async (who: Visitor) => {
    who.jar.delete('doorbell_app')
    who.jar.delete('doorbell_app_signed_out')
    const seen = await who.follow(await who.get('/'))
    assert.match(seen.text, /<h1>(Sign in|Waiting for you)<\/h1>/)
    return /Signed in as/.test(seen.text)
  }
  return { stage, visitor, isSignedIn, gate }
}

async function signOut(visitor: Visitor) {
  return visitor.post('/session/end', { form_token: formTokenOn(await visitor.get('/')) })
}

async function subscribe(visitor: Visitor, subscription: { endpoint: string }) {
  const form_token = formTokenOn(await visitor.get('/'))
  const form = { form_token, subscription: JSON.stringify(subscription), endpoint: subscription.endpoint }
  const { location } = await visitor.post('/notifications', form)
  assert.equal(location, '/')
}
