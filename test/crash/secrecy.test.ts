/**
 * M12: neither the log nor the database contains a secret in clear text. All flows run once, with valid and invalid
 * calls; then their secrets are searched in every log line and in every stored byte.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SignJWT } from 'jose'
import { createInitialAccessStore } from '../../src/client/registration/initial-access-token-store.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { newProofKey, proofOf } from '../support/proofs.ts'
import { openPushService } from '../support/push-service.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, ben, CIBA, credentials, openStage, type Stage, secrets } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { tapWires, type Wiretap } from '../support/wiretap.ts'
import { everythingKept, formsOf } from './kept-secrets.ts'
import { playDevice } from './secret-device.ts'

for (const engine of engines) {
  describe(`secrets, on ${engine.name}`, () => {
    test('none is in the log or in the database', async (t) => {
      const tap = tapWires(t)
      const endpoint = await openNotificationEndpoint(t)
      const pushes = await openPushService(t)
      const hmacSecret = newSecret()
      const key = await newKey('its-key')
      const audited: unknown[] = []
      const grants = { grant_types: [CIBA, 'refresh_token'] }
      const stage = await openStage(t, {
        engine,
        northbank: endpoint.url,
        till: endpoint.url,
        config: {
          audit: (event) => void audited.push(event),
          notifications: { attempts: 2 },
          webPush: { subject: 'mailto:ops@id.example' },
          registration: { mode: 'token' },
          dpop: { requireNonce: true },
          hints: { tokenIssuers: [{ issuer: finder, jwks: { keys: [key.publicJwk] } }] },
          users: [{ ...ana, user_code: codes.configured }, ben],
          clients: [
            pollClient('booth', {
              ...grants,
              client_secret: boothSecret,
              backchannel_user_code_parameter: true,
            }),
            pollClient('bank', {
              ...grants,
              client_secret: boothSecret,
              backchannel_user_code_parameter: true,
              backchannel_authentication_request_signing_alg: 'ES256',
              jwks: { keys: [key.publicJwk] },
            }),
            pollClient('hmac', {
              ...grants,
              client_secret: hmacSecret,
              token_endpoint_auth_method: 'client_secret_jwt',
            }),
            pollClient('key', {
              ...grants,
              jwks: { keys: [key.publicJwk] },
              token_endpoint_auth_method: 'private_key_jwt',
            }),
          ],
        },
      })
      for (const [who, secret] of Object.entries({
        ...{ ...secrets, ...codes, hmacSecret, boothSecret },
        anasPassword: ana.password,
      })) {
        tap.note(secret, who)
      }
      tap.note(Buffer.alloc(32, 7).toString('base64url'), 'the configured secret')

      const requestId = await playWell(stage, tap, endpoint, {
        hmac: () => assertionOf(stage, 'hmac', { key: new TextEncoder().encode(hmacSecret), header: { alg: 'HS256' } }),
        key: () => assertionOf(stage, 'key', { key: key.privateKey, header: { kid: 'its-key' } }),
      })
      await playDevice(stage, tap, pushes)
      await playBank(stage, tap, key)
      await playBadly(stage, tap)
      for (const { body, authorization = '' } of endpoint.heard) {
        tap.note(authorization.slice('Bearer '.length), 'a call back: authorization')
        for (const name of ['auth_req_id', 'access_token', 'refresh_token', 'id_token']) {
          tap.note(String(body[name] ?? ''), `a call back: ${name}`)
        }
      }

      const kept = await everythingKept(stage, engine.name)
      const log = Buffer.from(stage.logLines.join('') + JSON.stringify(audited))
      for (const table of [
        ...['push_subscriptions', 'passkeys', 'passkey_challenges', 'blocked_clients', 'server_keys'],
        ...['initial_access_tokens', 'user_codes', 'user_code_tries', 'signed_requests', 'used_assertions'],
      ]) {
        assert.ok((await rowsOf(stage, `select * from ${table}`)).length > 0, `no flow has filled ${table}`)
      }
      // The search works: it finds the request's id in both, and many secrets were recorded.
      assert.ok(kept.includes(requestId) && log.includes(requestId), 'the search works')
      assert.ok(tap.secrets.size > 80, `only ${tap.secrets.size} secrets were recorded`)
      assert.ok(stage.logLines.length > 60)
      assert.ok(audited.length > 60)
      t.diagnostic(`${tap.secrets.size} secrets, ${log.length} bytes of log, ${kept.length} bytes of database`)

      const found: string[] = []
      for (const [secret, where] of tap.secrets) {
        for (const form of formsOf(secret)) {
          if (log.includes(form)) found.push(`in the log: ${where}: ${form}`)
          if (kept.includes(form)) found.push(`in the database: ${where}: ${form}`)
        }
      }
      assert.deepEqual(found, [])

      await stage.doorbell.close()
      const later = await everythingKept(stage, engine.name)
      assert.ok(later.includes(requestId))
      const left = [...tap.secrets].filter(([secret]) => formsOf(secret).some((form) => later.includes(form)))
      assert.deepEqual(left, [], 'none after the server was closed')
    })
  })
}

const phone = ana.phone_number
const finder = 'https://finder.example'
const boothSecret = newSecret()
/** As users choose them, but unlikely to occur elsewhere. */
const codes = { configured: newSecret(12), chosen: newSecret(12), signed: newSecret(12) }
type Assertions = Record<'hmac' | 'key', () => Promise<string>>
type Endpoint = Awaited<ReturnType<typeof openNotificationEndpoint>>

