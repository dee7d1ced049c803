/** The demo page: a till that sends real authentication requests, and all messages, without any usable secret. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { demoClients } from '../../src/config/demo.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Display } from '../../src/demo/order.ts'
import type { WireMessage } from '../../src/demo/wire.ts'
import { createDoorbell, type Doorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { type Browser, openBrowser, type Page } from '../support/browser.ts'
import { createStageClock } from '../support/clock.ts'
import { freePort } from '../support/ports.ts'
import { basic, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

describe('the till sends a request, and the page shows the messages', () => {
  test('poll: the till polls until Alice has approved on her phone', async (t) => {
    const { url, clock, events, ring } = await openDemo(t)
    const phone = await signInAsAlice(url)
    await ring('poll')
    await until(() => events.display()?.status === 'waiting' && events.has('MAIL'))
    assert.ok(events.display()!.secondsLeft > 170)

    clock.advance(5_000)
    await until(() => events.calls().at(-1) === 'till→doorbell POST /oauth/token 400')
    await press(phone, url, events.mailLink(), 'approve')
    clock.advance(5_000)
    await until(() => events.display()?.status === 'paid')

    const noLooks = events.calls().filter((call) => !call.includes('authinfo'))
    assert.deepEqual(noLooks, [
      'till→doorbell POST /backchannel/authorize 200',
      'doorbell→phone MAIL alice@example.com delivered',
      'till→doorbell POST /oauth/token 400',
      'phone→doorbell POST /backchannel/complete 200',
      'till→doorbell POST /oauth/token 200',
      'till→doorbell GET /oauth/jwks 200',
    ])
    const looks = events.calls().filter((call) => call.includes('authinfo?request_id='))
    assert.ok(looks.length > 0, 'the phone looked at the request')
    const claims = new Map(events.display()!.claims)
    assert.deepEqual([claims.get('iss'), claims.get('sub'), claims.get('aud')], [url, 'alice', 'demo-till'])
  })

  test('ping: Doorbell calls, then the till fetches', async (t) => {
    const { events, ring, decide } = await openDemo(t)
    await ring('ping')
    await until(() => events.has('MAIL'))
    await decide('approved')
    await until(() => events.display()?.status === 'paid')
    assert.deepEqual(events.calls(), [
      'till→doorbell POST /backchannel/authorize 200',
      'doorbell→phone MAIL alice@example.com delivered',
      'phone→doorbell POST /backchannel/complete 200',
      'doorbell→till POST /dev/callback/demo-shop 204',
      'till→doorbell POST /oauth/token 200',
      'till→doorbell GET /oauth/jwks 200',
    ])
  })

  test('push: Doorbell calls and brings the tokens along', async (t) => {
    const { events, ring, decide } = await openDemo(t)
    await ring('push')
    await until(() => events.has('MAIL'))
    await decide('approved')
    await until(() => events.display()?.status === 'paid')
    assert.deepEqual(events.calls().slice(2), [
      'phone→doorbell POST /backchannel/complete 200',
      'doorbell→till POST /dev/callback/demo-bank 204',
      'till→doorbell GET /oauth/jwks 200',
    ])
  })

  test('a denial works in every mode, and unanswered requests expire', async (t) => {
    const { clock, doorbell, events, ring, decide } = await openDemo(t)
    for (const mode of ['poll', 'ping', 'push'] as const) {
      const number = await ring(mode)
      await until(() => events.display()?.number === number && events.has('MAIL'))
      await decide('denied')
      clock.advance(5_000)
      await until(() => events.display()?.status === 'refused')
      assert.deepEqual(events.display()!.claims, [])
    }
    await ring('push')
    await until(() => events.display()?.status === 'waiting')
    clock.advance(181_000)
    await doorbell.sweep()
    await until(() => events.display()?.status === 'expired')
  })

  test('a page that is opened later shows earlier messages', async (t) => {
    const { url, events, ring, decide } = await openDemo(t)
    await ring('ping')
    await until(() => events.has('MAIL'))
    await decide('approved')
    await until(() => events.display()?.status === 'paid')
    const later = await openEvents(t, url)
    await until(() => later.calls().length === events.calls().length)
    assert.deepEqual(later.calls(), events.calls())
    assert.equal(later.display()?.status, 'paid')
  })

  test('an error of the server is shown unchanged, and an invalid order is refused', async (t) => {
    const { url, events, ring } = await openDemo(t, { requests: { maxBindingMessageLength: 10 } })
    await ring('poll', 'A coffee and a slice of cake')
    await until(() => events.display()?.status === 'failed')
    assert.match(events.display()!.detail, /binding_message/)
    for (const [name, value] of [
      ['mode', 'pull'],
      ['item', ''],
      ['item', 'x'.repeat(41)],
      ['amount', 'much'],
    ] as const) {
      const order = { mode: 'poll', item: 'Coffee', amount: '4.20', [name]: value }
      const answer = await post(`${url}/demo/ring`, order)
      assert.equal(answer.status, 400, `${name} ${value}`)
    }
    const elsewhere = { 'sec-fetch-site': 'cross-site' }
    assert.equal((await post(`${url}/demo/ring`, { mode: 'poll', item: 'a', amount: '1' }, elsewhere)).status, 403)
  })

  test('a call of the notification endpoint without the token changes nothing', async (t) => {
    const { url, events, ring } = await openDemo(t)
    await ring('ping')
    await until(() => events.display()?.status === 'waiting' && events.has('MAIL'))
    const before = events.calls()
    for (const authorization of ['Bearer guessed', '']) {
      await fetch(`${url}/dev/callback/demo-shop`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(authorization && { authorization }) },
        body: '{"auth_req_id":"guessed"}',
      })
    }
    assert.deepEqual(events.calls(), before)
    assert.equal(events.display()?.status, 'waiting')
  })
})

test('no secret is shown in full', async (t) => {
  const { url, events, ring, decide, clock } = await openDemo(t)
  const phone = await signInAsAlice(url)
  for (const mode of ['poll', 'ping', 'push'] as const) {
    const number = await ring(mode)
    await until(() => events.display()?.number === number && events.has('MAIL'))
    if (mode === 'poll') await press(phone, url, events.mailLink(), 'approve')
    else await decide('approved')
    clock.advance(5_000)
    await until(() => events.display()?.status === 'paid')
  }

  const received = ['demo-shop', 'demo-bank'].map(async (name) => {
    const { calls } = (await (await fetch(`${url}/dev/callback/${name}`)).json()) as { calls: Received[] }
    return calls.flatMap(({ authorization, body }) => [
      authorization.split(' ')[1]!,
      ...Object.values(body).map(String),
    ])
  })
  const secrets = (await Promise.all(received)).flat().filter((value) => value.length > 20)
  // A ping contains two secrets: its token and the `auth_req_id`. A push contains these, an access token and an ID
  // token.
  assert.equal(secrets.length, 6)
  const text = events.text()
  for (const secret of secrets) {
    assert.ok(text.includes(`${secret.slice(0, 6)}…`), 'it is recognisable')
    assert.ok(!text.includes(secret.slice(0, 12)), 'and no more')
  }
  for (const { client_secret: secret } of demoClients(url)) {
    if (secret === undefined) continue
    assert.ok(!text.includes(secret) && !text.includes(Buffer.from(`:${secret}`).toString('base64').slice(4, -4)))
  }
  assert.doesNotMatch(text, /eyJ[\w-]{8,}/, 'no token')
  assert.doesNotMatch(text, /[\w-]{40,}/, 'nothing as long as a secret')
})

interface Received {
  authorization: string
  body: Record<string, unknown>
}

describe('the demo exists only where it is switched on', () => {
  const pages = ['/demo', '/demo/events', '/assets/demo.js', '/assets/demo.css']

  test('the number of pages that listen is limited', async (t) => {
    const { url } = await openDemo(t, { limits: { streams: { inAll: 2 } } })
    await openEvents(t, url)
    const { status, headers } = await fetch(`${url}/demo/events`)
    assert.deepEqual([status, headers.get('retry-after')], [429, '30'])
  })

  test('with the demo: pages without inline script or style, framed by the same origin only', async (t) => {
    const { url } = await openDemo(t)
    const page = await fetch(`${url}/demo`)
    assert.equal(page.status, 200)
    const policy = String(page.headers.get('content-security-policy'))
    assert.match(policy, /default-src 'none'/)
    assert.match(policy, /frame-src 'self'/)
    assert.match(policy, /frame-ancestors 'none'/)
    assert.doesNotMatch(policy, /unsafe/)
    assert.doesNotMatch(await page.text(), /<style| style=|<script(?! src=)| on\w+=/)

    const browser = await signInAsAlice(url)
    const app = await browser.open(`${url}/`)
    const signIn = await openBrowser(url).open(`${url}/`)
    for (const { headers } of [app, signIn]) {
      assert.match(String(headers.get('content-security-policy')), /frame-ancestors 'self'/)
      assert.equal(headers.get('x-frame-options'), null)
    }
  })

  test('in development without the demo: it does not exist, and the app may not be framed', async (t) => {
    const stage = await openStage(t)
    for (const page of pages) assert.equal((await stage.get(page)).status, 404, page)
    assert.equal((await stage.post('/demo/ring', { mode: 'poll', item: 'Coffee', amount: '4.20' })).status, 404)
    assert.match(
      (await stage.get('/demo')).text,
      /<pre>npx doorbell serve --demo<\/pre>/,
      'its page says how to start it',
    )
    const { headers } = await openBrowser(stage.url).open(`${stage.url}/`)
    assert.match(String(headers.get('content-security-policy')), /frame-ancestors 'none'/)
    assert.equal(headers.get('x-frame-options'), 'DENY')
  })

  test('outside development it does not exist, even if a program asks for it', async (t) => {
    const port = await freePort()
    const overrides = { port, issuer: 'https://id.example.com', database: 'sqlite::memory:', secret, users: [] }
    const config = await loadConfig({ env: {}, overrides })
    const doorbell = await createDoorbell({ ...config, demo: true }, { log: silent(), workers: false })
    t.after(() => doorbell.close())
    await doorbell.listen()
    for (const page of pages) assert.equal((await fetch(`http://localhost:${port}${page}`)).status, 404, page)
    const problem = await fetch(`http://localhost:${port}/session/callback`)
    assert.match(String(problem.headers.get('content-security-policy')), /frame-ancestors 'none'/)
    assert.equal(problem.headers.get('x-frame-options'), 'DENY')
  })
})

// ── the stage of the demo ──

const secret = Buffer.alloc(32, 7).toString('base64url')
const silent = () => createLog('silent')

async function openDemo(
  t: TestContext,
  more: { requests?: { maxBindingMessageLength: number }; limits?: ConfigInput['limits'] } = {},
) {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const clock = createStageClock()
  const overrides = { issuer: url, port, database: 'sqlite::memory:', secret, ...more }
  const config = await loadConfig({ env: {}, demo: true, overrides })
  const doorbell: Doorbell = await createDoorbell(config, { clock, log: silent() })
  t.after(() => doorbell.close())
  await doorbell.listen()
  const events = await openEvents(t, url)
  return {
    url,
    clock,
    doorbell,
    events,
    /** Sends a request and returns its number. */
    async ring(mode: Display['mode'], item = 'Coffee'): Promise<number> {
      const answer = await post(`${url}/demo/ring`, { mode, item, amount: '4.20' })
      assert.equal(answer.status, 202)
      return ((await answer.json()) as { ring: number }).ring
    },
    /** Alice decides the request of the latest mail, through a device service. */
    async decide(status: 'approved' | 'denied'): Promise<void> {
      const request_id = events.mailLink().split('/').at(-1)!
      const authorization = basic('demo-device', 'demo-device-secret-not-for-production')
      const fields = { login_hint: 'alice', request_id, status }
      assert.equal((await post(`${url}/backchannel/complete`, fields, { authorization })).status, 200)
    },
  }
}

