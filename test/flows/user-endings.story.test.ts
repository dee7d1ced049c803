/**
 * A user is removed, locked or signed out. After that, no session, token or request of the user works, even if the user
 * is unlocked or the id is used again.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { UserEnding } from '../../src/endings/end-user.ts'
import type { Statement } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import {
  type Authenticator,
  type CreationOptions,
  createAuthenticator,
  pressPasskey,
} from '../support/authenticator.ts'
import { openBrowser } from '../support/browser.ts'
import { byCommand, type Commands, dora } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate, type Gate } from '../support/gate.ts'
import { codeFor, signIn, startSignIn } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ben, credentials, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openVisitor, type Visitor } from '../support/visitor.ts'

/** Commands that end the sessions and codes of a user. */
const endingsOfCodes: Record<string, (commands: Commands) => Promise<boolean>> = {
  removed: ({ endUser }) => endUser(dora.id, 'removed', { mustBe: 'added', by: 'command' }),
  erased: ({ endUser }) => endUser(dora.id, 'erased', { by: 'command' }),
  locked: ({ endUser }) => endUser(dora.id, 'locked', { by: 'command' }),
  'signed out': ({ endUser }) => endUser(dora.id, 'signed_out', { by: 'command' }),
  'given another password': ({ setPassword }) => setPassword(dora.id, 'another one'),
}

