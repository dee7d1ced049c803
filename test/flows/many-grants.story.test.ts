/**
 * Grants that a user gives to a client at the authorization endpoint. Each session has one grant. It is stored when the
 * browser follows the redirect after the consent. Tokens of an earlier consent stay valid.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { openBrowser } from '../support/browser.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openVisitor } from '../support/visitor.ts'

const offline = { scope: 'openid email offline_access', prompt: 'consent' }
const pocketApp = { id: 'pocket-app' }
/** The shop is a web application, so that it may ask with `prompt=none`. */
const shopAddress = 'https://shop.example/callback'

/** The pocket app refreshes; other limits are high enough for each test. */
const scene = (t: TestContext, engine: Engine) =>
  openStage(t, {
    engine,
    config: {
      limits: { signIn: { openPerNetwork: 1000 } },
      clients: [
        {
          client_id: pocketApp.id,
          application_type: 'native',
          token_endpoint_auth_method: 'none',
          grant_types: ['authorization_code', 'refresh_token'],
          redirect_uris: ['http://127.0.0.1/callback'],
          scope: 'openid email profile offline_access',
        },
        {
          client_id: 'shop',
          token_endpoint_auth_method: 'none',
          grant_types: ['authorization_code'],
          redirect_uris: [shopAddress],
          scope: 'openid email',
        },
      ],
    },
  })

/** The number of stored grants, by user and client. */
async function grantsOf(stage: Stage): Promise<Record<string, number>> {
  const rows = await rowsOf(
    stage,
    `select user_id, client_id, count(*) as number from oidc_models where model = 'Grant'
     group by user_id, client_id order by user_id, client_id`,
  )
  return Object.fromEntries(rows.map(({ user_id, client_id, number }) => [`${user_id} ${client_id}`, Number(number)]))
}

const authorizePath = async (more: Record<string, string> = {}) =>
  `/oauth/authorize?${new URLSearchParams({
    client_id: 'phone-app',
    redirect_uri: 'http://127.0.0.1/callback',
    response_type: 'code',
    scope: 'openid ciba:decide',
    code_challenge: await openid.calculatePKCECodeChallenge(openid.randomPKCECodeVerifier()),
    code_challenge_method: 'S256',
    ...more,
  })}`

/** Whether the app can refresh. */
async function refreshes(stage: Stage, refresh_token: string | undefined): Promise<boolean> {
  const form = { grant_type: 'refresh_token', client_id: pocketApp.id, refresh_token: String(refresh_token) }
  return (await stage.post('/oauth/token', form)).status === 200
}

