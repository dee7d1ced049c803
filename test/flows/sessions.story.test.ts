/** Ana sees where she is signed in, and signs out there or everywhere. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { mostSessions } from '../../src/endings/user-session-store.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import type { Language } from '../../src/platform/i18n/texts.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { auditOf } from '../support/audit.ts'
import { type Browser, openBrowser } from '../support/browser.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { listenToStatements } from '../support/statements.ts'
import { rowsOf } from '../support/tables.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'

const minute = 60_000
const firefox = { 'user-agent': 'Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0' }

for (const engine of engines) {
  describe(`sessions, on ${engine.name}`, () => {
    test('Ana sees both of her browsers, which of them is the current one, and none of Ben’s', async (t) => {
      const { stage, home, office } = await scene(t, engine)
      stage.clock.advance(11 * 60_000)
      await comeBack(office, firefox)
      const { text } = await office.get('/sessions')
      assert.equal(text.match(/<article/g)?.length, 2)
      const [first, second] = text.split('<article').slice(1)
      assert.match(first!, /<h2>Firefox · Windows<\/h2>/)
      assert.match(first!, /This browser/)
      assert.match(second!, /<h2>Unknown browser<\/h2>/)
      assert.doesNotMatch(second!, /This browser/)
      assert.equal((await rowsOf(stage, 'select id from user_sessions')).length, 3, 'on return it is the same session')
      await comeBack(home)
      assert.match((await home.get('/sessions')).text, /Firefox · Windows/)
    })

    test('the page says in her language that sessions also end by themselves, and that approvals stay', async (t) => {
      const { office } = await scene(t, engine)
      for (const [language, [endsByItself, approvalsStay]] of Object.entries(saidInHerLanguage)) {
        const { text } = await office.get('/sessions', { 'accept-language': language })
        assert.match(text, endsByItself)
        assert.match(text, approvalsStay)
      }
    })

    test('she signs out of one from the other', async (t) => {
      const { home, office, bens } = await scene(t, engine)
      const seen = await act(office, { id: idOf((await office.get('/sessions')).text) })
      assert.equal(seen.location, '/sessions?done=ended')
      assert.match((await home.get('/')).location ?? '', /^\/session\/start/, 'its token is refused')
      assert.deepEqual(await Promise.all([home, office, bens].map(isSignedIn)), [false, true, true])
    })

    test('Ben cannot end her sessions', async (t) => {
      const { home, office, bens } = await scene(t, engine)
      await act(bens, { id: idOf((await office.get('/sessions')).text) })
      assert.deepEqual(await Promise.all([home, office, bens].map(isSignedIn)), [true, true, true])
    })

    test('she signs out everywhere, also of apps; clients keep what was approved', async (t) => {
      const { stage, home, office, bens } = await scene(t, engine)
      const parameters = { scope: 'openid offline_access ciba:decide', prompt: 'consent' }
      const tokens = await signIn(stage, ana, parameters, { id: 'tablet' })
      const { body } = await stage.ring('kiosk')
      await stage.decide(await stage.newestRequest(), 'approved')
      const approved = await stage.poll('kiosk', body.auth_req_id)
      assert.equal(approved.status, 200)

      const collectedLater = (await stage.ring('kiosk')).body.auth_req_id
      await stage.decide(await stage.newestRequest(), 'approved')
      const decidedLater = (await stage.ring('kiosk')).body.auth_req_id

      assert.equal((await act(office, { everywhere: 'true' })).location, '/session/start')
      assert.deepEqual(await Promise.all([home, office, bens].map(isSignedIn)), [false, false, true])
      const refresh = { grant_type: 'refresh_token', client_id: 'tablet', refresh_token: tokens.refresh_token! }
      assert.equal((await stage.post('/oauth/token', refresh)).body.error, 'invalid_grant')
      const bearer = (token: unknown) => ({ authorization: `Bearer ${token}` })
      assert.equal((await stage.get('/backchannel/authinfo', bearer(tokens.access_token))).status, 401)
      assert.equal((await stage.get('/oauth/userinfo', bearer(approved.body.access_token))).status, 200)
      assert.equal((await stage.poll('kiosk', collectedLater)).status, 200, 'approved before, collected after')
      await stage.decide(await stage.newestRequest(), 'approved')
      stage.clock.advance(minute)
      assert.equal((await stage.poll('kiosk', decidedLater)).status, 200, 'decided after')
    })

    test('she ends the session of an app that can decide requests: its refresh token ends too', async (t) => {
      const { stage, office } = await scene(t, engine)
      const app = await appOnPhone(stage, 'openid offline_access ciba:decide')
      const refreshed = await app.refresh()
      assert.equal(refreshed.status, 200)
      const endedToken = app.tokens.access_token
      await endPhone(office)
      assert.equal((await app.refresh()).body.error, 'invalid_grant')
      for (const token of [endedToken, refreshed.body.access_token]) {
        assert.equal((await stage.get('/backchannel/authinfo', { authorization: `Bearer ${token}` })).status, 401)
      }
      await stage.ring('kiosk')
      const decision = { request_id: await stage.newestRequest(), status: 'approved' }
      const decided = await stage.post('/backchannel/complete', decision, `Bearer ${refreshed.body.access_token}`)
      assert.equal(decided.status, 401)
    })

    test('she ends the session of an app that cannot decide requests: its refresh token stays', async (t) => {
      const { stage, office } = await scene(t, engine)
      const app = await appOnPhone(stage, 'openid offline_access')
      await endPhone(office)
      assert.equal((await app.refresh()).status, 200)
    })

    test('the session of an app expires by itself: its refresh token stays', async (t) => {
      const { stage } = await scene(t, engine, { sessions: { idleTtl: 3600, absoluteTtl: 3600 } })
      const app = await appOnPhone(stage, 'openid offline_access ciba:decide')
      stage.clock.advance(2 * 3600_000)
      await stage.doorbell.prune()
      assert.equal((await app.refresh()).status, 200)
    })

    test('a sign-in that is not finished, and the browsers that she has used, end with "everywhere"', async (t) => {
      const { stage, home, office } = await scene(t, engine, { limits: { signIn: { perName: 3 } } })
      // The right password was entered, but the browser has not followed the redirection yet.
      const unfinished = openVisitor(stage.url)
      const signIn = await signInPage(unfinished)
      const redirection = await unfinished.post(signIn, { name: ana.username, password: ana.password })
      await act(office, { everywhere: 'true' })
      assert.doesNotMatch((await unfinished.follow(redirection)).text, /Signed in as/)

      const unknown = openVisitor(stage.url)
      const statuses: number[] = []
      for (const visitor of [unknown, unknown, unknown, unknown, home]) {
        for (const name of [...visitor.jar.keys()]) if (name !== 'doorbell_browser') visitor.jar.delete(name)
        const page = await signInPage(visitor)
        statuses.push((await visitor.post(page, { name: ana.username, password: 'wrong' })).status)
      }
      assert.deepEqual(statuses.slice(-2), [429, 429], 'her former browser is paused like an unknown one')
    })

    test('a browser that signed in for another client is listed with its name, and she signs out of it', async (t) => {
      const { stage, office } = await scene(t, engine)
      stage.clock.advance(1000)
      const browser = openBrowser(stage.url, firefox)
      const { tokens } = await signInFor(stage, browser)
      const seen = (await office.get('/sessions')).text
      assert.equal(seen.match(/<article/g)?.length, 3)
      const [phones] = seen.split('<article').filter((one) => one.includes('<h2>Firefox · Windows</h2>'))
      assert.ok(phones, seen)
      assert.doesNotMatch(phones, /This browser/)
      const bearer = { authorization: `Bearer ${tokens.access_token}` }
      const { sessions } = (await stage.get('/backchannel/sessions', bearer)).body as { sessions: Listed[] }
      assert.deepEqual(
        sessions.map(({ browser, current }) => [browser, current]),
        [
          ['Firefox · Windows', true],
          ['', false],
          ['', false],
        ],
      )
      assert.doesNotMatch((await startSignIn(stage, {}, {}, browser)).page.text, /type="password"/)

      assert.equal((await act(office, { id: idOf(phones) })).location, '/sessions?done=ended')
      assert.match((await startSignIn(stage, {}, {}, browser)).page.text, /type="password"/)
      assert.equal((await stage.get('/backchannel/sessions', bearer)).status, 401)
      assert.equal((await office.get('/sessions')).text.match(/<article/g)?.length, 2)
    })

    test('a session that was unused for too long, or ended at the provider, is not listed', async (t) => {
      const { stage, office } = await scene(t, engine)
      stage.clock.advance(20 * 3_600_000)
      await comeBack(office)
      const third = openVisitor(stage.url)
      await third.signIn(ana)
      const listed = async () => (await office.get('/sessions')).text.match(/<article/g)?.length
      assert.equal(await listed(), 3)
      stage.clock.advance(5 * 3_600_000)
      await comeBack(office)
      assert.equal(await listed(), 2, 'the home browser was unused for a day')
      const xsrf = /name="xsrf" value="([^"]+)"/.exec((await third.get('/oauth/logout')).text)![1]!
      await third.post('/oauth/logout/confirm', { xsrf, logout: 'yes' })
      assert.equal(await listed(), 1)
    })

    test('the list is updated in the step that writes a session, and costs a CIBA flow nothing', async (t) => {
      const statements = listenToStatements()
      const stage = await openStage(t, { engine, parts: { workers: false, openDatabase: statements.openDatabase } })
      const noted = (sqls: string[]) => sqls.filter((sql) => sql.includes('user_sessions')).length
      const written = (sqls: string[]) => sqls.filter((sql) => sql.startsWith('insert into user_sessions')).length
      const browser = openBrowser(stage.url)
      const signingIn = await statements.during(() => signInFor(stage, browser))
      assert.ok(written(signingIn) > 0)
      const again = await statements.during(() => startSignIn(stage, {}, {}, browser))
      assert.equal(written(again), 1, 'once for the call that writes the session back')
      const flow = await statements.during(async () => {
        const { auth_req_id: id } = (await stage.ring('kiosk')).body
        assert.equal((await stage.poll('kiosk', id)).body.error, 'authorization_pending')
        await stage.decide(await stage.newestRequest(), 'approved')
        stage.clock.advance(60_000)
        const { status, body } = await stage.poll('kiosk', id)
        assert.equal(status, 200)
        const bearer = { authorization: `Bearer ${body.access_token}` }
        assert.equal((await stage.get('/oauth/userinfo', bearer)).status, 200)
      })
      assert.deepEqual([flow.length > 0, noted(flow)], [true, 0])
    })

    test('a sign-in beyond the hundred ends the session that was not used for the longest time', async (t) => {
      const stage = await openStage(t, { engine, config: { clients: [tablet] } })
      const [first, second] = [openBrowser(stage.url, firefox), openBrowser(stage.url)]
      const tokens = await Promise.all([first, second].map(async (browser) => (await signInFor(stage, browser)).tokens))
      const bens = openVisitor(stage.url)
      await bens.signIn(ben)
      stage.clock.advance(1000)
      await startSignIn(stage, {}, {}, first)
      await addSessions(stage, mostSessions - 2)
      const infoOf = async ({ access_token }: { access_token: string }) =>
        (await stage.get('/backchannel/authinfo', { authorization: `Bearer ${access_token}` })).status
      assert.deepEqual(await Promise.all(tokens.map(infoOf)), [200, 200])

      stage.clock.advance(1000)
      const newest = openVisitor(stage.url)
      await newest.signIn(ana)
      assert.deepEqual(await Promise.all(tokens.map(infoOf)), [200, 401])
      assert.match((await startSignIn(stage, {}, {}, second)).page.text, /type="password"/)
      assert.equal((await newest.get('/sessions')).text.match(/<article/g)?.length, mostSessions, 'all are listed')
      const rowsOfAna = async (table: string, where: string) =>
        (await rowsOf(stage, `select user_id from ${table} where user_id = 'user-ana' and ${where}`)).length
      assert.equal(await rowsOfAna('user_sessions', '1 = 1'), mostSessions)
      assert.equal(await rowsOfAna('oidc_models', "model = 'Session'"), mostSessions)
      assert.equal((await rowsOf(stage, 'select uid_hash from ended_sessions')).length, 1)
      assert.equal(auditOf(stage, 'session.ended').filter(({ outcome }) => outcome === 'too_many').length, 1)
      assert.equal(await isSignedIn(bens), true)

      await act(newest, { everywhere: 'true' })
      assert.equal(await rowsOfAna('oidc_models', "model = 'Session'"), 0)
    })

    test('after the clock was set back, sign-ins beyond the hundred end sessions of before', async (t) => {
      const stage = await openStage(t, { engine })
      await openVisitor(stage.url).signIn(ana)
      await addSessions(stage, mostSessions)
      stage.clock.setBack(3_600_000)
      const visitors = [openVisitor(stage.url), openVisitor(stage.url), openVisitor(stage.url)]
      for (const visitor of visitors) {
        stage.clock.advance(1000)
        await visitor.signIn(ana)
      }
      assert.deepEqual(await Promise.all(visitors.map(isSignedIn)), [true, true, true])
    })

    test('a session that its user has ended is not listed', async (t) => {
      const { stage, home } = await scene(t, engine)
      await home.post('/session/end', { form_token: formTokenOn(await home.get('/')) })
      assert.equal((await rowsOf(stage, `select id from user_sessions where user_id = 'user-ana'`)).length, 1)
    })
  })
}

const saidInHerLanguage: Record<Language, [endsByItself: RegExp, approvalsStay: RegExp]> = {
  en: [/ends automatically/, /approved stays valid: you can revoke it under Activity\./],
  de: [/endet von selbst/, /freigegeben haben, bleiben gültig: Unter Verlauf/],
  es: [/termina automáticamente/, /siguen siendo válidos: puede revocarlos en Actividad\./],
  fr: [/se termine d’elle-même/, /restent valables\u00a0: vous pouvez les révoquer sous Activité\./],
  ja: [/自動的に終了します/, /有効なままです。履歴で/],
  'pt-BR': [/termina automaticamente/, /continuam válidos: você pode revogá-los em Atividade\./],
}

interface Listed {
  browser: string
  current: boolean
}

/** Ana signs in to the phone app with a browser. */
async function signInFor(stage: Stage, browser: Browser) {
  const { page, tokens } = await startSignIn(stage, {}, {}, browser)
  const consent = await browser.submit(page, { name: ana.username, password: ana.password })
  const end = await browser.submit(consent)
  return { tokens: await tokens(end.url) }
}

