/** Ana adds a passkey, signs in with it, and confirms with it what she approves. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, type TestContext, test } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import {
  type Authenticator,
  type CreationOptions,
  createAuthenticator,
  type Lies,
  passkeyOptions,
  pressPasskey,
  type RequestOptions,
  sendPasskey,
} from '../cast/authenticator.ts'
import { createStageClock } from '../cast/clock.ts'
import { signIn, startSignIn } from '../cast/phone-app.ts'
import { type Answer, ana, basic, ben, CIBA, credentials, openStage, type Stage, secrets } from '../cast/stage.ts'

const passkeys = '/backchannel/passkeys'

describe('Ana adds a passkey', () => {
  test('after signing in with her password, sees it in her list, and removes it', async (t) => {
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

  test('but not what was made elsewhere, for somebody else, without recognising her, or twice', async (t) => {
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

  test('only Ana herself can: no device service, nobody without her token, and Ben cannot remove hers', async (t) => {
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

describe('changing passkeys needs a sign-in of just now (RFC 9470)', () => {
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

  test('once she has a passkey, whoever knows her password adds none and removes none', async (t) => {
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

  test('a sign-in that lies in the future is none of just now', async (t) => {
    const behind = await openStage(t, { parts: { clock: createStageClock(Date.now() - 3_600_000) } })
    const early = `Bearer ${(await signIn(behind)).access_token}`
    assert.equal((await behind.post(`${passkeys}/options`, {}, early)).status, 401)
  })
})

describe('Ana signs in with her passkey', () => {
  test('and the tokens say so: phr, pop and user, and when', async (t) => {
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

  test('while a password leaves acr unsaid', async (t) => {
    const stage = await openStage(t)
    const claims = (await signIn(stage)).claims()!
    assert.deepEqual([claims.acr, claims.amr], [undefined, ['pwd']])
  })

  test('nobody learns who has one: the options name no passkey', async (t) => {
    const { stage, bearer } = await signedIn(t)
    await added(stage, bearer)
    const { browser, page } = await startSignIn(stage, { login_hint: 'ana@example.com' })
    const options = await passkeyOptions(browser, page)
    assert.deepEqual(Object.keys(options).sort(), ['challenge', 'rpId', 'timeout', 'userVerification'])
  })

  test('where the app asks for phr and nothing else, a password will not do', async (t) => {
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

  test('not even in a browser that signed her in with the password before; with the passkey, it is enough', async (t) => {
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

  test('but not with anything that is not right, and says so on the page', async (t) => {
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

  test('in her language: what the app asks for, else what her browser says', async (t) => {
    const stage = await openStage(t)
    const { page } = await startSignIn(stage, { ui_locales: 'de' })
    assert.match(page.text, /<html lang="de">/)
    const over = await stage.get('/sign-in/none', { 'accept-language': 'fr' })
    assert.match(over.text, /<html lang="fr">/)
  })

  test('the script comes from the server, as a file', async (t) => {
    const stage = await openStage(t)
    const { status, headers, text } = await stage.get('/assets/passkey.js')
    assert.deepEqual([status, headers.get('content-type')], [200, 'text/javascript; charset=utf-8'])
    assert.match(text, /navigator\.credentials/)
    const { body } = await stage.get('/.well-known/openid-configuration')
    assert.deepEqual(body.acr_values_supported, ['phr'])
  })
})

describe('Ana confirms with her passkey', () => {
  test('what Kiosk asks her with acr_values=phr, and the tokens of the ring say phr', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { authReqId, requestId } = await rung(stage, { acr_values: 'phr' })
    assert.equal(await requiredOf(stage, requestId, bearer), true)

    const without = await approve(stage, requestId, bearer)
    assert.deepEqual([without.status, without.body.error, without.body.passkey_required], [403, 'access_denied', true])

    stage.clock.advance(60_000)
    const now = Math.floor(stage.clock.now() / 1000)
    const decided = await approve(stage, requestId, bearer, await confirmed(stage, requestId, bearer, authenticator))
    assert.deepEqual([decided.status, decided.body], [200, { request_id: requestId, status: 'approved' }])
    const claims = idTokenClaims((await stage.poll('kiosk', authReqId)).body)
    assert.deepEqual([claims.acr, claims.amr, claims.auth_time], ['phr', ['pop', 'user'], now])
  })

  test('also where nobody asked for it', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { authReqId, requestId } = await rung(stage)
    assert.equal(await requiredOf(stage, requestId, bearer), false)
    const response = await confirmed(stage, requestId, bearer, authenticator)
    assert.equal((await approve(stage, requestId, bearer, response)).status, 200)
    assert.equal(idTokenClaims((await stage.poll('kiosk', authReqId)).body).acr, 'phr')
  })

  test('whatever a client asks that always wants it', async (t) => {
    const bank: ClientMetadataInput = {
      client_id: 'strict-bank',
      client_secret: secrets.kiosk,
      grant_types: [CIBA],
      backchannel_token_delivery_mode: 'poll',
      backchannel_require_passkey: true,
    }
    const { stage, bearer } = await signedIn(t, { config: { clients: [bank] } })
    const authenticator = await added(stage, bearer)
    const form = { scope: 'openid', login_hint: 'ana' }
    const credential = basic('strict-bank', secrets.kiosk)
    assert.equal((await stage.post('/backchannel/authorize', form, credential)).status, 200)
    const requestId = await stage.newestRequest()
    assert.equal((await approve(stage, requestId, bearer)).body.passkey_required, true)
    const response = await confirmed(stage, requestId, bearer, authenticator)
    assert.equal((await approve(stage, requestId, bearer, response)).status, 200)
  })

  test('but not just after signing in with it; five minutes later, again', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const strong = await signedInWith(stage, authenticator)
    const first = await rung(stage, { acr_values: 'phr' })
    assert.equal(await requiredOf(stage, first.requestId, strong), false)
    assert.equal((await approve(stage, first.requestId, strong)).status, 200)
    assert.equal(idTokenClaims((await stage.poll('kiosk', first.authReqId)).body).acr, 'phr')

    // oidc-provider takes the time of a sign-in from the machine, which went on a little since the stage was set.
    stage.clock.advance(5 * 60_000 + 5_000)
    const second = await rung(stage, { acr_values: 'phr' })
    assert.equal(await requiredOf(stage, second.requestId, strong), true)
    assert.equal((await approve(stage, second.requestId, strong)).status, 403)
    assert.equal(await statusOf(stage, second.requestId), 'pending')
  })

  test('a no needs none, and a device service says itself how it knows her', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const one = await rung(stage, { acr_values: 'phr' })
    const denied = await stage.post(
      '/backchannel/complete',
      { request_id: one.requestId, status: 'denied', passkey: 'nonsense' },
      bearer,
    )
    assert.equal(denied.status, 200)
    const two = await rung(stage, { acr_values: 'phr' })
    const stated = { acr: 'urn:bank:face', amr: 'face' }
    const [waiting] = await stage.waiting()
    assert.equal(waiting!.passkey_required, false)
    assert.equal((await stage.decide(two.requestId, 'approved', { passkey: '{}' })).status, 400)
    assert.equal((await stage.decide(two.requestId, 'approved', stated)).status, 200)
    assert.equal(idTokenClaims((await stage.poll('kiosk', two.authReqId)).body).acr, 'urn:bank:face')
  })

  test('nothing that is not right decides anything', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const bens = `Bearer ${(await signIn(stage, ben)).access_token}`
    const anas = await added(stage, bearer)
    const bensOwn = await added(stage, bens)
    const { requestId } = await rung(stage)
    const other = await rung(stage)
    const refuse = async (why: string, response: string, as = bearer, status = 403) => {
      const refused = await approve(stage, requestId, as, response)
      assert.equal(refused.status, status, `${why}: ${refused.text}`)
      assert.equal(await statusOf(stage, requestId), 'pending', why)
    }

    for (const lie of lies(stage)) {
      await refuse(JSON.stringify(lie), await confirmed(stage, requestId, bearer, anas, lie))
    }
    for (const nonsense of ['nonsense', '{}', 'null', '{"id":"x","response":null}', '0'.repeat(20_000)]) {
      await refuse('nonsense', nonsense)
    }
    await refuse("Ben's passkey", await confirmed(stage, requestId, bearer, bensOwn))
    await refuse('Ben, with his passkey', await confirmed(stage, requestId, bearer, bensOwn), bens, 404)
    await refuse('for another request', await confirmed(stage, other.requestId, bearer, anas))
    const { browser, page } = await startSignIn(stage)
    await refuse('for a sign-in', anas.get(await passkeyOptions(browser, page)))

    const late = await confirmed(stage, requestId, bearer, anas)
    stage.clock.advance(5 * 60_000)
    await refuse('too late', late)

    const used = await confirmed(stage, other.requestId, bearer, anas)
    assert.equal((await approve(stage, other.requestId, bearer, used)).status, 200)
    await refuse('replayed', used)
    for (const id of [other.requestId, 'no-such-request']) {
      assert.equal((await stage.post(`${passkeys}/confirm-options`, { request_id: id }, bearer)).status, 404)
    }
    assert.equal((await stage.post(`${passkeys}/confirm-options`, { request_id: requestId }, bens)).status, 404)
    assert.equal((await approve(stage, other.requestId, bearer)).status, 409)
  })

  test('of forty who use one answer at once, one passes', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { requestId } = await rung(stage, { acr_values: 'phr' })
    const response = await confirmed(stage, requestId, bearer, authenticator)
    const answers = await Promise.all(Array.from({ length: 40 }, () => approve(stage, requestId, bearer, response)))
    assert.equal(answers.filter(({ status }) => status === 200).length, 1)
    assert.equal(await statusOf(stage, requestId), 'approved')
  })

  test('an authenticator that does not count is used as often as she likes', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer, createAuthenticator(stage.url, { counts: false }))
    for (const _ of [1, 2, 3]) {
      const { requestId } = await rung(stage, { acr_values: 'phr' })
      const response = await confirmed(stage, requestId, bearer, authenticator)
      assert.equal((await approve(stage, requestId, bearer, response)).status, 200)
    }
  })

  test('a passkey that was removed is worth nothing', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { requestId } = await rung(stage, { acr_values: 'phr' })
    const response = await confirmed(stage, requestId, bearer, authenticator)
    const [{ id }] = (await listed(stage, bearer)) as [{ id: string }]
    const strong = await signedInWith(stage, authenticator)
    assert.equal((await stage.post(`${passkeys}/remove`, { id }, strong)).status, 200)
    assert.equal((await approve(stage, requestId, bearer, response)).status, 403)
    assert.equal((await stage.post(`${passkeys}/confirm-options`, { request_id: requestId }, bearer)).status, 404)
    assert.equal(await statusOf(stage, requestId), 'pending')
  })
})

async function signedIn(t: TestContext, options: Parameters<typeof openStage>[1] = {}) {
  const stage = await openStage(t, options)
  return { stage, bearer: `Bearer ${(await signIn(stage)).access_token}` }
}

async function creationOptions(stage: Stage, bearer: string): Promise<CreationOptions> {
  const { status, body } = await stage.post(`${passkeys}/options`, {}, bearer)
  assert.equal(status, 200)
  return body as unknown as CreationOptions
}

async function added(stage: Stage, bearer: string, authenticator = createAuthenticator(stage.url)) {
  const response = authenticator.create(await creationOptions(stage, bearer))
  assert.equal((await stage.post(passkeys, { passkey: response }, bearer)).status, 201)
  return authenticator
}

async function signedInWith(stage: Stage, authenticator: Authenticator): Promise<string> {
  const { browser, page, tokens } = await startSignIn(stage)
  const consent = await pressPasskey(browser, page, authenticator)
  return `Bearer ${(await tokens((await browser.submit(consent)).url)).access_token}`
}

async function listed(stage: Stage, authorization: string): Promise<unknown[]> {
  return (await stage.get(passkeys, { authorization })).body.passkeys as unknown[]
}

async function rung(stage: Stage, parameters: Record<string, string> = {}) {
  // No two at the same time, so that it is clear which is the newest.
  stage.clock.advance(1)
  const { body } = await stage.ring('kiosk', parameters)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

/** An authenticator's answer to a challenge for this request. */
async function confirmed(
  stage: Stage,
  requestId: string,
  bearer: string,
  authenticator: Authenticator,
  lies: Lies = {},
): Promise<string> {
  const { status, body } = await stage.post(`${passkeys}/confirm-options`, { request_id: requestId }, bearer)
  assert.equal(status, 200)
  return authenticator.get(body as unknown as RequestOptions, lies)
}