for (const engine of engines) {
  describe(`grants at the authorization endpoint, on ${engine.name}`, () => {
    test('150 consents whose redirect is not followed leave no grant, and none that is used is lost', async (t) => {
      const stage = await scene(t, engine)
      const used = await signIn(stage, ana, offline, pocketApp)
      const bens = await signIn(stage, ben, offline, pocketApp)
      const visitor = openVisitor(stage.url)
      await visitor.signIn(ana)
      const before = await grantsOf(stage)
      for (const client_id of ['phone-app', pocketApp.id]) {
        const path = await authorizePath({ client_id, scope: 'openid' })
        for (let number = 0; number < 150; number++) {
          stage.clock.advance(1)
          const { location: page = '' } = await visitor.get(path)
          assert.equal((await visitor.post(page, {})).status, 303)
        }
      }
      assert.deepEqual(await grantsOf(stage), before)
      assert.equal((await visitor.get('/activity')).status, 200)
      for (const { refresh_token } of [used, bens]) assert.equal(await refreshes(stage, refresh_token), true)
    })

    test('150 consents whose code is not used leave one grant of the session', async (t) => {
      const stage = await scene(t, engine)
      const visitor = openVisitor(stage.url)
      await visitor.signIn(ana)
      const before = await grantsOf(stage)
      const path = await authorizePath({ client_id: pocketApp.id, scope: 'openid', prompt: 'consent' })
      for (let number = 0; number < 150; number++) {
        stage.clock.advance(1)
        const { location: page = '' } = await visitor.get(path)
        const { location: resuming = '' } = await visitor.post(page, {})
        assert.match((await visitor.get(resuming)).location ?? '', /[?&]code=/)
      }
      assert.deepEqual(await grantsOf(stage), { ...before, 'user-ana pocket-app': 1 })
    })

    describe('a consent that is cancelled before the browser follows the redirect', () => {
      /**
       * Presses buttons of the consent page for more scopes. Resolves to the answer that the client gets, and to the
       * scopes that it may have after that.
       */
      async function afterPressing(stage: Stage, hasGrant: boolean, buttons: ('allow' | 'cancel')[], atOnce = false) {
        const visitor = openVisitor(stage.url)
        await visitor.signIn(ana)
        const more = { client_id: 'shop', redirect_uri: shopAddress, scope: 'openid email' }
        if (hasGrant) {
          const { location: page = '' } = await visitor.get(await authorizePath({ ...more, scope: 'openid' }))
          await visitor.get((await visitor.post(page, {})).location!)
        }
        const { location: page = '' } = await visitor.get(await authorizePath(more))
        const press = (button: string) => visitor.post(page, button === 'cancel' ? { cancel: '1' } : {})
        const pressed = []
        if (atOnce) pressed.push(...(await Promise.all(buttons.map(press))))
        else for (const button of buttons) pressed.push(await press(button))
        const heard = (await visitor.get(pressed.at(-1)!.location!)).location ?? ''
        const later = await visitor.get(await authorizePath({ ...more, prompt: 'none' }))
        return { heard: answerIn(heard), later: answerIn(later.location ?? '') }
      }
      const answerIn = (location: string) => {
        const parameters = new URL(location).searchParams
        return parameters.has('code') ? 'code' : parameters.get('error')
      }
      const refused = { heard: 'access_denied', later: 'consent_required' }
      const given = { heard: 'code', later: 'code' }

      for (const hasGrant of [true, false]) {
        test(`is not given, and the last button counts, ${hasGrant ? 'with' : 'without'} an earlier grant of the session`, async (t) => {
          const stage = await scene(t, engine)
          assert.deepEqual(await afterPressing(stage, hasGrant, ['allow', 'cancel']), refused)
          assert.deepEqual(await afterPressing(stage, hasGrant, ['allow', 'allow', 'cancel', 'cancel']), refused)
          assert.deepEqual(await afterPressing(stage, hasGrant, ['cancel', 'allow']), given)
          assert.deepEqual(await afterPressing(stage, hasGrant, ['allow']), given)
          assert.deepEqual(await afterPressing(stage, hasGrant, ['allow', 'allow']), given)
          const { heard, later } = await afterPressing(stage, hasGrant, ['allow', 'cancel'], true)
          assert.equal(later, heard === 'code' ? 'code' : 'consent_required')
        })
      }
    })

    test('consents that were begun at the same time in one browser share one grant, and each gives tokens', async (t) => {
      const stage = await scene(t, engine)
      const browser = openBrowser(stage.url)
      const first = await startSignIn(stage, offline, pocketApp, browser)
      const pages = [await browser.submit(first.page, { name: ana.username, password: ana.password })]
      const others = [first]
      for (let number = 0; number < 3; number++) {
        const other = await startSignIn(stage, offline, pocketApp, browser)
        others.push(other)
        pages.push(other.page)
      }
      const all = []
      for (const [index, { tokens }] of others.entries()) {
        all.push(await tokens((await browser.submit(pages[index]!)).url))
      }
      assert.deepEqual(await grantsOf(stage), { 'user-ana pocket-app': 1 })
      for (const { refresh_token } of all) assert.equal(await refreshes(stage, refresh_token), true)
    })

    test('a user who consents again, to more, leaves the earlier tokens valid, with their own scope', async (t) => {
      const stage = await scene(t, engine)
      const browser = openBrowser(stage.url)
      const begun = await startSignIn(stage, { ...offline, scope: 'openid offline_access' }, pocketApp, browser)
      const consent = await browser.submit(begun.page, { name: ana.username, password: ana.password })
      const earlier = await begun.tokens((await browser.submit(consent)).url)
      const again = await startSignIn(stage, offline, pocketApp, browser)
      const later = await again.tokens((await browser.submit(again.page)).url)
      assert.deepEqual(await grantsOf(stage), { 'user-ana pocket-app': 1 })
      const userinfo = async (token: string) =>
        (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).body
      assert.deepEqual(await userinfo(earlier.access_token), { sub: ana.id })
      assert.equal((await userinfo(later.access_token)).email, ana.email)
      const form = { grant_type: 'refresh_token', client_id: pocketApp.id, refresh_token: earlier.refresh_token! }
      assert.equal((await stage.post('/oauth/token', form)).body.scope, 'openid offline_access')
    })
  })
}
