/** The consent app under attack or in unlucky circumstances: no request is decided, and the page tells the user so. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import type { UserHooks } from '../../src/user/user.ts'
import { createAuthenticator } from '../support/authenticator.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { formTokenOn, openVisitor, type Seen } from '../support/visitor.ts'
import { assertRefused, looking, nothingDecided } from './consent-app-visits.ts'

const minutes = 60_000

describe('forms', () => {
  test('a form without the token, with an invented one, or with that of another session decides nothing', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    const other = openVisitor(stage.url)
    const otherToken = formTokenOn(await other.signIn(ana))
    assert.notEqual(otherToken, formTokenOn(page))
    for (const token of [{}, { form_token: '' }, { form_token: 'made-up' }, { form_token: otherToken }]) {
      const seen = await visitor.post(path, { decision: 'approve', ...token })
      assertRefused(seen, 403, /has expired or was sent from another site/)
    }
    await nothingDecided(stage)
  })

  test('a form from another site decides nothing, even with the right token', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    const form = { decision: 'approve', form_token: formTokenOn(page) }
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'http://localhost:1' },
      { 'sec-fetch-site': 'cross-site' },
      { origin: stage.url, 'sec-fetch-site': 'cross-site' },
    ]) {
      assertRefused(
        await visitor.post(path, form, headers as Record<string, string>),
        403,
        /was sent from another site/,
      )
    }
    await nothingDecided(stage)
    const ours = { origin: stage.url, 'sec-fetch-site': 'same-origin' }
    assert.equal((await visitor.post(path, form, ours)).location, `${path}?just=approve`)
  })

  test('a form from before a new sign-in is too old', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    await visitor.follow(await visitor.get('/session/start'))
    assertRefused(await visitor.post(path, { decision: 'approve', form_token: formTokenOn(page) }), 403, /has expired/)
    await nothingDecided(stage)
    const fresh = formTokenOn(await visitor.get(path))
    assert.equal((await visitor.post(path, { decision: 'deny', form_token: fresh })).status, 303)
  })

  test('a form with a missing, unknown, repeated or differently encoded decision decides nothing', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    const form_token = formTokenOn(page)
    for (const form of [{}, { decision: '' }, { decision: 'approved' }, { decision: 'APPROVE' }]) {
      assertRefused(await visitor.post(path, { ...form, form_token } as Record<string, string>), 403)
    }
    const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    for (const [type, body] of [
      ['application/x-www-form-urlencoded', `form_token=${form_token}&decision=deny&decision=approve`],
      ['application/json', JSON.stringify({ form_token, decision: 'approve' })],
      ['text/plain', `form_token=${form_token}&decision=approve`],
    ] as const) {
      const headers = { cookie, 'content-type': type }
      const { status } = await fetch(stage.url + path, { method: 'POST', headers, body, redirect: 'manual' })
      assert.equal(status, 400, body)
    }
    await nothingDecided(stage)
  })

  test('all other forms are as strict: revoking, blocking, passkeys, notifications, signing out', async (t) => {
    const { stage, visitor } = await looking(t)
    for (const [path, form] of [
      ['/activity/revoke', { request_id: await stage.newestRequest() }],
      ['/activity/block', { client_id: 'kiosk', blocked: 'true' }],
      ['/passkeys', { passkey: '{}' }],
      ['/passkeys/rename', { id: 'x', name: 'y' }],
      ['/passkeys/remove', { id: 'x' }],
      ['/notifications', { subscription: '{}' }],
      ['/session/end', {}],
    ] as [string, Record<string, string>][]) {
      assertRefused(await visitor.post(path, { ...form, form_token: 'made-up' }), 403)
      if (path !== '/session/end') assertRefused(await openVisitor(stage.url).post(path, form), 401)
    }
    for (const path of ['/passkeys/options', `/approve/${await stage.newestRequest()}/passkey`]) {
      assert.equal((await visitor.post(path, { form_token: 'made-up' })).status, 403)
      assert.equal((await openVisitor(stage.url).post(path, {})).status, 403)
    }
    assert.equal((await stage.ring('kiosk')).status, 200, 'not blocked')
    assert.equal((await visitor.get('/')).status, 200, 'still signed in')
  })
})

describe('the user at the page', () => {
  test("Ben cannot decide Ana's request, and learns nothing of it", async (t) => {
    const { stage, path } = await looking(t)
    const visitor = openVisitor(stage.url)
    const form_token = formTokenOn(await visitor.signIn(ben))
    for (const decision of ['approve', 'deny', 'report']) {
      const seen = await visitor.post(path, { decision, form_token })
      const unknown = await visitor.post('/approve/01900000-0000-7000-8000-000000000000', { decision, form_token })
      assertRefused(seen, 404, /Request not found/)
      assert.ok(!/Kiosk|Coffee/.test(seen.text))
      const blank = (text: string) => text.replaceAll(/approve(%2F|\/)[0-9a-f-]{36}/g, 'approve/…')
      assert.equal(blank(seen.text), blank(unknown.text), 'like one that does not exist')
    }
    assert.equal((await visitor.post(`${path}/passkey`, { form_token })).status, 404)
    await nothingDecided(stage)
  })

  test('the session ends during a decision: the page says so, nothing is decided, and signing in leads back', async (t) => {
    const { stage, path, page, visitor } = await looking(t, {}, { requested_expiry: '3600' })
    stage.clock.advance(10 * minutes + 1000)
    const seen = await visitor.post(path, { decision: 'approve', form_token: formTokenOn(page) })
    assertRefused(seen, 401, /Your session has ended. Nothing was decided./)
    assert.ok(seen.text.includes(`href="/session/start?to=${encodeURIComponent(path)}"`))
    await nothingDecided(stage)
    const back = await visitor.follow(await visitor.get(`/session/start?to=${encodeURIComponent(path)}`))
    assert.match(back.text, /Kiosk asks for your approval/)
  })

  test('Ana is disabled between mail and click: she cannot sign in, and nothing is decided', async (t) => {
    const { stage, hooks } = await openStageWithHooks(t)
    await stage.ring('kiosk')
    const path = `/approve/${await stage.newestRequest()}`
    hooks.disable()
    const seen = await openVisitor(stage.url).signIn(ana, path)
    assert.equal(seen.status, 401)
    assert.match(seen.text, /Name or password is wrong/)
    hooks.enable()
    await nothingDecided(stage)
  })

  test('Ana is disabled while the page is open: her decision is refused, and no page of hers is shown', async (t) => {
    const { stage, hooks } = await openStageWithHooks(t)
    await stage.ring('kiosk')
    const path = `/approve/${await stage.newestRequest()}`
    const visitor = openVisitor(stage.url)
    const page = await visitor.signIn(ana, path)
    hooks.disable()
    const seen = await visitor.post(path, { decision: 'approve', form_token: formTokenOn(page) })
    assertRefused(seen, 401, /Nothing was decided/)
    for (const shown of ['/', '/activity', '/passkeys', path]) {
      const { status, text } = await visitor.follow(await visitor.get(shown))
      assert.deepEqual([status, /<h1>Sign in<\/h1>/.test(text)], [200, true], shown)
    }
    hooks.enable()
    await nothingDecided(stage)
  })

  test('fetching a link decides nothing: by a scanner, by a preview, by her own browser', async (t) => {
    const { stage, path, visitor } = await looking(t)
    const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    for (const headers of [{}, { cookie }]) {
      for (const method of ['HEAD', 'GET', 'OPTIONS', 'PUT', 'DELETE']) {
        for (const query of ['', '?decision=approve', '?just=approve', '?form_token=x&decision=approve']) {
          await fetch(stage.url + path + query, { method, headers, redirect: 'manual' })
        }
      }
    }
    await nothingDecided(stage)
    assert.ok(
      !/Approved/.test((await visitor.get(`${path}?just=approve`)).text),
      'an address cannot make it look decided',
    )
  })
})

describe('headers and content of every answer', () => {
  test('cookies are limited to the host, hidden from scripts, and not sent by other sites', async (t) => {
    const config: ConfigInput = { issuer: 'https://id.example', development: false }
    const elsewhere = { northbank: 'https://northbank.example/n', till: 'https://till.example/n' }
    const stage = await openStage(t, { config, ...elsewhere })
    const visitor = openVisitor(stage.url, 'https://id.example')
    const lines: string[] = []
    const listening = { ...visitor, get: async (path: string) => note(await visitor.get(path)) }
    const note = (seen: Seen) => {
      lines.push(...seen.headers.getSetCookie())
      return seen
    }
    let step = await listening.get('/session/start')
    while (!step.location?.startsWith('/sign-in/')) step = await listening.get(step.location!)
    step = note(await visitor.post(step.location, { name: 'ana', password: ana.password }))
    while (step.location) step = await listening.get(step.location)
    assert.match(step.text, /Signed in as Ana/)
    lines.push(...(await visitor.post('/session/end', { form_token: formTokenOn(step) })).headers.getSetCookie())

    const app = lines.filter((line) => line.includes('doorbell_app'))
    const names = new Set(app.map((line) => line.slice(0, line.indexOf('=')).replace(/(sign_in_).*/, '$1')))
    assert.deepEqual([...names].sort(), [
      '__Host-doorbell_app',
      '__Host-doorbell_app_sign_in_',
      '__Host-doorbell_app_signed_out',
    ])
    for (const line of app) {
      assert.match(line, /; Path=\/(;|$)/)
      assert.match(line, /; HttpOnly(;|$)/)
      assert.match(line, /; Secure(;|$)/)
      assert.match(line, /; SameSite=Lax(;|$)/)
      assert.doesNotMatch(line, /Domain=/)
    }
    for (const line of lines) {
      assert.match(line, /; httponly(;|$)/i, line)
      assert.match(line, /^__(Host|Secure)-/, line)
      assert.match(line, /; secure(;|$)/i, line)
    }
    const everything = lines.join('\n')
    for (const secret of ['ana@example.com', 'user-ana']) assert.ok(!everything.includes(secret), 'nothing readable')
  })

  test('every page allows our own scripts only, no frames, no caching, no referrer', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    const form_token = formTokenOn(page)
    const signedOut = openVisitor(stage.url)
    const pages: Record<string, Seen> = {
      approve: page,
      waiting: await visitor.get('/'),
      activity: await visitor.get('/activity'),
      passkeys: await visitor.get('/passkeys'),
      'form too old': await visitor.post(path, { decision: 'approve' }),
      'session over': await signedOut.post(path, { decision: 'approve' }),
      'not yours': await visitor.get('/approve/no-such-request'),
      'start again': await signedOut.get('/session/callback'),
      outcome: await visitor.follow(await visitor.post(path, { decision: 'deny', form_token })),
      'sign-in': await signedOut.follow(await signedOut.get('/')),
      'sign-in over': await signedOut.get('/sign-in/no-such'),
      mailbox: await signedOut.get('/dev/mailbox'),
      'error of the provider': await signedOut.get('/oauth/authorize?client_id=nobody'),
    }
    for (const [name, { headers, text }] of Object.entries(pages)) {
      assert.match(String(headers.get('content-type')), /^text\/html/, name)
      const policy = String(headers.get('content-security-policy'))
      assert.match(policy, /default-src 'none'/, name)
      assert.match(policy, /script-src 'self'(;|$)/, name)
      assert.match(policy, /frame-ancestors 'none'/, name)
      assert.match(policy, /base-uri 'none'/, name)
      assert.doesNotMatch(policy, /unsafe|\*/, name)
      assert.equal(headers.get('referrer-policy'), 'no-referrer', name)
      assert.equal(headers.get('x-content-type-options'), 'nosniff', name)
      assert.equal(headers.get('x-frame-options'), 'DENY', name)
      assert.match(String(headers.get('cache-control')), /no-store/, name)
      assert.doesNotMatch(text, /<script(?![^>]* src="\/assets\/)|<style| style=| on[a-z]+="|javascript:/, name)
    }
  })

  test('a decision cannot be answered from a cache, nor can the way to it', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    for (const seen of [
      await visitor.post(path, { decision: 'deny', form_token: formTokenOn(page) }),
      await visitor.get('/session/start'),
      await openVisitor(stage.url).get(path),
    ]) {
      assert.equal(seen.status, 303)
      assert.match(String(seen.headers.get('cache-control')), /no-store/)
    }
  })

  test('text from others is shown as text, never as markup', async (t) => {
    const stage = await openStage(t)
    const hostile = '<script>alert(1)</script>"\'><img src=x onerror=alert(1)>'
    await stage.ring('kiosk', { binding_message: hostile })
    const visitor = openVisitor(stage.url)
    const path = `/approve/${await stage.newestRequest()}`
    await visitor.signIn(ana)
    for (const shown of ['/', path]) {
      const { text } = await visitor.get(shown)
      assert.ok(text.includes('&lt;script&gt;alert(1)&lt;/script&gt;'), shown)
      assert.ok(!text.includes('<script>alert') && !text.includes('<img src=x'), shown)
    }
  })

  test('an error that another site caused is shown in the reader’s language, with the technical words below it', async (t) => {
    const stage = await openStage(t)
    for (const [language, says] of [
      ['de', 'sich nicht beantworten lässt'],
      ['fr', 'ne peut pas être traitée'],
      ['en', 'cannot be answered'],
    ] as const) {
      const { status, text } = await stage.get('/oauth/authorize?client_id=nobody', { 'accept-language': language })
      assert.equal(status, 400)
      assert.match(text, new RegExp(`<html lang="${language}">`))
      assert.ok(text.includes(says), text)
      assert.match(text, /<p class="small" lang="en">invalid_client/)
    }
  })
})