/** Stores further sessions of Ana, which were used now. */
async function addSessions(stage: Stage, count: number): Promise<void> {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
  const models = createOidcModelStore(database)
  const now = stage.clock.now()
  for (let number = 0; number < count; number++) {
    const id = `further ${number}`
    const session = {
      model: 'Session',
      idHash: id,
      sealed: 'x',
      grantHash: undefined,
      uidHash: id,
      clientId: undefined,
      userId: 'user-ana',
      requestId: undefined,
      expiresAt: now + 3600_000,
    }
    await models.runSession(models.put(session), { id, uidHash: id, browser: '', signedInAt: now, now })
  }
  await database.close()
}

/** An app with a refresh token. */
const tablet: NonNullable<ConfigInput['clients']>[number] = {
  client_id: 'tablet',
  application_type: 'native',
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['http://127.0.0.1/callback'],
  scope: 'openid offline_access ciba:decide',
}

/** Ana signed in with two browsers, and Ben with one. */
async function scene(t: TestContext, engine: Engine, config: ConfigInput = {}) {
  const stage = await openStage(t, { engine, config: { clients: [tablet], ...config } })
  const [home, office, bens] = [openVisitor(stage.url), openVisitor(stage.url), openVisitor(stage.url)]
  await home.signIn(ana)
  stage.clock.advance(1000)
  await office.signIn(ana)
  await bens.signIn(ben)
  return { stage, home, office, bens }
}

