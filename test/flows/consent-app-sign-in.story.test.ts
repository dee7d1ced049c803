/** Signing in at the consent app. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { openBrowser } from '../support/browser.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { formTokenOn, openVisitor, type Seen, type Visitor } from '../support/visitor.ts'
import { assertRefused, looking, nothingDecided } from './consent-app-visits.ts'

describe('signing in', () => {
  test('leads to no pages but those of the app', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    for (const to of [
      '//evil.example',
      'https://evil.example',
      'https:evil.example',
      '/\\evil.example',
      '\\\\evil.example',
      '/%2Fevil.example',
      '/approve/..%2f..%2f/evil.example',
      '/approve/x/../../oauth/logout',
      '/activity\n//evil.example',
      '/activity?x=//evil.example',
      '/passkeys?request=//evil.example',
      '/passkeys?request=x&to=//evil.example',
      'javascript:alert(1)',
      ' //evil.example',
      '/session/end',
      '',
    ]) {
      for (const written of [encodeURIComponent(to), encodeURIComponent(encodeURIComponent(to))]) {
        const end = await lastStep(visitor, `/session/start?to=${written}`)
        assert.equal(end, '/', to)
      }
    }
    for (const to of [
      '/activity',
      '/passkeys',
      '/passkeys?request=01900000-0000-7000',
      '/approve/01900000-0000-7000',
      '/',
    ]) {
      assert.equal(await lastStep(visitor, `/session/start?to=${encodeURIComponent(to)}`), to)
    }
    assert.equal(await lastStep(visitor, '/session/start?to=/activity&to=//evil.example'), '/')
  })

  test('a cookie planted before the sign-in is not accepted after it', async (t) => {
    const stage = await openStage(t)
    const mallory = openVisitor(stage.url)
    const malloryToken = formTokenOn(await mallory.signIn(ben))
    const planted = mallory.jar.get('doorbell_app')!

    const visitor = openVisitor(stage.url)
    visitor.jar.set('doorbell_app', planted)
    const page = await visitor.follow(await visitor.get('/session/start?as=another'))
    const action = /action="(\/sign-in\/[^"/]+)">/.exec(page.text)![1]!
    const home = await visitor.follow(await visitor.post(action, { name: 'ana', password: ana.password }))
    assert.match(home.text, /Signed in as Ana/)
    assert.notEqual(visitor.jar.get('doorbell_app'), planted)
    assert.notEqual(formTokenOn(home), malloryToken)
    assert.match((await mallory.get('/')).text, /Signed in as Ben/)

    for (const forged of [
      'x',
      `${planted}x`,
      `${planted.slice(0, -4)}AAAA`,
      signInCookies(visitor).at(-1)?.[1] ?? '',
    ]) {
      const forger = openVisitor(stage.url)
      forger.jar.set('doorbell_app', forged)
      assert.equal((await forger.get('/')).status, 303)
    }
  })

  test("the answer to another browser's sign-in is refused (login CSRF)", async (t) => {
    const stage = await openStage(t)
    const mallory = openVisitor(stage.url)
    let step = await mallory.get('/session/start')
    while (!step.location?.startsWith('/sign-in/')) step = await mallory.get(step.location!)
    step = await mallory.post(step.location, { name: 'ben', password: ben.password })
    while (!step.location?.startsWith('/session/callback')) step = await mallory.get(step.location!)
    const callback = step.location

    const visitor = openVisitor(stage.url)
    assertRefused(await visitor.get(callback), 400, /started in another browser/)
    await visitor.get('/session/start')
    assertRefused(await visitor.get(callback), 400)
    assert.equal(visitor.jar.has('doorbell_app'), false)
    for (const query of ['', '?code=x', '?error=access_denied', '?code=x&state=y']) {
      assertRefused(await visitor.get(`/session/callback${query}`), 400)
    }
  })

  test('the same answer is accepted once', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    let step = await visitor.get('/session/start')
    while (!step.location?.startsWith('/sign-in/')) step = await visitor.get(step.location!)
    step = await visitor.post(step.location, { name: 'ana', password: ana.password })
    while (!step.location?.startsWith('/session/callback')) step = await visitor.get(step.location!)
    const kept = new Map(visitor.jar)
    assert.equal((await visitor.get(step.location)).status, 303)
    for (const [name, value] of kept) visitor.jar.set(name, value)
    assertRefused(await visitor.get(step.location), 400)
  })

  test('after sign-out, a link does not sign in again', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    const copied = visitor.jar.get('doorbell_app')!
    assert.ok(copied)
    await visitor.post('/session/end', { form_token: formTokenOn(page) })
    assert.equal(visitor.jar.has('doorbell_app'), false)
    const seen = await visitor.follow(await visitor.get(path))
    assert.match(seen.text, /<h1>Sign in<\/h1>/)
    assert.ok(!/Kiosk/.test(seen.text))

    // A copy of the session does not work either.
    const copy = openVisitor(stage.url)
    copy.jar.set('doorbell_app', copied)
    assert.match((await copy.get(path)).location ?? '', /^\/session\/start/)
    await nothingDecided(stage)
  })
})

describe('sign-ins in several tabs of one browser', () => {
  const anaSignsIn = { name: ana.username, password: ana.password }

  for (const [what, messages] of [
    ['two requests', ['Coffee', 'Parking']],
    ['one request, opened twice', ['Coffee', 'Coffee']],
  ] as const) {
    for (const order of ['as opened', 'the last first'] as const) {
      test(`${what}, signed in ${order}: each tab shows its own request`, async (t) => {
        const stage = await openStage(t)
        const paths: Record<string, string> = {}
        for (const message of new Set(messages)) {
          await stage.ring('kiosk', { binding_message: message })
          paths[message] = `/approve/${await stage.newestRequest()}`
        }
        const browser = openBrowser(stage.url)
        const tabs = []
        for (const message of messages) tabs.push({ message, page: await browser.open(stage.url + paths[message]) })
        for (const { message, page } of order === 'as opened' ? tabs : tabs.toReversed()) {
          const shown = await browser.submit(page, anaSignsIn)
          assert.equal(shown.status, 200)
          assert.match(shown.text, new RegExp(`id="message">${message}`))
        }
      })
    }
  }

  test('tabs that are opened at the same moment do not replace each other', async (t) => {
    const stage = await openStage(t)
    const browser = openBrowser(stage.url)
    const paths = ['/activity', '/passkeys', '/sessions']
    const pages = await Promise.all(paths.map((path) => browser.open(stage.url + path)))
    for (const [index, page] of pages.entries()) {
      assert.equal((await browser.submit(page, anaSignsIn)).url, stage.url + paths[index])
    }
  })

  test('a callback that is loaded again leads to the start page of the session, and to an error without one', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    let step = await visitor.get('/session/start?to=/activity')
    while (!step.location?.startsWith('/sign-in/')) step = await visitor.get(step.location!)
    step = await visitor.post(step.location, anaSignsIn)
    while (!step.location?.startsWith('/session/callback')) step = await visitor.get(step.location!)
    const callback = step.location
    assert.equal((await visitor.get(callback)).location, '/activity')
    assert.deepEqual(signInCookies(visitor), [])
    for (const path of [callback, '/session/callback', '/session/callback?state=x&state=y']) {
      const { status, location } = await visitor.get(path)
      assert.deepEqual({ status, location }, { status: 303, location: '/' }, path)
      assertRefused(await openVisitor(stage.url).get(path), 400)
    }
  })

  for (const engine of engines) {
    test(`a callback that is loaded twice at once leads both to the app, and other tabs stay signed in, on ${engine.name}`, async (t) => {
      const gate = createGate()
      const open: typeof openDatabase = async (...given) => {
        const database = await openDatabase(...given)
        const { read } = database
        database.read = async (sql, values = []) => {
          if (values[0] === 'AuthorizationCode') await gate.pass()
          return read(sql, values)
        }
        return database
      }
      const stage = await openStage(t, { engine, parts: { openDatabase: open } })
      const visitor = openVisitor(stage.url)
      await visitor.signIn(ana)
      const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
      let step = await visitor.get('/session/start?to=/activity')
      while (!step.location?.startsWith('/session/callback')) step = await visitor.get(step.location!)
      const callback = step.location
      gate.hold()
      const arrived = countArrivals(t, '/session/callback')
      const both = [visitor.get(callback), visitor.get(callback)]
      await Promise.all([gate.waiting(1), until(() => arrived() === 2)])
      // The second call has been read, and is handled in this turn of the event loop or in the next.
      for (let turn = 0; turn < 5; turn++) await setImmediate()
      gate.release()
      for (const { location } of await Promise.all(both)) assert.equal(location, '/activity')
      assert.equal((await visitor.get('/activity')).status, 200)
      assert.equal((await openVisitor(stage.url).get('/activity', { cookie })).status, 200, 'another tab')
    })
  }

  test('a callback whose request target is a whole URL (RFC 9112 §3.2.2) signs in', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    let step = await visitor.get('/session/start?to=/activity')
    while (!step.location?.startsWith('/sign-in/')) step = await visitor.get(step.location!)
    step = await visitor.post(step.location, anaSignsIn)
    while (!step.location?.startsWith('/session/callback')) step = await visitor.get(step.location!)
    const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const { hostname, port } = new URL(stage.url)
    const call = request({ hostname, port, path: stage.url + step.location, headers: { cookie } }).end()
    const [answer] = (await once(call, 'response')) as [IncomingMessage]
    answer.resume()
    assert.deepEqual([answer.statusCode, answer.headers.location], [303, '/activity'])
  })

  test('a cookie of a sign-in with another name is ignored, and a thousand are not all cleared', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.get('/session/start')
    const [[, value]] = signInCookies(visitor) as [[string, string]]
    for (const suffix of ['a(b', 'a[b]c{d}e@f', '"', '', 'abcdefghijkl']) {
      const name = `doorbell_app_sign_in_${suffix}`
      const cookie = `${name}=${value}`
      const path = `/session/callback?code=x&state=${encodeURIComponent(suffix)}`
      assertRefused(await openVisitor(stage.url).get(path, { cookie }), 400)
      assert.equal((await openVisitor(stage.url).get('/session/start', { cookie })).status, 303, suffix)
    }
    const many = Array.from(
      { length: 300 },
      (_, number) => `doorbell_app_sign_in_${String(number).padStart(12, '0')}=x`,
    )
    const { headers } = await openVisitor(stage.url).get('/session/start', { cookie: many.join('; ') })
    assert.equal(headers.getSetCookie().length, 17)
  })

  test('of twenty sign-ins the newest eight are kept, and none that has expired', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    visitor.jar.set('doorbell_app_sign_in_planted', 'x')
    const started: string[] = []
    for (let number = 0; number < 20; number++) {
      const { location } = await visitor.get('/session/start')
      started.push(new URL(location!, stage.url).searchParams.get('state')!)
      stage.clock.advance(1000)
    }
    const names = signInCookies(visitor).map(([name]) => name)
    assert.deepEqual(
      names,
      started.slice(12).map((state) => `doorbell_app_sign_in_${state.slice(0, 12)}`),
    )
    stage.clock.advance(20 * 60_000)
    await visitor.get('/session/start')
    assert.equal(signInCookies(visitor).length, 1, 'the others have expired')
  })
})

const signInCookies = ({ jar }: Visitor) => [...jar].filter(([name]) => name.startsWith('doorbell_app_sign_in_'))

/** Resolves to the page to which a user with a session at the provider is finally redirected. */
async function lastStep(visitor: Visitor, path: string): Promise<string | undefined> {
  let at: string | undefined = path
  for (;;) {
    const seen: Seen = await visitor.get(at)
    if (at.startsWith('/session/callback')) return seen.location
    if (seen.location === undefined) throw new Error(`stopped at ${at}: ${seen.text}`)
    at = seen.location
  }
}

/** Returns a function that returns how many calls at a path the server has begun to read. */
function countArrivals(t: TestContext, path: string): () => number {
  let count = 0
  const note = (message: unknown) => {
    if ((message as { request: IncomingMessage }).request.url?.startsWith(path)) count += 1
  }
  subscribe('http.server.request.start', note)
  t.after(() => unsubscribe('http.server.request.start', note))
  return () => count
}