/** Opens a stage with the user Ana of an application. The test can disable Ana at any time. */
async function openStageWithHooks(t: TestContext) {
  let disabled = false
  const { password, ...known } = ana
  const find = async (id: string) => (id === ana.id ? { ...known, disabled } : null)
  const users: UserHooks = {
    find,
    findByHint: async ({ value }) => (value === ana.username || value === ana.email ? find(ana.id) : null),
    verifyPassword: async (_user, given) => given === password,
  }
  const stage = await openStage(t, { config: { users } })
  const hooks = {
    disable: () => {
      disabled = true
    },
    enable: () => {
      disabled = false
    },
  }
  return { stage, hooks }
}

describe('the page of passkeys, opened from a request that needs one', () => {
  const requestId = '01900000-0000-7000-8000-000000000000'

  async function onPasskeys(t: TestContext, query: string) {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    const page = await visitor.get(`/passkeys${query}`)
    const token = { form_token: formTokenOn(page) }
    const add = async (request: Record<string, string>) => {
      const options = JSON.parse((await visitor.post('/passkeys/options', token)).text)
      const passkey = createAuthenticator(stage.url).create(options)
      return (await visitor.post('/passkeys', { ...token, passkey, ...request })).location
    }
    const fail = async (request: Record<string, string>) =>
      (await visitor.post('/passkeys', { ...token, passkey: '{}', ...request })).location
    return { stage, visitor, page, add, fail }
  }

  test('leads back to the request: by its link, after a passkey was added, and after a new sign-in', async (t) => {
    const { stage, visitor, page, add, fail } = await onPasskeys(t, `?request=${requestId}`)
    assert.ok(page.text.includes(`href="/approve/${requestId}"`))
    assert.ok(page.text.includes(`name="request" value="${requestId}"`))
    assert.equal(await fail({ request: requestId }), `/passkeys?request=${requestId}&done=failed`)
    assert.equal(await add({ request: requestId }), `/approve/${requestId}`)
    const later = await visitor.get(`/passkeys?request=${requestId}`)
    const again = /href="(\/session\/start[^"]*)"/.exec(later.text)![1]!.replaceAll('&amp;', '&')
    assert.equal(new URL(again, stage.url).searchParams.get('to'), `/passkeys?request=${requestId}`)
  })

  for (const [what, request] of [
    ['no request', undefined],
    ['an empty one', ''],
    ['a path', '../activity'],
    ['another host', '//evil.example'],
    ['HTML', '"><script>'],
    ['a second parameter', 'x&done=added'],
  ] as const) {
    test(`with ${what}, it is the usual page`, async (t) => {
      const query = request === undefined ? '' : `?request=${encodeURIComponent(request)}`
      const { page, add, fail } = await onPasskeys(t, query)
      assert.equal(page.status, 200)
      assert.doesNotMatch(page.text, /href="\/approve|name="request"/)
      const form: Record<string, string> = request === undefined ? {} : { request }
      assert.equal(await fail(form), '/passkeys?done=failed')
      assert.equal(await add(form), '/passkeys?done=added')
    })
  }
})
