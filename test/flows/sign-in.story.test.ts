/** Ana signs in on her phone, and decides with her app's token. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import * as openid from 'openid-client'
import { createClientStore } from '../../src/client/client-store.ts'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { openBrowser } from '../support/browser.ts'
import { refusalOf } from '../support/foreign-client.ts'
import { bearerOf, signIn, startSignIn } from '../support/phone-app.ts'
import { ana, ben, CIBA, castConfig, credentials, openStage, secrets } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'

describe('Ana signs in on her phone', () => {
  test('with name and password and her consent; her decision then carries time and method of the sign-in (M43)', async (t) => {
    const stage = await openStage(t)
    const { browser, page, tokens } = await startSignIn(stage)
    assert.equal(page.status, 200)
    assert.match(page.text, /<strong>Phone app<\/strong>/)
    assert.match(String(page.headers.get('content-security-policy')), /default-src 'none'/)
    assert.equal(page.headers.get('x-frame-options'), 'DENY')
    assert.equal(page.headers.get('cache-control'), 'no-store')

    const consent = await browser.submit(page, { name: 'ana', password: ana.password })
    assert.match(consent.text, /see requests that wait for your approval/)
    const end = await browser.submit(consent)
    const { access_token, scope, claims } = await tokens(end.url)
    assert.equal(scope, 'openid ciba:decide')
    const signedInAt = Number(claims()!.auth_time ?? claims()!.iat)

    const { auth_req_id } = (await stage.ring('kiosk')).body
    const authorization = `Bearer ${access_token}`
    const [waiting] = (await stage.get('/backchannel/authinfo', { authorization })).body.requests as [
      { request_id: string },
    ]
    const decision = { request_id: waiting.request_id, status: 'approved' }
    const decided = await stage.post('/backchannel/complete', decision, authorization)
    assert.deepEqual([decided.status, decided.body], [200, { request_id: waiting.request_id, status: 'approved' }])

    const idToken = idTokenClaims((await stage.poll('kiosk', auth_req_id)).body)
    assert.deepEqual(idToken.amr, ['pwd'])
    assert.ok(Math.abs(Number(idToken.auth_time) - signedInAt) <= 1, 'auth_time is that of the sign-in')
    assert.equal(idToken.sub, 'user-ana')
  })

  test('and a refreshed token still has the time and method of her sign-in (M43)', async (t) => {
    const app: ClientMetadataInput = {
      client_id: 'staying-app',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['http://127.0.0.1/callback'],
      scope: 'openid offline_access ciba:decide',
    }
    const stage = await openStage(t, { config: { clients: [app] } })
    const asked = { scope: 'openid offline_access ciba:decide', prompt: 'consent' }
    const signedIn = await signIn(stage, ana, asked, { id: 'staying-app' })
    const refresh = { grant_type: 'refresh_token', refresh_token: signedIn.refresh_token!, client_id: 'staying-app' }
    const { access_token } = (await stage.post('/oauth/token', refresh)).body
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const decision = { request_id: await stage.newestRequest(), status: 'approved' }
    assert.equal((await stage.post('/backchannel/complete', decision, `Bearer ${access_token}`)).status, 200)
    const idToken = idTokenClaims((await stage.poll('kiosk', auth_req_id)).body)
    assert.deepEqual(idToken.amr, ['pwd'])
    assert.ok(Math.abs(Number(idToken.auth_time) - Number(signedIn.claims()!.iat)) <= 1)
  })

  test('but not with a wrong password or as an unknown user: one answer for both', async (t) => {
    const stage = await openStage(t)
    const { browser, page } = await startSignIn(stage)
    const wrong = await browser.submit(page, { name: 'ana', password: 'wrong' })
    assert.equal(wrong.status, 401)
    assert.match(wrong.text, /Name or password is wrong/)
    assert.ok(!wrong.text.includes('value="wrong"'), 'the password is not shown again')
    const unknown = await browser.submit(page, { name: 'zoe', password: ana.password })
    assert.equal(unknown.status, 401)
    assert.equal(unknown.text.replace('zoe', 'ana'), wrong.text)
    const right = await browser.submit(unknown, { name: 'ana', password: ana.password })
    assert.match(right.text, /Allow access/)
  })

  test('but not with an empty password, and not as Ben, who is disabled', async (t) => {
    const stage = await openStage(t, {
      config: {
        users: [
          { ...ana, password: undefined },
          { ...ben, disabled: true },
        ],
      },
    })
    const { browser, page } = await startSignIn(stage)
    assert.equal((await browser.submit(page, { name: 'ana', password: '' })).status, 401)
    assert.equal((await browser.submit(page, { name: 'ben', password: ben.password })).status, 401)
  })

  test('or cancels, at the sign-in or at the consent: the app gets access_denied', async (t) => {
    const stage = await openStage(t)
    const first = await startSignIn(stage)
    const cancelled = await first.browser.submit(first.page, { cancel: '1' })
    assert.equal(new URL(cancelled.url).searchParams.get('error'), 'access_denied')

    const second = await startSignIn(stage)
    const consent = await second.browser.submit(second.page, { name: 'ana', password: ana.password })
    const refused = await second.browser.submit(consent, { cancel: '1' })
    assert.equal(new URL(refused.url).searchParams.get('error'), 'access_denied')
    await assert.rejects(second.tokens(refused.url))
  })

  test('only in the browser in which it began', async (t) => {
    const stage = await openStage(t)
    const { page } = await startSignIn(stage)
    const foreign = openBrowser(stage.url)
    const before = await countRows(stage)
    const seen = await foreign.open(page.url)
    assert.equal(seen.status, 410)
    const sent = await foreign.submit(page, { name: 'ana', password: ana.password })
    assert.equal(sent.status, 410)
    assert.deepEqual(await countRows(stage), before)
    assert.equal((await stage.get('/sign-in/no-such-sign-in')).status, 410)
  })

  test('only with PKCE, and a code is redeemed once', async (t) => {
    const stage = await openStage(t)
    const started = await startSignIn(stage)
    const consent = await started.browser.submit(started.page, { name: 'ana', password: ana.password })
    const end = await started.browser.submit(consent)
    const [one, two] = await Promise.allSettled([started.tokens(end.url), started.tokens(end.url)])
    assert.deepEqual([one.status, two.status].sort(), ['fulfilled', 'rejected'])

    const url = openid.buildAuthorizationUrl(started.app, {
      redirect_uri: 'http://127.0.0.1/callback',
      scope: 'openid',
    })
    const without = await openBrowser(stage.url).open(url.href)
    assert.equal(new URL(without.url).searchParams.get('error'), 'invalid_request')
  })

  test('a token without ciba:decide gets 403, a revoked or invented one 401', async (t) => {
    const stage = await openStage(t)
    await stage.ring('kiosk')
    const requestId = await stage.newestRequest()
    const weak = await bearerOf(stage, ana, { scope: 'openid' })
    const revoked = await signIn(stage)
    const revocation = await stage.post('/oauth/revoke', { token: revoked.access_token, client_id: 'phone-app' })
    assert.equal(revocation.status, 200)
    for (const [authorization, status, error] of [
      [weak, 403, 'insufficient_scope'],
      [`Bearer ${revoked.access_token}`, 401, 'invalid_token'],
      ['Bearer invented', 401, 'invalid_token'],
    ] as const) {
      for (const answer of [
        await stage.get('/backchannel/authinfo', { authorization }),
        await stage.post('/backchannel/complete', { request_id: requestId, status: 'approved' }, authorization),
      ]) {
        assert.deepEqual([answer.status, answer.body.error], [status, error])
        assert.match(String(answer.headers.get('www-authenticate')), /^Bearer realm="doorbell"/)
      }
    }
    assert.equal((await stage.waiting())[0]!.status, 'pending')
  })
})

describe("a user's token at the device API", () => {
  test('ends with its client and with its grant', async (t) => {
    const stage = await openStage(t)
    await stage.ring('kiosk')
    const decideWith = async (authorization: string) =>
      (
        await stage.post(
          '/backchannel/complete',
          { request_id: await stage.newestRequest(), status: 'approved' },
          authorization,
        )
      ).status
    // If a code is used twice, the tokens that were issued for it are revoked.
    const { browser, page, tokens } = await startSignIn(stage)
    const end = await browser.submit(await browser.submit(page, { name: ana.username, password: ana.password }))
    const bought = `Bearer ${(await tokens(end.url)).access_token}`
    await assert.rejects(tokens(end.url))
    assert.equal(await decideWith(bought), 401)

    const orphaned = await bearerOf(stage)
    const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
    await createClientStore(database).remove('phone-app', [])
    await database.close()
    assert.equal(await decideWith(orphaned), 401)
    assert.equal((await stage.waiting())[0]!.status, 'pending')
  })

  test('cannot be issued for a resource of its own, which could decide with it (RFC 8707)', async (t) => {
    const api = 'https://api.example.com'
    const verifier = 'v'.repeat(43)
    const stage = await openStage(t, { config: { resources: { [api]: {} } } })
    const { app, browser, page } = await startSignIn(stage, {
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    })
    const end = await browser.submit(await browser.submit(page, { name: ana.username, password: ana.password }))
    const answer = await stage.post('/oauth/token', {
      grant_type: 'authorization_code',
      client_id: app.clientMetadata().client_id,
      code: new URL(end.url).searchParams.get('code')!,
      redirect_uri: 'http://127.0.0.1/callback',
      code_verifier: verifier,
      resource: api,
    })
    assert.deepEqual([answer.status, answer.body.error], [400, 'invalid_target'], answer.text)
  })
})

describe('a CIBA client decides nothing, whatever it holds (M1)', () => {
  /** A client that may both send authentication requests and sign users in, which is the worst case. */
  const both: ClientMetadataInput = {
    client_id: 'both',
    client_secret: secrets.kiosk,
    application_type: 'native',
    grant_types: [CIBA, 'authorization_code'],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/callback'],
    backchannel_token_delivery_mode: 'poll',
  }

  test('Kiosk with auth_req_id, secret, hint, and an access token for Ana gets 401 or 403 from every decision route', async (t) => {
    const stage = await openStage(t)
    const first = (await stage.ring('kiosk')).body.auth_req_id
    await stage.decide(await stage.newestRequest(), 'approved')
    const { access_token } = (await stage.poll('kiosk', first)).body
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const requestId = await stage.newestRequest()

    const inBody = { client_id: 'kiosk', client_secret: secrets.kiosk }
    const names = [{ auth_req_id: String(auth_req_id) }, { request_id: requestId }]
    for (const name of names) {
      const form = { ...name, status: 'approved', login_hint: 'ana' }
      for (const [path, more, authorization] of [
        ['/backchannel/complete', {}, credentials.kiosk],
        ['/backchannel/complete', {}, credentials.northbank],
        ['/backchannel/complete', {}, credentials.till],
        ['/backchannel/complete', inBody, undefined],
        ['/backchannel/complete', {}, undefined],
        ['/backchannel/complete', { access_token: String(access_token) }, undefined],
        ['/backchannel/complete', {}, `Bearer ${access_token}`],
        ['/backchannel/complete', {}, `Bearer ${auth_req_id}`],
        ['/backchannel/authinfo', {}, credentials.kiosk],
        ['/backchannel/authinfo', inBody, undefined],
        ['/backchannel/authinfo', {}, `Bearer ${access_token}`],
      ] as const) {
        const { status, text } = await stage.post(path, { ...form, ...more }, authorization)
        assert.ok(status === 401 || status === 403, `${path} answered ${status}: ${text}`)
      }
      for (const authorization of [credentials.kiosk, `Bearer ${access_token}`]) {
        const query = new URLSearchParams({ ...name, login_hint: 'ana' })
        const { status } = await stage.get(`/backchannel/authinfo?${query}`, { authorization })
        assert.ok(status === 401 || status === 403, String(status))
      }
    }
    assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
  })

  test('ciba:decide cannot be requested through CIBA', async (t) => {
    const stage = await openStage(t)
    const response = await stage.ring('kiosk', { scope: 'openid ciba:decide' })
    assert.deepEqual([response.status, response.body.error], [400, 'invalid_scope'])
  })

  test('a token with ciba:decide is refused once its client becomes a CIBA client', async (t) => {
    const { backchannel_token_delivery_mode, ...signsIn } = both
    const app = { ...signsIn, grant_types: ['authorization_code'], scope: 'openid ciba:decide' }
    const stage = await openStage(t, { config: { clients: [app] } })
    const client = { id: 'both', authentication: openid.ClientSecretBasic(secrets.kiosk) }
    const authorization = await bearerOf(stage, ana, {}, client)
    assert.equal((await stage.get('/backchannel/authinfo', { authorization })).status, 200)
    const overrides = castConfig(Number(new URL(stage.url).port), stage.database, { config: { clients: [both] } })
    await stage.doorbell.close()
    const config = await loadConfig({ env: {}, overrides })
    stage.doorbell = await createDoorbell(config, { clock: stage.clock, log: createLog('silent') })
    await stage.doorbell.listen()
    await stage.ring('kiosk')
    const decision = { request_id: await stage.newestRequest(), status: 'approved' }
    const completed = await stage.post('/backchannel/complete', decision, authorization)
    assert.deepEqual([completed.status, completed.body.error], [403, 'insufficient_scope'])
    assert.equal((await stage.get('/backchannel/authinfo', { authorization })).status, 403)
    assert.equal((await stage.waiting())[0]!.status, 'pending')
  })

  test('a client that was not registered for ciba:decide by name does not get it, however Ana signs in', async (t) => {
    const everything: ClientMetadataInput = {
      client_id: 'everything',
      client_secret: secrets.kiosk,
      grant_types: ['authorization_code'],
      redirect_uris: ['http://127.0.0.1/callback'],
      application_type: 'native',
    }
    const named = { ...everything, client_id: 'named', scope: 'openid ciba:decide' }
    const stage = await openStage(t, { config: { clients: [everything, named] } })
    const authentication = openid.ClientSecretBasic(secrets.kiosk)
    assert.match(await bearerOf(stage, ana, {}, { id: 'named', authentication }), /^Bearer ./)
    const refused = await startSignIn(stage, {}, { id: 'everything', authentication })
    const { searchParams } = new URL(refused.page.url)
    assert.equal(searchParams.get('error'), 'invalid_scope')
  })

  test("without a user's token no client sees anything, and a hint in an address is not read (M2)", async (t) => {
    const stage = await openStage(t)
    await stage.ring('kiosk')
    for (const authorization of [credentials.phoneService, credentials.kiosk]) {
      const { status, body } = await stage.get('/backchannel/authinfo?login_hint=ana', { authorization })
      assert.deepEqual([status, body.error], [401, 'invalid_token'])
    }
    assert.equal((await stage.get('/backchannel/authinfo?login_hint=ana')).status, 401)
  })

  test('a CIBA refresh token brings no more scope than Ana approved', async (t) => {
    const stage = await openStage(t)
    const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
    await stage.decide(await stage.newestRequest(), 'approved')
    const { refresh_token } = (await stage.poll('kiosk', auth_req_id)).body
    const more = { grant_type: 'refresh_token', refresh_token: String(refresh_token), scope: 'openid ciba:decide' }
    assert.equal((await stage.post('/oauth/token', more, credentials.kiosk)).body.error, 'invalid_scope')
    assert.equal((await refusalOf(openTokenOf(stage.url, String(refresh_token)))).error, 'invalid_grant')
  })
})

function idTokenClaims(body: Record<string, unknown>): Record<string, unknown> {
  return JSON.parse(Buffer.from(String(body.id_token).split('.')[1]!, 'base64url').toString()) as Record<
    string,
    unknown
  >
}

/** Northbank tries Kiosk's refresh token. */
async function openTokenOf(issuer: string, refreshToken: string) {
  const client = await openid.discovery(
    new URL(issuer),
    'northbank',
    undefined,
    openid.ClientSecretBasic(secrets.northbank),
    { execute: [openid.allowInsecureRequests] },
  )
  return openid.refreshTokenGrant(client, refreshToken)
}
