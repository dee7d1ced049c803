/**
 * The number of rows that callers can cause without authentication is limited, for each network and for all networks
 * together.
 */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { mostUnfinished } from '../../src/platform/http/life.ts'
import { authorizationRequest } from '../support/authorization-request.ts'
import { type Engine, engines } from '../support/engines.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import { openVisitor, type Visitor } from '../support/visitor.ts'

const pathOf = (more: Record<string, string> = {}) =>
  `/oauth/authorize?${new URLSearchParams({ ...authorizationRequest, ...more })}`

/** The test acts as the proxy: it states the address from which a call comes. */
function openBehindProxy(t: TestContext, engine: Engine, signIn: NonNullable<ConfigInput['limits']>['signIn'] = {}) {
  const config: ConfigInput = { proxy: { trust: ['127.0.0.1'] }, limits: { signIn } }
  return openStage(t, { engine, config })
}

/** Begins a sign-in from the given address, in a browser without cookies. */
async function begin(stage: Stage, from: string, more: Record<string, string> = {}) {
  const { status, headers, text } = await stage.get(pathOf(more), { 'x-forwarded-for': from, accept: 'text/html' })
  return { status, text, retryAfter: headers.get('retry-after'), type: headers.get('content-type') }
}

const kept = async (stage: Stage) =>
  (await rowsOf(
    stage,
    "select model, sealed, expires_at from oidc_models where model in ('Interaction', 'Session')",
  )) as {
    model: string
    sealed: string
    expires_at: number
  }[]

async function signInPage(visitor: Visitor, headers: Record<string, string> = {}) {
  const { location = '' } = await visitor.get(pathOf(), headers)
  assert.match(location, /^\/sign-in\//)
  return location
}

/**
 * Sends one call several times in one write over one connection, so that the server reads all calls before it answers
 * the first.
 */
async function sendTogether({ url }: Stage, path: string, cookie: string, times: number): Promise<string[]> {
  const { hostname, port } = new URL(url)
  const call = (more: string) => `GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\nCookie: ${cookie}\r\n${more}\r\n`
  const socket = connect(Number(port), hostname)
  socket.write(call('').repeat(times - 1) + call('Connection: close\r\n'))
  const answers = (await socket.setEncoding('utf8').toArray()).join('')
  return [...answers.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status = '']) => status)
}