function post(url: string, fields: Record<string, string>, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, { method: 'POST', headers, body: new URLSearchParams(fields) })
}

/** The messages that an open page would show. */
async function openEvents(t: TestContext, url: string) {
  const stop = new AbortController()
  t.after(() => stop.abort())
  const response = await fetch(`${url}/demo/events`, { signal: stop.signal })
  assert.equal(response.headers.get('content-type'), 'text/event-stream')
  let text = ''
  const reading = (async () => {
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) text += piece
  })()
  reading.catch(() => {})

  const named = <Data>(name: string): Data[] =>
    [...text.matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)]
      .filter(([, event]) => event === name)
      .map(([, , data]) => JSON.parse(data!) as Data)
  const display = () => named<Display>('till').at(-1)
  /** Returns the messages in the order in which they began, each in its latest form. */
  const messages = () => {
    const latest = new Map(named<WireMessage>('wire').map((message) => [message.id, message]))
    return [...latest.values()].filter(({ number: ring }) => ring === display()?.number)
  }
  return {
    text: () => text,
    display,
    calls: () => messages().map(({ from, to, method, path, status }) => `${from}→${to} ${method} ${path} ${status}`),
    has: (method: string) => messages().some((message) => message.method === method),
    mailLink: () => messages().find(({ link }) => link !== undefined)!.link!,
  }
}

async function signInAsAlice(url: string): Promise<Browser> {
  const browser = openBrowser(url)
  const signIn = await browser.open(`${url}/`)
  const after = await browser.submit(signIn, { name: 'alice', password: 'alice' })
  if (after.url.includes('/sign-in/')) await browser.submit(after)
  return browser
}

async function press(browser: Browser, url: string, link: string, decision: string): Promise<Page> {
  return browser.submit(await browser.open(`${url}${link}`), { decision })
}