/** Opens the app after the app's own session has ended. The session at the provider has not ended. */
async function comeBack(visitor: Visitor, headers: Record<string, string> = {}): Promise<void> {
  visitor.jar.delete('doorbell_app')
  let seen = await visitor.get('/', headers)
  while (seen.location?.startsWith('/')) seen = await visitor.get(seen.location, headers)
  assert.match(seen.text, /Signed in as/)
}

/** Resolves to the address to which the form of the sign-in page is sent. */
async function signInPage(visitor: Visitor): Promise<string> {
  const { text } = await visitor.follow(await visitor.get('/'))
  const action = /<form method="post" action="(\/sign-in\/[^"/]+)"/.exec(text)?.[1]
  assert.ok(action, text)
  return action
}

async function isSignedIn(visitor: Visitor): Promise<boolean> {
  visitor.jar.delete('doorbell_app')
  visitor.jar.delete('doorbell_app_signed_out')
  return /Signed in as/.test((await visitor.follow(await visitor.get('/'))).text)
}

async function act(visitor: Visitor, form: Record<string, string>) {
  return visitor.post('/sessions/end', { form_token: formTokenOn(await visitor.get('/sessions')), ...form })
}

function idOf(text: string): string {
  const id = /name="id" value="([^"]+)"/.exec(text)?.[1]
  assert.ok(id, text)
  return id
}