for (const engine of engines) {
  describe(`sign-ins that were begun, on ${engine.name}`, () => {
    test('one network has a limited number of them; other networks are not affected', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 20 })
      const statuses: number[] = []
      for (let number = 0; number < 60; number++) {
        const { status, retryAfter, type, text } = await begin(stage, `198.51.100.${number}`)
        statuses.push(status)
        if (status === 303) continue
        assert.deepEqual([status, retryAfter], [429, '60'])
        assert.match(String(type), /^text\/html/)
        assert.match(text, /temporarily_unavailable/)
      }
      assert.equal(statuses.filter((status) => status === 303).length, 20)
      assert.equal((await kept(stage)).length, 20)
      assert.equal((await begin(stage, '203.0.113.7')).status, 303)
      assert.equal((await begin(stage, '2001:db8::7')).status, 303)
    })

    test('the limit holds for simultaneous calls', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 5 })
      const begun = await Promise.all(Array.from({ length: 30 }, () => begin(stage, '198.51.100.7')))
      assert.equal(begun.filter(({ status }) => status === 303).length, 5)
      assert.equal((await kept(stage)).length, 5)
    })

    test('from many networks, all rows together are limited, and every network has its share', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 20, openInAll: 40 })
      for (let number = 0; number < 40; number++) await begin(stage, `198.51.${number % 2}.7`)
      // Both networks have reached their limit of twenty. Now twenty other networks send ten calls each.
      for (let number = 0; number < 200; number++) await begin(stage, `203.0.${number % 20}.7`)
      assert.equal((await kept(stage)).length, 40)
      // A caller from another network can still begin a sign-in. The total stays the same.
      assert.equal((await begin(stage, '192.0.2.7')).status, 303)
      assert.equal((await kept(stage)).length, 40)
    })

    test('while callers of ten times as many networks take all places, a user who is signed in renews a token', async (t) => {
      const stage = await openBehindProxy(t, engine, { openInAll: 16 })
      const anas = openVisitor(stage.url, stage.url, { 'x-forwarded-for': '203.0.113.7' })
      await anas.signIn(ana)
      stage.clock.advance(11 * 60_000)
      const statuses: number[] = []
      for (let number = 0; number < 160; number++) statuses.push((await begin(stage, `10.0.${number}.7`)).status)
      assert.deepEqual(new Set(statuses.slice(16)), new Set([429]))
      const renewing = await anas.get('/activity')
      assert.equal(renewing.location, '/session/start?to=%2Factivity', 'the token has expired')
      assert.equal((await anas.follow(renewing)).status, 200)
      // A sign-in that needs a new row is refused, even if its user has signed in before.
      const { status, location = '' } = await anas.get(pathOf())
      assert.deepEqual([status, new URL(location).searchParams.get('error')], [303, 'temporarily_unavailable'])
      assert.equal((await kept(stage)).filter(({ model }) => model === 'Interaction').length, 16)
    })

    test('a /48 has four times the limit of a /64', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 3 })
      const statuses: number[] = []
      for (let number = 0; number < 40; number++) {
        statuses.push((await begin(stage, `2001:db8:1:${(number % 10).toString(16)}::${number}`)).status)
      }
      assert.equal(statuses.filter((status) => status === 303).length, 12)
      assert.equal((await kept(stage)).length, 12)
    })

    test('a begun sign-in is kept for at least a minute; after that the oldest makes room', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 2 })
      const from = { 'x-forwarded-for': '198.51.100.7' }
      const slow = openVisitor(stage.url)
      const page = await signInPage(slow, from)
      stage.clock.advance(30_000)
      const second = openVisitor(stage.url)
      const other = await signInPage(second, from)
      stage.clock.advance(29_000)
      assert.deepEqual([(await begin(stage, '198.51.100.9')).status, (await slow.get(page, from)).status], [429, 200])
      stage.clock.advance(1_000)
      assert.equal((await begin(stage, '198.51.100.9')).status, 303)
      assert.equal((await slow.get(page, from)).status, 410, 'the oldest was removed')
      assert.equal((await second.get(other, from)).status, 200)
      assert.equal((await kept(stage)).length, 2)
    })

    test('a completed sign-in frees its place', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 1 })
      for (let number = 0; number < 3; number++) {
        const visitor = openVisitor(stage.url)
        await visitor.signIn(ana)
        assert.equal((await visitor.get('/activity')).status, 200)
      }
    })

    test('a begun sign-in lives for ten minutes; after the password, the user has an hour to consent', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const visitor = openVisitor(stage.url)
      const page = await signInPage(visitor)
      const [row] = await kept(stage)
      assert.equal(row!.expires_at - stage.clock.now(), 600_000)
      const signedIn = await visitor.post(page, { name: ana.username, password: ana.password })
      await visitor.get(signedIn.location ?? '')
      const rows = await kept(stage)
      const consent = rows.find(({ model }) => model === 'Interaction')
      assert.equal(consent!.expires_at - stage.clock.now(), 3600_000)
    })

    test('returning without having signed in takes no further place', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 2 })
      const visitor = openVisitor(stage.url)
      const page = await signInPage(visitor)
      for (let number = 0; number < 10; number++) {
        const { status, location } = await visitor.get(page.replace('/sign-in/', '/oauth/authorize/'))
        assert.deepEqual([status, location], [303, page])
      }
      assert.equal((await visitor.get(page)).status, 200)
      assert.equal((await kept(stage)).length, 1)
      assert.equal((await begin(stage, '127.0.0.1')).status, 303)
      assert.equal((await begin(stage, '127.0.0.1')).status, 429)
    })

    test('of many returns at once with a result, one continues', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 2 })
      for (let number = 0; number < 3; number++) {
        const visitor = openVisitor(stage.url)
        const page = await signInPage(visitor)
        await visitor.post(page, { name: ana.username, password: ana.password })
        const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
        const statuses = await sendTogether(
          stage,
          page.replace('/sign-in/', '/oauth/authorize/'),
          cookie,
          mostUnfinished,
        )
        assert.deepEqual(statuses.sort(), ['303', ...Array.from({ length: mostUnfinished - 1 }, () => '400')])
        assert.equal((await kept(stage)).filter(({ model }) => model === 'Interaction').length, 1)
        stage.clock.advance(3_600_001)
        await stage.doorbell.prune()
      }
    })

    test('no other address stores anything for a caller that has not signed in', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const visitor = openVisitor(stage.url)
      const page = await signInPage(visitor)
      const before = await countRows(stage)
      for (let number = 0; number < 20; number++) {
        for (const path of [
          '/',
          page,
          `/oauth/logout?state=${'x'.repeat(5000)}`,
          '/oauth/logout/success',
          '/oauth/userinfo',
        ]) {
          await visitor.get(path)
        }
        await visitor.post('/oauth/logout/confirm', { xsrf: 'x' })
        await visitor.post(`${page}/passkey`, {})
        // A session cookie that is not valid.
        visitor.jar.set('doorbell_session', 'x')
      }
      assert.deepEqual(await countRows(stage), before)
      for (let number = 0; number < 20; number++) await visitor.post(`${page}/passkey/options`, {})
      assert.deepEqual(await countRows(stage), { ...before, passkey_challenges: before.passkey_challenges! + 1 })
    })
  })
}