for (const engine of engines) {
  describe(`what a user had, on ${engine.name}`, () => {
    for (const ending of ['removed', 'locked', 'signed_out'] as UserEnding[]) {
      test(`stops working once the user is ${ending}, permanently`, async (t) => {
        const { stage, had } = await scene(t, { engine })
        assert.deepEqual(await whatWorks(stage, had), everything)
        await byCommand(stage, ({ endUser }) => endUser(dora.id, ending, { mustBe: 'added', by: 'command' }))
        // A passkey does not belong to a session. So a user who was signed out everywhere can still sign in with it.
        const passkey = ending !== 'removed'
        assert.deepEqual(await whatWorks(stage, had), { ...nothing, passkey: ending === 'signed_out' })
        await byCommand(stage, async ({ addDora, unlock }) => {
          if (ending === 'removed') assert.equal(await addDora({ isSamePerson: true }), true)
          if (ending === 'locked') assert.equal(await unlock(dora.id), true)
        })
        // A user who was unlocked has the passkey again. Nothing else from before the ending is valid again.
        assert.deepEqual(await whatWorks(stage, had), { ...nothing, passkey })
        const anew = await signIn(stage, dora)
        assert.equal(await asksTheDeviceApi(stage, anew.access_token), true)
      })
    }

    test('stops working with a new password, which is the only one from then on', async (t) => {
      const { stage, had } = await scene(t, { engine })
      await byCommand(stage, ({ setPassword }) => setPassword(dora.id, 'another one'))
      assert.deepEqual(await whatWorks(stage, had), { ...nothing, passkey: true })
      await assert.rejects(signIn(stage, dora))
      assert.ok(await signIn(stage, { ...dora, password: 'another one' }))
    })

    test('ends when the configuration no longer has the user, or has the user as disabled', async (t) => {
      const { stage, had } = await scene(t, { engine, config: { users: [dora] }, added: false })
      const other = { id: 'other', username: 'other', password: 'x' }
      await stage.restart({ users: [other] })
      assert.deepEqual(await whatWorks(stage, had), nothing)
      await stage.restart({ users: [dora] })
      assert.deepEqual(await whatWorks(stage, had), nothing, 'another user may have the name now')
      const anew = await signIn(stage, dora)
      await stage.restart({ users: [{ ...dora, disabled: true }] })
      await stage.restart({ users: [dora] })
      assert.equal(await asksTheDeviceApi(stage, anew.access_token), false)
      assert.equal((await stage.ring('kiosk', { login_hint: 'dora' })).status, 200, 'and can be asked again')
    })

    test('a name can be given to another user, an id cannot', async (t) => {
      const { stage } = await scene(t, { engine })
      await byCommand(stage, async ({ endUser, addDora }) => {
        await endUser(dora.id, 'removed', { mustBe: 'added', by: 'command' })
        assert.equal(await addDora(), false)
        assert.equal(await endUser(dora.id, 'removed', { mustBe: 'added', by: 'command' }), false, 'no such user')
        assert.equal(await addDora({ isSamePerson: true }), true)
      })
    })

    test('what is being issued at the moment of the ending does not work either', async (t) => {
      const gate = createGate()
      const { stage, had } = await scene(t, { engine, parts: { openDatabase: gatedAt(keeping('AccessToken'), gate) } })
      gate.hold()
      const refreshing = refresh(stage, had.refreshToken)
      await gate.waiting(1)
      await byCommand(stage, ({ endUser }) => endUser(dora.id, 'signed_out', { by: 'command' }))
      gate.release()
      const { body } = await refreshing
      assert.equal((await introspect(stage, body.access_token)).active, false)
      assert.equal(await userinfo(stage, body.access_token), 401)
      const kept = `select model from oidc_models where user_id = $1 and model = 'AccessToken'`
      assert.equal((await rowsOf(stage, kept, [dora.id])).length, 1, 'it was written after the ending')
    })

    for (const model of ['Interaction', 'Session']) {
      test(`a sign-in whose password was checked before does not work either: held up before its ${model} is stored`, async (t) => {
        const gate = createGate()
        const { stage } = await scene(t, { engine, parts: { openDatabase: gatedAt(keeping(model), gate) } })
        const visitor = openVisitor(stage.url)
        gate.hold()
        const signingIn = visitor.signIn(dora)
        await gate.waiting(1)
        await byCommand(stage, ({ setPassword }) => setPassword(dora.id, 'another one'))
        gate.release()
        await signingIn.catch(() => {})
        assert.equal(await isSignedIn(visitor), false)
      })
    }

    test('a sign-in that a removed user has begun does not become that of a new user with the same name', async (t) => {
      const stage = await openStage(t, { engine })
      await byCommand(stage, ({ addDora }) => addDora())
      const visitor = openVisitor(stage.url)
      const page = await visitor.follow(await visitor.get('/'))
      const action = /<form method="post" action="(\/sign-in\/[^"/]+)">/.exec(page.text)![1]!
      const next = await visitor.post(action, { name: dora.username, password: dora.password })
      assert.equal(next.status, 303, 'the password was right, and the browser has not been redirected yet')
      await byCommand(stage, ({ endUser }) => endUser(dora.id, 'erased', { by: 'command' }))
      assert.deepEqual(await rowsOf(stage, 'select model from oidc_models where user_id = $1', [dora.id]), [])
      await stage.restart({ users: [{ ...dora, password: 'of somebody else' }] })
      await visitor.follow(next)
      assert.equal(await isSignedIn(visitor), false)
    })

    for (const [ending, end] of Object.entries(endingsOfCodes)) {
      test(`an authorization code from before does not work once the user is ${ending}`, async (t) => {
        const stage = await openStage(t, { engine })
        await byCommand(stage, ({ addDora }) => addDora())
        const browser = openBrowser(stage.url)
        const usual = await codeFor(stage, dora, browser)
        assert.equal((await usual.exchange()).status, 200, 'as it would be without the ending')
        const [first, second] = [await codeFor(stage, dora, browser), await codeFor(stage, dora, browser)]
        const bens = await codeFor(stage, ben)
        await byCommand(stage, end)
        const { status, body } = await first.exchange()
        assert.deepEqual([status, body.error], [400, 'invalid_grant'])
        await byCommand(stage, async ({ addDora, unlock }) => {
          if (ending === 'locked') await unlock(dora.id)
          if (ending === 'removed') await addDora({ isSamePerson: true })
        })
        assert.equal((await second.exchange()).body.error, 'invalid_grant', 'nor when she is unlocked')
        assert.equal((await bens.exchange()).status, 200, 'sessions of other users stay')
      })
    }

    test('an approval that is collected while the user ends brings no tokens', async (t) => {
      const gate = createGate()
      const { stage } = await scene(t, { engine, parts: { openDatabase: gatedAt(redeeming, gate) } })
      const { authReqId } = await approved(stage)
      gate.hold()
      const polling = stage.poll('kiosk', authReqId)
      await gate.waiting(1)
      await byCommand(stage, ({ endUser }) => endUser(dora.id, 'locked', { by: 'command' }))
      gate.release()
      assert.equal((await polling).status, 400)
      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'access_denied')
    })
  })
}

interface Had {
  visitor: Visitor
  browser: Awaited<ReturnType<typeof startSignIn>>['browser']
  signInUrl: string
  appToken: unknown
  accessToken: unknown
  refreshToken: unknown
  authenticator: Authenticator
}

const everything = {
  app: true,
  session: true,
  deviceApi: true,
  userinfo: true,
  introspection: true,
  refresh: true,
  messages: true,
  passkey: true,
}
const nothing = Object.fromEntries(Object.keys(everything).map((what) => [what, false]))

type SceneOptions = StageOptions & { engine: Engine; added?: boolean }

