/**
 * A consent takes effect when the browser follows the redirect after the consent page. If the user cancels before that,
 * the client gets `access_denied`, and the grant of the session does not change.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { ana, ben } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import type { Visitor } from '../support/visitor.ts'
import { grantsOf, heardAt, openShop, pageFor, silently, tabOf, visitorWith } from './shop-consents.ts'

const cancel = { cancel: '1' }

for (const engine of engines) {
  describe(`a consent that is cancelled, on ${engine.name}`, () => {
    for (const before of ['openid', undefined]) {
      test(`allowed, then cancelled: nothing is granted (before: ${before ?? 'no grant'})`, async (t) => {
        const stage = await openShop(t, { engine })
        const visitor = await visitorWith(stage, before)
        const grants = await grantsOf(stage)
        const page = await pageFor(visitor, 'openid email')
        assert.equal((await visitor.post(page, {})).status, 303)
        // The user opens the page again, in another tab or with the Back button.
        assert.equal((await visitor.get(page)).status, 200)
        const { location } = await visitor.post(page, cancel)
        assert.equal(await heardAt(visitor, location), 'access_denied')
        assert.equal(await silently(visitor, 'openid email'), 'consent_required')
        assert.equal(await silently(visitor, 'openid'), before === undefined ? 'consent_required' : 'code')
        assert.equal(await grantsOf(stage), grants)
      })
    }

    test('allowed twice, or cancelled and then allowed: the last answer counts', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await pageFor(visitor, 'openid email')
      for (const form of [cancel, {}, {}]) assert.equal((await visitor.post(page, form)).status, 303)
      const { location } = await visitor.post(page, {})
      assert.equal(await silently(visitor, 'openid email'), 'consent_required')
      assert.equal(await heardAt(visitor, location), 'code')
      assert.equal(await silently(visitor, 'openid email'), 'code')
      assert.equal(await grantsOf(stage), 1)
      assert.equal((await visitor.post(page, cancel)).status, 410)
      assert.equal(await silently(visitor, 'openid email'), 'code')
    })

    test('allowed and cancelled at once: the client hears what is granted, and only once', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await pageFor(visitor, 'openid email')
      const answers = await Promise.all([{}, cancel, {}, cancel].map((form) => visitor.post(page, form)))
      for (const { status } of answers) assert.equal(status, 303)
      const heard = await heardAt(visitor, answers[0]?.location)
      assert.ok(['code', 'access_denied'].includes(heard), heard)
      assert.equal(await silently(visitor, 'openid email'), heard === 'code' ? 'code' : 'consent_required')
    })

    test('a sign-in that was continued while its page was being answered gets no other answer', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await pageFor(visitor, 'openid email')
      const [uid] = page.split('/').slice(-1)
      const other = tabOf(visitor, stage.url)
      const { location } = await visitor.post(page, cancel)
      // At the same time, the user presses Allow in another tab. The order in which the two calls are processed varies.
      const [heard, late] = await Promise.all([heardAt(visitor, location), other.post(page, {})])
      assert.ok([303, 410].includes(late.status), `${late.status}`)
      assert.equal(await silently(visitor, 'openid email'), heard === 'code' ? 'code' : 'consent_required')
      assert.equal((await visitor.get(`/oauth/authorize/${uid}`)).status, 400)
      assert.equal((await rowsOf(stage, "select id_hash from oidc_models where model = 'Interaction'")).length, 0)
    })

    test('two consents of one browser: the one that is cancelled takes nothing from the other', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const other = tabOf(visitor, stage.url)
      const first = await pageFor(other, 'openid email')
      const second = await pageFor(visitor, 'openid profile')
      await other.post(first, {})
      const allowed = await visitor.post(second, {})
      const cancelled = await other.post(first, cancel)
      assert.equal(await heardAt(other, cancelled.location), 'access_denied')
      for (const name of ['doorbell_session', 'doorbell_session.sig']) takeCookie(other, visitor, name)
      assert.equal(await heardAt(visitor, allowed.location), 'code')
      assert.equal(await silently(visitor, 'openid profile'), 'code')
      assert.equal(await silently(visitor, 'openid email'), 'consent_required')
      assert.equal(await grantsOf(stage), 1)
    })

    test('a consent stays while more is asked: after its grant was removed, the user is asked once more', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await pageFor(visitor, 'openid email')
      const { location = '' } = await visitor.post(page, {})
      await removeGrants(stage.database)
      const { location: again = '' } = await visitor.get(location)
      assert.match(again, /^\/sign-in\//)
      assert.equal(await heardAt(visitor, (await visitor.post(again, {})).location), 'code')
      assert.equal(await silently(visitor, 'openid email'), 'code')
    })

    test('a further sign-in page after the consent: cancelled there, nothing is granted', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await signInAgain(t, visitor)
      const { location } = await visitor.post(page, cancel)
      assert.equal(await heardAt(visitor, location), 'access_denied')
      assert.equal(await silently(visitor, 'openid email'), 'consent_required')
    })

    test('signed in there, the consent counts', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await signInAgain(t, visitor)
      const { location } = await visitor.post(page, { name: ana.username, password: ana.password })
      assert.equal(await heardAt(visitor, location), 'code')
      assert.equal(await silently(visitor, 'openid email'), 'code')
      assert.equal(await grantsOf(stage), 1)
    })

    test('if somebody else signs in there, this user is asked', async (t) => {
      const stage = await openShop(t, { engine })
      const visitor = await visitorWith(stage, 'openid')
      const page = await signInAgain(t, visitor)
      const { location = '' } = await visitor.post(page, { name: ben.username, password: ben.password })
      const signOut = await visitor.get(location)
      const [, action = ''] = /action="[^"]*?(\/oauth\/[^"]+)"/.exec(signOut.text) ?? []
      const [, xsrf = ''] = /name="xsrf" value="([^"]+)"/.exec(signOut.text) ?? []
      const asked = await visitor.follow(await visitor.post(action, { xsrf, logout: 'yes' }))
      assert.match(asked.text, /name="cancel"/)
      assert.doesNotMatch(asked.text, /name="password"/)
      assert.equal(await silently(visitor, 'openid'), 'consent_required')
    })
  })
}

async function removeGrants(url: string): Promise<void> {
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  try {
    const removed = await database.step({
      sql: "delete from oidc_models where model = 'Grant' returning model",
      values: [],
    })
    assert.ok(removed.length > 0)
  } finally {
    await database.close()
  }
}

function takeCookie(from: Visitor, to: Visitor, name: string): void {
  const value = from.jar.get(name)
  if (value !== undefined) to.jar.set(name, value)
}

/**
 * Ana consents to the scope `email`, but so late that she has to sign in again. Resolves to the path of the sign-in
 * page.
 */
async function signInAgain(t: TestContext, visitor: Visitor): Promise<string> {
  const page = await pageFor(visitor, 'openid email', { max_age: '1000' })
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 1_100_000 })
  const { location: resume = '' } = await visitor.post(page, {})
  const { location = '' } = await visitor.get(resume)
  t.mock.timers.reset()
  assert.match(location, /^\/sign-in\//)
  assert.match((await visitor.get(location)).text, /name="password"/)
  return location
}