for (const engine of engines) {
  describe(`the size of stored parameters, on ${engine.name}`, () => {
    test('each parameter has a maximum length, and so have all of them together', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const tooLong: Record<string, string>[] = [
        { state: 'x'.repeat(1025) },
        { nonce: 'x'.repeat(1025) },
        { login_hint: 'x'.repeat(2049) },
        { login_hint: '\u0001'.repeat(400) },
        { acr_values: 'é'.repeat(1030) },
        { claims: `{"id_token":{"${'x'.repeat(4096)}":null}}` },
        { claims: `{"x":"${'x'.repeat(3900)}"}`, id_token_hint: 'x'.repeat(3900), login_hint: 'x'.repeat(1000) },
        Object.fromEntries(Array.from({ length: 30 }, (_, number) => [`x${number}`, 'x'.repeat(400)])),
      ]
      for (const more of tooLong) {
        const { status, text } = await begin(stage, '198.51.100.7', more)
        assert.equal(status, 400, Object.keys(more).join())
        assert.match(text, /invalid_request: /)
      }
      const posted = await stage.post('/oauth/authorize', { ...authorizationRequest, state: 'x'.repeat(1025) })
      assert.equal(posted.status, 400)
      assert.deepEqual(await kept(stage), [])
    })

    test('what fits works as before, and is stored in less than twice the limit', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const long = { state: 's'.repeat(1000), nonce: 'n'.repeat(1000), login_hint: 'l'.repeat(2000) }
      const more = { ...long, claims: `{"id_token":{"email":{"value":"${'x'.repeat(3200)}"}}}` }
      assert.equal((await begin(stage, '198.51.100.7', more)).status, 303)
      const [row] = await kept(stage)
      assert.ok(row!.sealed.length < 16_384, String(row!.sealed.length))
    })
  })
}

for (const engine of engines) {
  describe(`an authorization request by POST (OpenID Connect Core §3.1.2.1), on ${engine.name}`, () => {
    const address = '/oauth/authorize'
    const from = { 'x-forwarded-for': '198.51.100.7' }

    test('leads to the sign-in page, and after the sign-in to the client, with a code', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const visitor = openVisitor(stage.url)
      const asked = { ...authorizationRequest, state: 'a b&c=d+é%' }
      const page = await visitor.follow(await visitor.post(address, asked, from))
      assert.equal(page.status, 200)
      const action = /<form method="post" action="(\/sign-in\/[^"/]+)">/.exec(page.text)?.[1]
      assert.ok(action, page.text)
      const form = { name: ana.username, password: ana.password }
      const consent = await visitor.follow(await visitor.post(action, form))
      const agree = /action="(\/sign-in\/[^"/]+)"/.exec(consent.text)?.[1]
      assert.ok(agree, consent.text)
      const back = await visitor.follow(await visitor.post(agree, {}))
      const { code, state } = Object.fromEntries(new URL(back.location!).searchParams)
      assert.ok(code)
      assert.equal(state, asked.state)

      // A browser sends no cookies with a form from another site. It sends them when it follows the redirect.
      const { location } = await openVisitor(stage.url).post(address, asked, from)
      const again = await visitor.follow(await visitor.get(location!))
      assert.match(again.text, /action="\/sign-in\//)
      assert.doesNotMatch(again.text, /name="password"/, 'the user is signed in, and only asked to agree')
    })

    test('has the limits of GET: the POST stores nothing, and the redirected GET counts as a sign-in', async (t) => {
      const stage = await openBehindProxy(t, engine, { openPerNetwork: 5 })
      const visitor = openVisitor(stage.url)
      const posted = await Promise.all(
        Array.from({ length: 30 }, () => visitor.post(address, authorizationRequest, from)),
      )
      assert.deepEqual(new Set(posted.map(({ status }) => status)), new Set([303]))
      assert.deepEqual(await kept(stage), [])
      const followed = await Promise.all(posted.map(({ location }) => stage.get(location!, from)))
      assert.equal(followed.filter(({ status }) => status === 303).length, 5)
      assert.equal(followed.filter(({ status }) => status === 429).length, 25)
      assert.equal((await kept(stage)).length, 5)
    })

    test('gets the errors of GET: for what is too long, unknown, missing, sent twice, or no form', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const post = async (body: string, type = 'application/x-www-form-urlencoded', query = '') => {
        const options = {
          method: 'POST',
          body,
          headers: { 'content-type': type, ...from },
          redirect: 'manual',
        } as const
        const first = await fetch(stage.url + address + query, options)
        const location = first.headers.get('location')
        return location === null ? first.status : (await stage.get(location, from)).status
      }
      const usual = String(new URLSearchParams(authorizationRequest))
      assert.equal(await post(usual), 303)
      for (const wrong of [
        '',
        'client_id=nobody&response_type=code',
        `${usual}&client_id=phone-app`,
        `${usual}&state=${'x'.repeat(1025)}`,
        `${usual}&claims=${'x'.repeat(5000)}`,
        'client_id=kiosk%00&response_type=code',
        '%ff=%fe&=&&',
        `client_id=phone-app&redirect_uri=${encodeURIComponent('//elsewhere.example')}&response_type=code`,
      ]) {
        assert.equal(await post(wrong), 400, wrong)
      }
      assert.equal(await post(JSON.stringify(authorizationRequest), 'application/json'), 400)
      assert.equal(await post(usual, 'text/plain'), 400)
      assert.equal(await post('', undefined, `?${usual}`), 400, 'parameters of the address do not count')
    })
  })
}