/** Approved, denied, expired; poll, ping, push; refresh, userinfo, introspection, revocation; a user who signs in. */
async function playWell(stage: Stage, tap: Wiretap, endpoint: Endpoint, assertions: Assertions): Promise<string> {
  const sendRequest = (as: 'kiosk' | 'northbank' | 'till', more = {}) =>
    stage.ring(as, { login_hint: phone, scope: 'openid email offline_access', ...more })
  const decide = async (authReqId: unknown, status: 'approved' | 'denied') => {
    const asked = { login_hint: phone, auth_req_id: String(authReqId) }
    const { body } = await stage.post('/backchannel/authinfo', asked, credentials.phoneService)
    const [found] = body.requests as { request_id: string }[]
    await stage.decide(found!.request_id, status, { login_hint: phone })
    return found!.request_id
  }
  const collect = async (as: 'kiosk' | 'northbank', authReqId: unknown) => (await stage.poll(as, authReqId)).body

  const requestIds: string[] = []
  for (const client of ['kiosk', 'northbank', 'till'] as const) {
    const [approved, denied, expired] = [
      await sendRequest(client),
      await sendRequest(client),
      await sendRequest(client, { requested_expiry: '60' }),
    ]
    requestIds.push(
      await decide(approved.body.auth_req_id, 'approved'),
      await decide(denied.body.auth_req_id, 'denied'),
    )
    await stage.doorbell.idle()
    if (client === 'till') continue
    await stage.poll(client, expired.body.auth_req_id)
    await stage.poll(client, denied.body.auth_req_id)
    const tokens = await collect(client, approved.body.auth_req_id)
    assert.ok(tokens.refresh_token, JSON.stringify(tokens))
    const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) }
    const again = await stage.post('/oauth/token', refresh, credentials[client])
    assert.equal(again.status, 200)
    await stage.get('/oauth/userinfo', { authorization: `Bearer ${again.body.access_token}` })
    for (const path of ['/oauth/introspect', '/oauth/revoke']) {
      await stage.post(path, { token: String(again.body.access_token) }, credentials[client])
    }
    await sendRequest(client, { login_hint: '', id_token_hint: String(tokens.id_token) })
  }
  for (const [name, assertion] of Object.entries(assertions)) {
    const form = { scope: 'openid offline_access', login_hint: phone }
    const response = await stage.post('/backchannel/authorize', { ...form, ...asserted(await assertion()) })
    assert.equal(response.status, 200, `${name}: ${response.text}`)
    await decide(response.body.auth_req_id, 'approved')
    const poll = { grant_type: CIBA, auth_req_id: String(response.body.auth_req_id) }
    const tokens = await stage.post('/oauth/token', { ...poll, ...asserted(await assertion()) })
    assert.equal(tokens.status, 200, `${name}: ${tokens.text}`)
    const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.body.refresh_token) }
    const again = await stage.post('/oauth/token', { ...refresh, ...asserted(await assertion()) })
    assert.equal(again.status, 200, `${name}: ${again.text}`)
  }

  // Failed notifications, and responses that quote what was sent, stay parked.
  const said = tap.note(newSecret(), "a call back's answer")
  endpoint.behaves(
    { status: 400, body: said, headers: { 'x-said': said } },
    { status: 302, headers: { location: `https://x/${said}` } },
    'drop',
    500,
    204,
  )
  for (const client of ['northbank', 'till', 'northbank', 'till'] as const) {
    await decide((await sendRequest(client)).body.auth_req_id, 'approved')
    await stage.doorbell.idle()
  }
  stage.clock.advance(61_000)
  await stage.doorbell.sweep()
  await stage.doorbell.idle()

  const tokens = await signIn(stage)
  const bearer = { authorization: `Bearer ${tokens.access_token}` }
  assert.equal((await stage.get('/backchannel/authinfo', bearer)).status, 200)
  return requestIds[0]!
}