/** Dora has signed in everywhere, added a passkey, and approved a request. */
async function scene(t: TestContext, { added = true, ...options }: SceneOptions): Promise<{ stage: Stage; had: Had }> {
  const stage = await openStage(t, options)
  if (added) await byCommand(stage, ({ addDora }) => addDora())
  const visitor = openVisitor(stage.url)
  await visitor.signIn(dora)
  const { browser, page, tokens } = await startSignIn(stage)
  const consent = await browser.submit(page, { name: dora.username, password: dora.password })
  const appToken = (await tokens((await browser.submit(consent)).url)).access_token
  const bearer = `Bearer ${appToken}`
  const authenticator = createAuthenticator(stage.url)
  // oidc-provider uses the real clock. By the clock of the stage, Dora's sign-in would be in the future.
  stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
  const { body: creation, text } = await stage.post('/backchannel/passkeys/options', {}, bearer)
  assert.ok(creation.rp, text)
  const passkey = authenticator.create(creation as unknown as CreationOptions)
  assert.equal((await stage.post('/backchannel/passkeys', { passkey }, bearer)).status, 201)
  const subscription = JSON.stringify((await openPushService(t)).newBrowser().subscription)
  assert.equal((await stage.post('/backchannel/push-subscriptions', { subscription }, bearer)).status, 201)
  const { authReqId } = await approved(stage)
  const { body } = await stage.poll('kiosk', authReqId)
  assert.ok(body.refresh_token, JSON.stringify(body))
  return {
    stage,
    had: {
      visitor,
      browser,
      signInUrl: page.url,
      appToken,
      accessToken: body.access_token,
      refreshToken: body.refresh_token,
      authenticator,
    },
  }
}

async function approved(stage: Stage) {
  const { body } = await stage.ring('kiosk', { login_hint: 'dora', scope: 'openid offline_access' })
  await stage.decide(await stage.newestRequest('dora'), 'approved', { login_hint: 'dora' })
  return { authReqId: body.auth_req_id }
}

async function whatWorks(stage: Stage, had: Had): Promise<Record<string, boolean>> {
  const { page } = await startSignIn(stage, {}, {}, had.browser)
  return {
    app: await isSignedIn(had.visitor),
    session: !page.text.includes('name="password"'),
    deviceApi: await asksTheDeviceApi(stage, had.appToken),
    userinfo: (await userinfo(stage, had.accessToken)) === 200,
    introspection: (await introspect(stage, had.accessToken)).active === true,
    refresh: (await refresh(stage, had.refreshToken)).status === 200,
    messages: await isToldAnywhere(stage),
    passkey: await signsInByPasskey(stage, had.authenticator),
  }
}

const userinfo = async (stage: Stage, token: unknown) =>
  (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status

const introspect = async (stage: Stage, token: unknown) =>
  (await stage.post('/oauth/introspect', { token: String(token) }, credentials.kiosk)).body

const refresh = (stage: Stage, token: unknown) =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: String(token) }, credentials.kiosk)

const asksTheDeviceApi = async (stage: Stage, token: unknown) =>
  (await stage.get('/backchannel/authinfo', { authorization: `Bearer ${token}` })).status === 200

const isSignedIn = async (visitor: Visitor) => (await visitor.get('/activity')).status === 200

/** Whether any browser is notified of Dora's pending requests. */
const isToldAnywhere = async (stage: Stage) =>
  (await rowsOf(stage, 'select id from push_subscriptions where user_id = $1', [dora.id])).length > 0

async function signsInByPasskey(stage: Stage, authenticator: Authenticator): Promise<boolean> {
  const { browser, page } = await startSignIn(stage)
  const next = await pressPasskey(browser, page, authenticator)
  return !next.text.includes('name="password"')
}

type Matches = (first: Statement) => boolean

/** Matches the statement that stores a model of Dora. */
const keeping =
  (model: string): Matches =>
  (first) =>
    'rows' in first
      ? first.rows.some((row) => row.model === model && row.user_id === dora.id)
      : [model, dora.id].every((value) => first.values.includes(value))

const redeeming: Matches = ({ sql }) => sql.includes("set status = 'redeemed'")

/** Holds up steps that match, until the gate is opened. */
function gatedAt(matches: Matches, gate: Gate): typeof openDatabase {
  return async (...about) => {
    const database = await openDatabase(...about)
    return {
      ...database,
      get listening() {
        return database.listening
      },
      get epoch() {
        return database.epoch
      },
      async step(first, options = {}) {
        if (matches(first)) await gate.pass()
        return database.step(first, options)
      },
    }
  }
}
