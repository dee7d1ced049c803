/**
 * Every route that the server has registered is called with parameters that name Ben and Northbank: by Ana with her
 * token and in her browser, by clients, and by unauthenticated callers. Nothing about Ben changes or is shown, and
 * Northbank gets no token. A new route is called too, and fails the test until a call of it succeeds.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import { exportUser } from '../../src/endings/export-user.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { routesOf } from '../support/routes.ts'
import { ana, ben, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'
import { aboutBen } from './about-ben.ts'

const config = { registration: { mode: 'open' }, webPush: { subject: 'mailto:ops@id.example' } } as const

/** Only Ben's pages show this text. */
const onlyForBen = 'Parcel 8812'

/**
 * Routes at which no call of this test succeeds. Most of them need a passkey, a registration with its token, or an
 * earlier step at oidc-provider. `extra-parameters.story.test.ts` tests passkeys, codes and decisions one by one.
 */
const servedElsewhere = [
  'DELETE /oauth/register/:client_id',
  // A page that says that the demo is not running.
  'GET /demo',
  'GET /oauth/register/:client_id',
  'POST /approve/:id/passkey',
  'POST /backchannel/passkeys',
  'POST /backchannel/passkeys/confirm-options',
  'POST /backchannel/passkeys/remove',
  'POST /backchannel/passkeys/rename',
  // Only scripts of the app may call it (push-renewed.story.test.ts).
  'POST /notifications/renew',
  'POST /oauth/logout/confirm',
  'POST /oauth/register',
  'POST /passkeys/remove',
  'POST /passkeys/rename',
  'POST /sign-in/:uid/passkey',
  'PUT /oauth/register/:client_id',
]

const methods = ['GET', 'POST', 'PUT', 'DELETE'] as const

interface Call {
  by: string
  method: string
  path: string
  form: Record<string, string>
  headers: Record<string, string>
}

for (const engine of engines) {
  describe(`extra parameters at every registered route, on ${engine.name}`, () => {
    test('show and change nothing of another user, and issue nothing to another client', async (t) => {
      const stage = await openStage(t, { engine, config })
      const watch = await watchBen(t, stage)
      const callers = await openCallers(t, stage)
      const neverServed = new Set<string>()
      for (const { method, url } of await addressesOf(stage)) {
        const statuses: number[] = []
        for (const call of await callers.callsOf(method, url)) {
          const { status, text } = await send(stage, call)
          statuses.push(status)
          const about = `${method} ${url} by ${call.by}: ${status} ${text.slice(0, 300)}`
          assert.ok(status < 500, about)
          assert.ok(!text.includes(onlyForBen), about)
          for (const [, idToken] of text.matchAll(/"id_token":"([^"]+)"/g)) {
            assert.equal(decodeJwt(idToken!).sub, ana.id, about)
          }
        }
        await watch.assertUnchanged(`${method} ${url}`)
        if (statuses.every((status) => status >= 400)) neverServed.add(`${method} ${url}`)
      }
      assert.deepEqual([...neverServed].sort(), servedElsewhere)
    })
  })
}

/**
 * All registered routes, without those that only answer that the method is not allowed, and without those that
 * oidc-provider does not know.
 */
async function addressesOf(stage: Stage) {
  const found: { method: string; url: string }[] = []
  for (const route of await routesOf(stage)) {
    // These routes exist in development only. Any caller can decide requests there.
    if (route.url.startsWith('/dev/')) continue
    for (const method of methods.filter((each) => route.method.includes(each))) {
      const { status } = await send(stage, { by: '', method, path: route.url, form: {}, headers: {} })
      const isOidcProviders = /^\/(oauth|\.well-known)\//.test(route.url)
      if (status !== 405 && !(status === 404 && isOidcProviders)) found.push({ method, url: route.url })
    }
  }
  return found
}

/** Reads what is stored about Ben and for Northbank. Resolves to a function that asserts that this has not changed. */
async function watchBen(t: TestContext, stage: Stage) {
  await stage.ring('kiosk', { login_hint: 'ben', binding_message: onlyForBen })
  await bearerOf(stage, ben)
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
  t.after(() => database.close())
  const look = async () => ({
    ben: await exportUser(ben.id, undefined, { database }),
    northbank: await database.read("select model from oidc_models where client_id = 'northbank'"),
  })
  const before = await look()
  assert.ok(before.ben?.oidc_models && before.ben.backchannel_auth_requests)
  return { assertUnchanged: async (where: string) => assert.deepEqual(await look(), before, where) }
}

