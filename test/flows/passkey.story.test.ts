/** Ana adds a passkey, signs in with it, and confirms approvals with it. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createAuthenticator, type Lies, passkeyOptions, pressPasskey, sendPasskey } from '../support/authenticator.ts'
import { createStageClock } from '../support/clock.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { ana, ben, credentials, openStage, type Stage } from '../support/stage.ts'
import { added, creationOptions, lies, listed, passkeys, signedIn, signedInWith } from './passkeys.ts'

describe('Ana adds a passkey', () => {
  test('after signing in with her password; it appears in her list, and she removes it', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = createAuthenticator(stage.url)
    const options = await creationOptions(stage, bearer)
    assert.equal(options.rp.id, 'localhost')
    assert.ok(!JSON.stringify(options.user.id).includes('user-ana'))
    const added = await stage.post(passkeys, { passkey: authenticator.create(options), name: 'My phone' }, bearer)
    assert.equal(added.status, 201)
    const { id, created_at } = added.body
    assert.deepEqual(added.body, { id, name: 'My phone', created_at })
    assert.ok(Math.abs(Number(created_at) - stage.clock.now() / 1000) < 2)
    assert.deepEqual(await listed(stage, bearer), [{ id, name: 'My phone', created_at }])

    const strong = await signedInWith(stage, authenticator)
    const again = await creationOptions(stage, strong)
    assert.deepEqual(
      (again as unknown as { excludeCredentials: { id: string }[] }).excludeCredentials.map((known) => known.id),
      [authenticator.credentialId],
    )

    const removed = await stage.post(`${passkeys}/remove`, { id: String(id) }, strong)
    assert.deepEqual([removed.status, removed.body], [200, { id, removed: true }])
    assert.deepEqual(await listed(stage, bearer), [])
    assert.equal((await stage.post(`${passkeys}/remove`, { id: String(id) }, strong)).status, 404)
  })

  test('but not one made for another site or user, without user verification, or twice', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const bens = `Bearer ${(await signIn(stage, ben)).access_token}`
    const lies: Lies[] = [
      { origin: 'https://evil.example' },
      { rpId: 'evil.example' },
      { userVerified: false },
      { challenge: 'invented' },
      { type: 'webauthn.get' },
    ]
    for (const lie of lies) {
      const response = createAuthenticator(stage.url).create(await creationOptions(stage, bearer), lie)
      const { status, body } = await stage.post(passkeys, { passkey: response }, bearer)
      assert.deepEqual([status, body.error], [400, 'invalid_request'], JSON.stringify(lie))
    }
    for (const nonsense of ['nonsense', '{}', '[]', '{"id":"a","response":{"clientDataJSON":"e30"}}']) {
      assert.equal((await stage.post(passkeys, { passkey: nonsense }, bearer)).status, 400)
    }

    const authenticator = createAuthenticator(stage.url)
    const forAna = authenticator.create(await creationOptions(stage, bearer))
    assert.equal((await stage.post(passkeys, { passkey: forAna }, bens)).status, 400, "Ana's challenge")
    assert.equal((await stage.post(passkeys, { passkey: forAna }, bearer)).status, 201)
    const strong = await signedInWith(stage, authenticator)
    assert.equal((await stage.post(passkeys, { passkey: forAna }, strong)).status, 400, 'replayed')
    const sameKey = authenticator.create(await creationOptions(stage, bens))
    assert.equal((await stage.post(passkeys, { passkey: sameKey }, bens)).status, 400, 'it is hers')

    assert.deepEqual(await listed(stage, bens), [])
    assert.equal((await listed(stage, bearer)).length, 1)
  })

  test('only with her own token: a device service and a caller without a token are refused, and Ben cannot remove hers', async (t) => {
    const { stage, bearer } = await signedIn(t)
    await added(stage, bearer)
    const [{ id }] = (await listed(stage, bearer)) as [{ id: string }]
    for (const path of ['/options', '', '/remove', '/confirm-options']) {
      const form = { login_hint: 'ana', passkey: '{}', id, request_id: 'r' }
      assert.equal((await stage.post(passkeys + path, form, credentials.phoneService)).status, 401, path)
      assert.equal((await stage.post(passkeys + path, form)).status, 401, path)
    }
    assert.equal((await stage.get(passkeys)).status, 401)
    const bens = `Bearer ${(await signIn(stage, ben)).access_token}`
    const { status, body } = await stage.post(`${passkeys}/remove`, { id }, bens)
    assert.deepEqual([status, body.error], [404, 'not_found'])
    assert.equal((await listed(stage, bearer)).length, 1)
  })
})

describe('changing passkeys requires a recent sign-in (RFC 9470)', () => {
  const refused = async (stage: Stage, bearer: string, challenge: RegExp) => {
    for (const [path, form] of [
      ['/options', {}],
      ['', { passkey: '{}' }],
      ['/remove', { id: 'x' }],
    ] as const) {
      const { status, body, headers } = await stage.post(passkeys + path, form, bearer)
      assert.deepEqual([status, body.error], [401, 'insufficient_user_authentication'], path)
      assert.match(headers.get('www-authenticate') ?? '', challenge)
    }
  }
  const neededOf = async (stage: Stage, authorization: string) =>
    (await stage.get(passkeys, { authorization })).body.sign_in_needed

  test('five minutes after signing in, her token lists them and changes none', async (t) => {
    const { stage, bearer } = await signedIn(t)
    assert.equal(await neededOf(stage, bearer), undefined)
    const options = await creationOptions(stage, bearer)
    stage.clock.advance(5 * 60_000 + 5_000)
    assert.deepEqual(await neededOf(stage, bearer), { max_age: 300 })
    await refused(stage, bearer, /error="insufficient_user_authentication", max_age="300"$/)
    const made = createAuthenticator(stage.url).create(options)
    assert.equal((await stage.post(passkeys, { passkey: made }, bearer)).status, 401, 'too late')
  })

  test('once she has a passkey, her password alone neither adds nor removes one', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    assert.deepEqual(await neededOf(stage, bearer), { max_age: 300, acr_values: 'phr' })
    await refused(stage, bearer, /max_age="300", acr_values="phr"$/)
    assert.equal((await listed(stage, bearer)).length, 1)
    const strong = await signedInWith(stage, authenticator)
    assert.equal(await neededOf(stage, strong), undefined)
    await added(stage, strong)
    assert.equal((await listed(stage, strong)).length, 2)
  })

  test('a sign-in time in the future does not count as recent', async (t) => {
    const behind = await openStage(t, { parts: { clock: createStageClock(Date.now() - 3_600_000) } })
    const early = `Bearer ${(await signIn(behind)).access_token}`
    assert.equal((await behind.post(`${passkeys}/options`, {}, early)).status, 401)
  })
})

describe('Ana signs in with her passkey', () => {
  test('and the tokens say phr, pop, user, and the time', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { browser, page, tokens } = await startSignIn(stage)
    assert.match(page.text, /Sign in with a passkey/)
    assert.match(String(page.headers.get('content-security-policy')), /script-src 'self'/)
    assert.doesNotMatch(page.text, /<script>|<script [^>]*>[^<]/)
    const consent = await pressPasskey(browser, page, authenticator)
    assert.match(consent.text, /Allow access/)
    const claims = (await tokens((await browser.submit(consent)).url)).claims()!
    assert.deepEqual([claims.sub, claims.acr, claims.amr], ['user-ana', 'phr', ['pop', 'user']])
    assert.ok(Math.abs(Number(claims.auth_time) - Date.now() / 1000) < 5)
    assert.equal(typeof ((await listed(stage, bearer)) as [{ used_at: number }])[0].used_at, 'number')
  })

  test('while a password sets no acr', async (t) => {
    const stage = await openStage(t)
    const claims = (await signIn(stage)).claims()!
    assert.deepEqual([claims.acr, claims.amr], [undefined, ['pwd']])
  })

  test('without revealing which users have one: the options name no passkey', async (t) => {
    const { stage, bearer } = await signedIn(t)
    await added(stage, bearer)
    const { browser, page } = await startSignIn(stage, { login_hint: 'ana@example.com' })
    const options = await passkeyOptions(browser, page)
    assert.deepEqual(Object.keys(options).sort(), ['challenge', 'rpId', 'timeout', 'userVerification'])
  })

  test('where the app requires phr, a password is not accepted', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { browser, page, tokens } = await startSignIn(stage, { acr_values: 'phr' })
    assert.doesNotMatch(page.text, /type="password"/)
    const form = `<form method="post" action="${new URL(page.url).pathname}"><input name="name"><input name="password"></form>`
    const refused = await browser.submit({ ...page, text: form }, { name: 'ana', password: ana.password })
    assert.deepEqual([refused.status, /Allow access/.test(refused.text)], [403, false])
    const consent = await pressPasskey(browser, page, authenticator)
    assert.equal((await tokens((await browser.submit(consent)).url)).claims()!.acr, 'phr')

    const either = await startSignIn(stage, { acr_values: 'phr urn:else' })
    assert.match(either.page.text, /type="password"/)
  })

  test('also in a browser with an earlier password session; with the passkey, it is enough', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { app, browser, page, tokens } = await startSignIn(stage)
    const consent = await browser.submit(page, { name: 'ana', password: ana.password })
    await tokens((await browser.submit(consent)).url)
    const ask = (more: Record<string, string>) => {
      const url = new URL(app.serverMetadata().authorization_endpoint!)
      const usual = {
        client_id: 'phone-app',
        response_type: 'code',
        redirect_uri: 'http://127.0.0.1/callback',
        scope: 'openid ciba:decide',
        code_challenge: 'a'.repeat(43),
        code_challenge_method: 'S256',
        acr_values: 'phr',
      }
      url.search = String(new URLSearchParams({ ...usual, ...more }))
      return browser.open(url.href)
    }
    assert.equal(new URL((await ask({ prompt: 'none' })).url).searchParams.get('error'), 'login_required')
    const stronger = await pressPasskey(browser, await ask({}), authenticator)
    assert.ok(new URL((await browser.submit(stronger)).url).searchParams.has('code'))
    assert.match((await ask({})).text, /Allow access/, 'no second sign-in')
  })

  test('but not with an invalid answer; the page says so', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { browser, page } = await startSignIn(stage)
    for (const lie of lies(stage)) {
      const refused = await pressPasskey(browser, page, authenticator, lie)
      assert.equal(refused.status, 401, JSON.stringify(lie))
      assert.match(refused.text, /The passkey was not accepted/)
    }
    const unknown = await pressPasskey(browser, page, createAuthenticator(stage.url))
    assert.equal(unknown.status, 401)
    assert.equal((await sendPasskey(browser, page, 'nonsense')).status, 401)

    const elsewhere = await startSignIn(stage)
    const theirs = authenticator.get(await passkeyOptions(elsewhere.browser, elsewhere.page))
    assert.equal((await sendPasskey(browser, page, theirs)).status, 401, 'made for another sign-in')

    const late = authenticator.get(await passkeyOptions(browser, page))
    stage.clock.advance(5 * 60_000)
    assert.equal((await sendPasskey(browser, page, late)).status, 401, 'too late')

    const response = authenticator.get(await passkeyOptions(browser, page))
    assert.match((await sendPasskey(browser, page, response)).text, /Allow access/)
    const { browser: other, page: otherPage } = await startSignIn(stage)
    assert.equal((await sendPasskey(other, otherPage, response)).status, 401, 'replayed')
  })

  test("in her language: the one the app asks for, else her browser's", async (t) => {
    const stage = await openStage(t)
    const { page } = await startSignIn(stage, { ui_locales: 'de' })
    assert.match(page.text, /<html lang="de">/)
    const over = await stage.get('/sign-in/none', { 'accept-language': 'fr' })
    assert.match(over.text, /<html lang="fr">/)
  })

  test('with a script that the server delivers as a file', async (t) => {
    const stage = await openStage(t)
    const { status, headers, text } = await stage.get('/assets/passkey.js')
    assert.deepEqual([status, headers.get('content-type')], [200, 'text/javascript; charset=utf-8'])
    assert.match(text, /navigator\.credentials/)
    const { body } = await stage.get('/.well-known/openid-configuration')
    assert.deepEqual(body.acr_values_supported, ['phr'])
  })
})