/** User codes, signed requests, hint tokens, DPoP proofs, and a client that registers itself: valid and invalid. */
async function playBank(stage: Stage, tap: Wiretap, key: KeyHolder): Promise<void> {
  const secret = (where: string) => tap.note(newSecret(), where)
  const authorization = basic('booth', boothSecret)
  const now = () => Math.floor(stage.clock.now() / 1000)
  const signed = (claims: Record<string, unknown>) =>
    signedRequest(stage, 'bank', { key: key.privateKey, header: { kid: 'its-key' }, claims })
  const hint = (claims: Record<string, unknown>) =>
    new SignJWT({ iss: finder, aud: stage.url, sub: ana.id, iat: now(), exp: now() + 60, ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'its-key' })
      .sign(key.privateKey)
  const sendRequest = async (form: Record<string, string>, as = 'booth') => {
    stage.clock.advance(1)
    return (await stage.post('/backchannel/authorize', { scope: 'openid', ...form }, basic(as, boothSecret))).status
  }

  const bearer = `Bearer ${(await signIn(stage)).access_token}`
  assert.equal(await sendRequest({ login_hint: 'ana', user_code: codes.configured }), 200)
  for (const user_code of ['', ana.password, codes.chosen]) {
    await stage.post('/backchannel/user-code', { user_code, present_code: codes.configured }, bearer)
  }
  assert.equal(await sendRequest({ login_hint: 'ana', user_code: secret('a wrong user code') }), 400)
  assert.equal(await sendRequest({ login_hint_token: await hint({}), user_code: codes.chosen }), 200)
  for (const wrong of [{ exp: now() - 60 }, { aud: secret('an audience') }, { sub: secret('a subject') }]) {
    assert.equal(await sendRequest({ login_hint_token: await hint(wrong), user_code: codes.chosen }), 400)
  }
  const request = await signed({ login_hint: phone, user_code: codes.chosen })
  assert.equal(await sendRequest({ scope: '', request }, 'bank'), 200)
  assert.equal(await sendRequest({ scope: '', request }, 'bank'), 400)
  assert.equal(await sendRequest({ scope: '', request: await signed({ user_code: codes.signed }) }, 'bank'), 400)
  assert.equal(
    await sendRequest({ scope: '', request: await signed({ user_code: [secret('in a list')] }) }, 'bank'),
    400,
  )

  const proofKey = await newProofKey()
  const prove = async (path: string, claims: Record<string, unknown>, header?: string) => {
    const proof = header ?? (await proofOf(stage, proofKey, { claims: { htu: stage.url + path, ...claims } }))
    tap.note(proof.split('.')[2] ?? proof, "a proof's signature")
    const answer = await fetch(stage.url + path, {
      method: 'POST',
      headers: { authorization, dpop: proof },
      body: new URLSearchParams({ grant_type: CIBA, auth_req_id: secret('an unknown auth_req_id') }),
    })
    return { error: ((await answer.json()) as { error: string }).error, nonce: answer.headers.get('dpop-nonce') }
  }
  const { error, nonce } = await prove('/oauth/token', { jti: secret('a jti') })
  assert.equal(error, 'use_dpop_nonce')
  assert.equal((await prove('/oauth/token', { nonce, jti: secret('a jti') })).error, 'invalid_grant')
  assert.equal((await prove('/oauth/token', { nonce, htm: secret('a method') })).error, 'invalid_dpop_proof')
  assert.equal((await prove('/oauth/token', {}, secret('no proof'))).error, 'invalid_dpop_proof')
  // Nothing is bound there, so the proof is not validated.
  assert.equal((await prove('/oauth/introspect', {}, secret('no proof'))).error, 'invalid_request')

  const invitation = secret('an initial access token')
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  await createInitialAccessStore(database).add(invitation, 2, stage.clock.now(), stage.clock.now() + 3600_000)
  await database.close()
  const call = async (method: string, url: string, token: string, body?: object) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const answer = await fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) })
    return { status: answer.status, body: JSON.parse((await answer.text()) || '{}') as Record<string, string> }
  }
  const metadata = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' }
  const register = (token: string, more = {}) =>
    call('POST', `${stage.url}/oauth/register`, token, { ...metadata, ...more })
  assert.equal((await register(secret('no invitation'))).status, 401)
  assert.equal((await register(invitation, { jwks_uri: `x:${secret('an address')}` })).status, 400)
  const { body: made } = await register(invitation)
  const uri = made.registration_client_uri!
  const client = { ...metadata, client_id: made.client_id }
  assert.equal((await call('GET', uri, secret('no registration token'))).status, 401)
  const wrongSecret = { ...client, client_secret: secret('not its secret') }
  assert.equal((await call('PUT', uri, made.registration_access_token!, wrongSecret)).status, 400)
  const replaced = await call('PUT', uri, made.registration_access_token!, client)
  assert.equal(replaced.status, 200)
  assert.equal((await call('GET', uri, replaced.body.registration_access_token!)).status, 200)
}

