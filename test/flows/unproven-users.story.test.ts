/**
 * Anonymous calls to the addresses of users take only a limited part of the slots while they wait for a look-up. Users
 * who are signed in are served, and a user from another network can begin to sign in.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { authorizationRequest } from '../support/authorization-request.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { ana, openStage } from '../support/stage.ts'
import { inTime, until } from '../support/until.ts'
import { openVisitor, type Visitor } from '../support/visitor.ts'

const attacker = { 'x-forwarded-for': '198.51.100.7' }
const anasHome = { 'x-forwarded-for': '203.0.113.7' }
const newcomer = { 'x-forwarded-for': '192.0.2.7' }

/** Eight sign-ins that an anonymous browser has begun: the path of a page, and of the responses to the consent app. */
interface Begun {
  browser: Visitor
  page: string
  /** Returns the path of the response to the next sign-in. Two calls of one response at once would be one work. */
  nextCallback(): string
}

const authorizePath = (clientId: string) =>
  `/oauth/authorize?${new URLSearchParams({ ...authorizationRequest, client_id: clientId })}`

type Call = (begun: Begun) => Promise<{ status: number }>

/** Calls that cause a look-up or a new row, and their status. */
const calls: Record<string, [status: number, call: Call]> = {
  'the sign-in page': [200, ({ browser, page }) => browser.get(page)],
  'cancelling the sign-in': [303, ({ browser, page }) => browser.post(page, { cancel: 'yes' })],
  'the options for a passkey': [200, ({ browser, page }) => browser.post(`${page}/passkey/options`, {})],
  'a passkey': [
    401,
    ({ browser, page }) =>
      browser.send(`${page}/passkey`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ passkey: '{}' }),
      }),
  ],
  'the return from the sign-in': [
    303,
    ({ browser, page }) => browser.get(page.replace('/sign-in/', '/oauth/authorize/')),
  ],
  'the response to the consent app': [400, ({ browser, nextCallback }) => browser.get(nextCallback())],
  'signing out': [303, ({ browser }) => browser.post('/session/end', {}, { cookie: 'doorbell_session=unknown' })],
  'an authorization request': [303, ({ browser }) => browser.get(authorizePath('phone-app'))],
  'an authorization request of an unknown client': [400, ({ browser }) => browser.get(authorizePath('unknown'))],
  'signing out at the provider': [400, ({ browser }) => browser.get('/oauth/logout?client_id=unknown')],
}

/** Calls without a session, which are answered from memory. */
const answeredAtOnce: Record<string, [status: number, call: Call]> = {
  'the list of requests': [303, ({ browser }) => browser.get('/')],
  'a request': [303, ({ browser }) => browser.get('/approve/unknown')],
  'the beginning of a sign-in': [303, ({ browser }) => browser.get('/session/start')],
  'an event stream': [401, ({ browser }) => browser.get('/events')],
  'the claim of a push subscription': [403, ({ browser }) => browser.post('/notifications/claim', { endpoint: 'x' })],
  'the claim of a push subscription at the device API': [
    401,
    ({ browser }) => browser.post('/backchannel/push-subscriptions/claim', { endpoint: 'x' }),
  ],
}

for (const engine of engines) {
  describe(`eight anonymous calls of users at once, of eight slots, on ${engine.name}`, () => {
    for (const [name, [status, call]] of Object.entries(calls)) {
      test(`${name}: hold three slots`, async (t) => {
        const { gate, begun, anas, stage, strangers } = await scene(t, engine)
        gate.hold()
        const answers: number[] = []
        const all = Array.from({ length: 8 }, async () => void answers.push((await call(begun)).status))
        await gate.waiting(3)
        await until(() => answers.length === 5)
        assert.deepEqual(answers, [503, 503, 503, 503, 503])
        const activity = await inTime(anas.get('/activity'), () => 'the page of a signed-in user')
        assert.equal(activity.status, 200)
        assert.equal((await inTime(stage.waiting(), () => 'a device service')).length, 1)
        const another = strangers.get('/oauth/authorize?client_id=unknown')
        await gate.waiting(4)
        gate.release()
        await Promise.all(all)
        assert.deepEqual(answers.slice(5), [status, status, status])
        assert.equal((await another).status, 400, 'a caller from another network')
      })
    }

    for (const [name, [status, call]] of Object.entries(answeredAtOnce)) {
      test(`${name}: each is answered while look-ups wait`, async (t) => {
        const { gate, begun } = await scene(t, engine)
        gate.hold()
        const answers: number[] = []
        for (let number = 1; number <= 8; number++) answers.push((await call(begun)).status)
        assert.deepEqual(
          answers,
          Array.from({ length: 8 }, () => status),
        )
      })
    }
  })
}

/** While the gate is closed, neither a sign-in, a code, a session nor an unknown client can be looked up or stored. */
async function scene(t: TestContext, engine: Engine) {
  const gate = createGate()
  const models = ['Interaction', 'AuthorizationCode', 'Session']
  const open: typeof openDatabase = async (...given) => {
    const database = await openDatabase(...given)
    const { read, step } = database
    database.read = async (sql, values = []) => {
      // The session of an access token is found by its uid, the session of a browser by the hash of its cookie.
      const isModel = sql.includes(' id_hash = $2') && models.includes(String(values[0]))
      if (isModel || (sql.includes('from clients where id') && values[0] === 'unknown')) await gate.pass()
      return read(sql, values)
    }
    database.step = async (first, options) => {
      if (/(insert into|update) oidc_models/.test(first.sql)) await gate.pass()
      return step(first, options)
    }
    return database
  }
  const config = { limits: { inFlight: 8 }, proxy: { trust: ['127.0.0.1', '::1'] } }
  const stage = await openStage(t, { engine, config, parts: { openDatabase: open } })
  t.after(gate.release)
  await stage.ring('kiosk')
  await stage.waiting()
  const anas = openVisitor(stage.url, stage.url, anasHome)
  await anas.signIn(ana)
  const browser = openVisitor(stage.url, stage.url, attacker)
  const callbacks: string[] = []
  let page = ''
  while (callbacks.length < 8) {
    const { location: authorize = '' } = await browser.get('/session/start')
    if (page === '') page = (await browser.get(authorize)).location ?? ''
    const state = new URL(authorize, stage.url).searchParams.get('state')!
    callbacks.push(`/session/callback?${new URLSearchParams({ code: 'unknown', state, iss: stage.url })}`)
  }
  return {
    stage,
    gate,
    anas,
    begun: { browser, page, nextCallback: () => callbacks.pop()! },
    strangers: openVisitor(stage.url, stage.url, newcomer),
  }
}