const iPhone = {
  'user-agent': 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1',
}

/** Ana signs in to the app `tablet` on a phone. */
async function appOnPhone(stage: Stage, scope: string) {
  stage.clock.advance(1000)
  const browser = openBrowser(stage.url, iPhone)
  const { page, tokens } = await startSignIn(stage, { scope, prompt: 'consent' }, { id: 'tablet' }, browser)
  const consent = await browser.submit(page, { name: ana.username, password: ana.password })
  const got = await tokens((await browser.submit(consent)).url)
  const refresh = { grant_type: 'refresh_token', client_id: 'tablet', refresh_token: got.refresh_token! }
  let latest = refresh
  return {
    tokens: got,
    async refresh() {
      const answer = await stage.post('/oauth/token', latest)
      latest = { ...refresh, refresh_token: String(answer.body.refresh_token ?? latest.refresh_token) }
      return answer
    },
  }
}

/** Ends the session on the phone, from the list of sessions in another browser. */
async function endPhone(office: Visitor): Promise<void> {
  const { text } = await office.get('/sessions')
  const [phone] = text.split('<article').filter((one) => one.includes('iPhone'))
  const [, id] = /name="id" value="([^"]+)"/.exec(phone!)!
  assert.equal((await act(office, { id: id! })).location, '/sessions?done=ended')
  assert.doesNotMatch((await office.get('/sessions')).text, /iPhone/)
}