/** Secrets in the wrong places, in requests that are refused. */
async function playBadly(stage: Stage, tap: Wiretap): Promise<void> {
  const secret = (where: string) => tap.note(newSecret(), where)
  const send = async (path: string, init: RequestInit) => {
    const response = await fetch(stage.url + path, { method: 'POST', ...init })
    await response.text()
    return response.status
  }
  const typed = (contentType: string, body: string, authorization = credentials.kiosk) =>
    ({ body, headers: { 'content-type': contentType, authorization } }) satisfies RequestInit
  const form = 'application/x-www-form-urlencoded'

  for (const path of [
    '/oauth/token',
    '/backchannel/authorize',
    '/backchannel/authinfo',
    '/backchannel/complete',
    '/backchannel/clientconfig',
    '/backchannel/revoke',
    '/backchannel/block',
    '/backchannel/passkeys',
    '/backchannel/push-subscriptions',
  ]) {
    const all = () =>
      `grant_type=${encodeURIComponent(CIBA)}&auth_req_id=${secret('badly: auth_req_id')}&client_notification_token=${secret('badly: token')}&login_hint=${secret('badly: hint')}`
    const bad = [
      await send(path, typed('text/plain', all())),
      await send(path, typed('application/json', JSON.stringify({ auth_req_id: secret('badly: json'), a: { b: 1 } }))),
      await send(path, typed('application/json', `{"auth_req_id":"${secret('badly: broken json')}"`)),
      await send(path, typed(form, `${all()}&auth_req_id=${secret('badly: repeated')}`)),
      await send(path, typed(form, `${all()}&x=%ZZ`)),
      await send(path, typed(form, `${all()}&x=%00`)),
      await send(path, typed(form, `${all()}&x=${'x'.repeat(70_000)}`)),
      await send(
        path,
        typed(form, all(), `Basic ${Buffer.from(`kiosk:${secret('badly: client secret')}`).toString('base64')}`),
      ),
      await send(path, typed(form, all(), `Basic ${secret('badly: no base64')}`)),
      await send(path, typed(form, all(), `Bearer ${secret('badly: bearer')}`)),
      await send(path, typed(form, `${all()}&client_id=kiosk&client_secret=${secret('badly: post')}`)),
      await send(path, typed(form, all())),
      await send(`${path}?auth_req_id=${secret('badly: in the address')}`, typed(form, all())),
      await send(`${path}/${secret('badly: in the path')}`, typed(form, all())),
      await send(`${path}/%ZZ${secret('badly: in a malformed path')}`, typed(form, all())),
      await send(path, { method: 'PUT', ...typed(form, all()) }),
    ]
    assert.ok(
      bad.every((status) => status < 500),
      `${path}: ${bad}`,
    )
    assert.ok(bad.filter((status) => status >= 400).length >= 14, `${path}: ${bad}`)
    const assertion = `${secret('a JWT').slice(0, 20)}.${Buffer.from(`{"sub":"key","x":"${secret('in a JWT')}"}`).toString('base64url')}.${secret('a signature')}`
    const refused = await stage.post(path, { ...asserted(assertion), login_hint: secret('badly: hint') })
    assert.ok(refused.status >= 400 && refused.status < 500, refused.text)
  }
  const wrong = [
    stage.ring('kiosk', { login_hint: secret('nobody') }),
    stage.ring('kiosk', { login_hint: '', id_token_hint: secret('a hint that is no JWT') }),
    stage.ring('kiosk', { login_hint: '', login_hint_token: secret('a hint token') }),
    stage.ring('northbank', { login_hint: phone, client_notification_token: `${secret('with a space')} x` }),
    stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: secret('refresh') }, credentials.kiosk),
    stage.post('/oauth/token', { grant_type: 'authorization_code', code: secret('code') }, credentials.kiosk),
    stage.post('/oauth/token', { grant_type: secret('a grant type'), code: secret('code') }, credentials.kiosk),
    stage.post('/oauth/introspect', { token: secret('unknown') }, credentials.kiosk),
    stage.post('/oauth/introspect', { token: secret('unknown') }, `Basic ${secret('no base64')}`),
    stage.post('/oauth/revoke', { token: secret('unknown') }, credentials.kiosk),
    stage.get('/oauth/userinfo', { authorization: `Bearer ${secret('bearer')}` }),
    stage.get(`/oauth/userinfo?access_token=${secret('in the address')}`),
    stage.get('/backchannel/authinfo', { authorization: `Bearer ${secret('bearer')}` }),
    stage.get(`/oauth/authorize?client_id=phone-app&login_hint=${secret('hint')}&id_token_hint=${secret('hint')}`),
    stage.get(`/oauth/logout?id_token_hint=${secret('hint')}`),
    stage.get(`/sign-in/${secret('an interaction')}`, { cookie: `doorbell_interaction=${secret('a cookie')}` }),
  ]
  const statuses = (await Promise.all(wrong)).map(({ status }) => status)
  assert.ok(
    statuses.every((status) => status < 500),
    String(statuses),
  )

  const { browser, page } = await startSignIn(stage)
  const refused = await browser.submit(page, { name: 'ana', password: secret('a wrong password') })
  assert.equal(refused.status, 401)
}