async function openCallers(t: TestContext, stage: Stage) {
  const service = await openPushService(t)
  let bearer = ''
  let browser = openVisitor(stage.url)

  /** Ana signs in again if a call has ended her sessions. */
  async function signInAgain(): Promise<string> {
    if ((await stage.get('/backchannel/authinfo', { authorization: bearer })).status !== 200)
      bearer = await bearerOf(stage)
    let page = await browser.get('/user-code')
    if (page.status !== 200) {
      browser = openVisitor(stage.url)
      await browser.signIn(ana)
      page = await browser.get('/user-code')
    }
    // oidc-provider uses the real clock. By the clock of the stage, the sign-in would be in the future.
    stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
    return formTokenOn(page)
  }

  /** Resolves to a form with all values that any route needs in order to succeed. */
  async function meant(url: string): Promise<Record<string, string>> {
    const approved = await stage.ring('kiosk')
    await stage.decide(await stage.newestRequest(), 'approved')
    await stage.ring('till')
    const subscription = service.newBrowser().subscription
    return {
      scope: 'openid',
      login_hint: 'ana',
      request_id: await stage.newestRequest(),
      ...(url === '/oauth/token' && { auth_req_id: String(approved.body.auth_req_id) }),
      grant_type: CIBA,
      status: 'approved',
      decision: 'approve',
      token: bearer.replace('Bearer ', ''),
      blocked: 'false',
      user_code: 'heron-4711',
      repeated: 'heron-4711',
      present_code: 'heron-4711',
      everywhere: 'true',
      browser: 'Firefox',
      backchannel_token_delivery_mode: 'poll',
      subscription: JSON.stringify(subscription),
      endpoint: subscription.endpoint,
      name: ana.username,
      password: ana.password,
    }
  }

  return {
    async callsOf(method: string, url: string): Promise<Call[]> {
      const form_token = await signInAgain()
      const form: Record<string, string> = { ...aboutBen, ...(await meant(url)) }
      const ofUser = { ...form, login_hint: '', client_id: 'till' }
      const begun = url.includes(':uid') ? await beginSignIn(stage) : undefined
      const path = url
        .replace(':id', form.request_id!)
        .replace(':client_id', 'kiosk')
        .replace(':uid', begun?.uid ?? '')
      const html = { accept: 'text/html' }
      return [
        { by: 'Ana, with her token', form: ofUser, headers: { authorization: bearer } },
        // Without the id of a request, some routes return a list.
        { by: 'Ana, with her token and no request', form: aboutBen, headers: { authorization: bearer } },
        { by: 'Ana, in her browser', form: { ...ofUser, form_token }, headers: { ...html, cookie: cookieOf(browser) } },
        {
          by: 'a browser that signs in',
          form: ofUser,
          headers: { ...html, ...(begun && { cookie: cookieOf(begun.visitor) }) },
        },
        { by: 'Kiosk', form, headers: { authorization: credentials.kiosk } },
        {
          by: 'the phone service, for Ana and no request',
          form: { ...aboutBen, login_hint: 'ana' },
          headers: { authorization: credentials.phoneService },
        },
        { by: 'the phone service', form, headers: { authorization: credentials.phoneService } },
        { by: 'a public client', form: { ...form, client_id: 'phone-app' }, headers: {} },
      ].map((call) => ({ ...call, method, path }))
    },
  }
}

const cookieOf = ({ jar }: Visitor) => [...jar].map(([name, value]) => `${name}=${value}`).join('; ')

async function beginSignIn(stage: Stage) {
  const visitor = openVisitor(stage.url)
  let seen = await visitor.get('/session/start?to=%2F')
  while (!seen.location?.startsWith('/sign-in/')) seen = await visitor.get(seen.location!)
  return { visitor, uid: seen.location.split('/')[2]! }
}

async function send({ url }: Stage, { method, path, form, headers }: Call) {
  const isRead = method === 'GET'
  const fields = String(new URLSearchParams(form))
  // Some routes also read the query of a POST.
  const query = isRead ? fields : String(new URLSearchParams(aboutBen))
  const stop = new AbortController()
  const response = await fetch(`${url}${path}?${query}`, {
    method,
    redirect: 'manual',
    signal: stop.signal,
    headers: { ...headers, ...(!isRead && { 'content-type': 'application/x-www-form-urlencoded' }) },
    ...(!isRead && { body: fields }),
  })
  if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
    stop.abort()
    return { status: response.status, text: '' }
  }
  return { status: response.status, text: await response.text() }
}