function approve(stage: Stage, requestId: string, bearer: string, passkey?: string): Promise<Answer> {
  const form = { request_id: requestId, status: 'approved', ...(passkey !== undefined && { passkey }) }
  return stage.post('/backchannel/complete', form, bearer)
}

async function statusOf(stage: Stage, requestId: string): Promise<unknown> {
  return (await stage.waiting()).find((request) => request.request_id === requestId)?.status
}

async function requiredOf(stage: Stage, requestId: string, authorization: string): Promise<unknown> {
  const { body } = await stage.get(`/backchannel/authinfo?request_id=${requestId}`, { authorization })
  return (body.requests as Record<string, unknown>[])[0]!.passkey_required
}

/** An authenticator that has been used, and then lies in one way. */
function lies(stage: Stage): Lies[] {
  return [
    { origin: 'https://evil.example' },
    { origin: `${stage.url}.evil.example` },
    { rpId: 'evil.example' },
    { userVerified: false },
    { counter: 0 },
    { counter: 1 },
    { challenge: 'bm90IG91cnM' },
    { type: 'webauthn.create' },
    { userHandle: 'c29tZWJvZHkgZWxzZQ' },
    { key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey },
  ]
}

function idTokenClaims(body: Record<string, unknown>): Record<string, unknown> {
  const [, payload = ''] = String(body.id_token).split('.')
  return JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>
}
