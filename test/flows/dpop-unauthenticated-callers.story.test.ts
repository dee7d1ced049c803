/**
 * DPoP proofs of unauthenticated callers. Any caller can make such proofs. So the server stores no row and verifies no
 * signature for them.
 */
import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import { describe, type TestContext, test } from 'node:test'
import { exportJWK, type JWK } from 'jose'
import * as openid from 'openid-client'
import { Pool } from 'undici'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signIn } from '../support/phone-app.ts'
import { callWith, newProofKey, type ProofKey, proofOf } from '../support/proofs.ts'
import { ana, basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const secret = newSecret()
const scope = 'openid ciba:decide offline_access'
const clients: NonNullable<ConfigInput['clients']> = [
  pollClient('wallet', { client_secret: secret, grant_types: [CIBA, 'refresh_token'] }),
  {
    client_id: 'pocket-app',
    scope,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    dpop_bound_access_tokens: true,
  },
]

/** The test acts as the proxy: it states the address from which a call comes. */
const openBehindProxy = (t: TestContext, engine: Engine) =>
  openStage(t, { engine, config: { proxy: { trust: ['127.0.0.1', '::1'] }, clients } })

const rowsOfProofs = async (stage: Stage) =>
  (await rowsOf(stage, "select jti_hash from used_assertions where client_id like 'dpop %'")).length

/** Counts the signature verifications of this process, in which the server runs. */
function countVerifications(t: TestContext): () => number {
  const verify = t.mock.method(SubtleCrypto.prototype, 'verify')
  return () => verify.mock.callCount()
}

const ath = (token: string) => createHash('sha256').update(token).digest('base64url')

interface Attempt {
  method: 'GET' | 'POST'
  path: string
  authorization?: string
  form?: Record<string, string>
  /** The access token whose hash the proof must contain. */
  token?: string
}

const unknownToken = newSecret()
const wrong = basic('wallet', newSecret())
const code = { grant_type: 'authorization_code', code: newSecret(), redirect_uri: 'http://127.0.0.1/callback' }
const refresh = { grant_type: 'refresh_token', refresh_token: newSecret() }

/** Calls without credentials of any client or user. */
const attempts: Attempt[] = [
  { method: 'POST', path: '/oauth/token', form: { ...code, client_id: 'pocket-app', code_verifier: newSecret() } },
  { method: 'POST', path: '/oauth/token', form: { ...refresh, client_id: 'pocket-app' } },
  { method: 'POST', path: '/oauth/token', form: { ...refresh, client_id: newSecret() } },
  { method: 'POST', path: '/oauth/token', form: { grant_type: 'client_credentials', client_id: 'pocket-app' } },
  { method: 'POST', path: '/oauth/token', form: {} },
  { method: 'POST', path: '/oauth/token', form: refresh, authorization: wrong },
  { method: 'POST', path: '/oauth/token', form: { ...refresh, client_id: 'wallet', client_secret: newSecret() } },
  { method: 'POST', path: '/oauth/token', form: { grant_type: CIBA, auth_req_id: newSecret() }, authorization: wrong },
  {
    method: 'POST',
    path: '/backchannel/authorize',
    form: { scope: 'openid', login_hint: 'ana' },
    authorization: wrong,
  },
  { method: 'GET', path: '/oauth/userinfo' },
  { method: 'GET', path: '/oauth/userinfo', authorization: `DPoP ${unknownToken}`, token: unknownToken },
  { method: 'POST', path: '/oauth/userinfo', authorization: `Bearer ${unknownToken}` },
  { method: 'GET', path: '/backchannel/authinfo', authorization: `DPoP ${unknownToken}`, token: unknownToken },
  { method: 'POST', path: '/oauth/introspect', form: { token: unknownToken }, authorization: wrong },
  { method: 'POST', path: '/oauth/revoke', form: { token: unknownToken, client_id: 'pocket-app' } },
  { method: 'GET', path: '/oauth/authorize?client_id=pocket-app' },
  { method: 'GET', path: '/oauth/logout' },
  { method: 'GET', path: '/oauth/jwks' },
  { method: 'GET', path: '/.well-known/openid-configuration' },
]

/** The attempts that take the least time, for large numbers of calls: one at each endpoint that reads proofs. */
const quick = [attempts[1]!, attempts[10]!, attempts[12]!]

async function send(stage: Stage, key: ProofKey, { method, path, authorization, form, token }: Attempt) {
  const claims = { htm: method, htu: stage.url + path, ...(token !== undefined && { ath: ath(token) }) }
  const dpop = await proofOf(stage, key, { claims })
  return callWith(stage, method, path, { dpop, authorization }, form)
}

/** Sends `count` calls, thirty at a time. They use the attempts in turn, and each call has a proof of its own. */
async function sendMany(t: TestContext, stage: Stage, count: number, of: Attempt[], from: (number: number) => string) {
  const makeProof = proofMaker(stage)
  const pool = new Pool(stage.url, { connections: 30 })
  t.after(() => pool.destroy())
  let next = 0
  const sender = async () => {
    while (next < count) {
      const number = next++
      const attempt = of[number % of.length]!
      const { statusCode, body } = await pool.request({
        method: attempt.method,
        path: attempt.path,
        headers: {
          dpop: makeProof(attempt),
          'x-forwarded-for': from(number),
          ...(attempt.authorization && { authorization: attempt.authorization }),
          ...(attempt.form && { 'content-type': 'application/x-www-form-urlencoded' }),
        },
        body: attempt.form ? String(new URLSearchParams(attempt.form)) : null,
      })
      await body.dump()
      assert.ok(statusCode < 500, `${attempt.path}: ${statusCode}`)
    }
  }
  await Promise.all(Array.from({ length: 30 }, sender))
}

/** Makes proofs as quickly as an attacker would. */
function proofMaker({ url, clock }: Stage) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const header = part({ typ: 'dpop+jwt', alg: 'ES256', jwk: publicKey.export({ format: 'jwk' }) })
  return ({ method, path, token }: Attempt) => {
    const claims = { jti: newSecret(12), htm: method, htu: url + path, iat: Math.floor(clock.now() / 1000) }
    const signed = `${header}.${part({ ...claims, ...(token !== undefined && { ath: ath(token) }) })}`
    const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    return `${signed}.${signature.toString('base64url')}`
  }
}

/** Ana signs in to the pocket app, whose tokens are bound to the key of the app. */
async function signInWithKey(stage: Stage) {
  stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
  const keys = await openid.randomDPoPKeyPair('ES256', { extractable: true })
  const tokens = await signIn(stage, ana, { scope, prompt: 'consent' }, { id: 'pocket-app', dpopKeys: keys })
  const { kty, crv, x, y } = await exportJWK(keys.publicKey)
  const key: ProofKey = { ...(await newProofKey()), privateKey: keys.privateKey, jwk: { kty, crv, x, y } as JWK }
  return { key, accessToken: tokens.access_token, refreshToken: tokens.refresh_token! }
}

for (const engine of engines) {
  describe(`proofs that any caller can make, on ${engine.name}`, () => {
    test('a thousand from one network, ten thousand from many: no row, no signature verified', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const verifications = countVerifications(t)
      await sendMany(t, stage, 1000, attempts, (number) => `198.51.100.${number % 200}`)
      assert.deepEqual([await rowsOfProofs(stage), verifications()], [0, 0])
      await sendMany(t, stage, 10_000, quick, (number) => `10.${number % 100}.${number % 250}.7`)
      assert.deepEqual([await rowsOfProofs(stage), verifications()], [0, 0])
    })

    test('the same with tokens that were stolen from a client that keeps its key', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const { accessToken: token, refreshToken, key } = await signInWithKey(stage)
      const before = await rowsOfProofs(stage)
      const verifications = countVerifications(t)
      const authorization = `DPoP ${token}`
      const stolen: Attempt[] = [
        { method: 'GET', path: '/oauth/userinfo', authorization, token },
        { method: 'GET', path: '/oauth/userinfo', authorization: `Bearer ${token}` },
        { method: 'GET', path: '/backchannel/authinfo', authorization, token },
        {
          method: 'POST',
          path: '/oauth/token',
          form: { grant_type: 'refresh_token', refresh_token: refreshToken, client_id: 'pocket-app' },
        },
      ]
      const other = await newProofKey()
      for (const attempt of stolen) {
        const { status, body } = await send(stage, other, attempt)
        const expected = attempt.method === 'GET' ? [401, 'invalid_token'] : [400, 'invalid_grant']
        assert.deepEqual([status, body.error], expected)
      }
      await sendMany(t, stage, 200, stolen, () => '198.51.100.7')
      assert.deepEqual([(await rowsOfProofs(stage)) - before, verifications()], [0, 0])

      const ended = { ...stolen[3]!.form!, client_id: 'phone-app' }
      assert.equal((await send(stage, key, { ...stolen[3]!, form: ended })).status, 400, "another client's")
      assert.deepEqual([(await rowsOfProofs(stage)) - before, verifications()], [0, 0])
      assert.equal((await send(stage, key, stolen[3]!)).status, 200, 'its own client can use it')
      assert.equal((await rowsOfProofs(stage)) - before, 1)
    })
  })

  describe(`the proof of a client, on ${engine.name}`, () => {
    test('of ten refreshes by a public client at once with one proof, one passes, and its tokens stay', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const { key, refreshToken } = await signInWithKey(stage)
      const before = await rowsOfProofs(stage)
      const form = { grant_type: 'refresh_token', refresh_token: refreshToken, client_id: 'pocket-app' }
      const dpop = await proofOf(stage, key)
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => callWith(stage, 'POST', '/oauth/token', { dpop }, form)),
      )
      const passed = answers.filter(({ status }) => status === 200)
      assert.equal(passed.length, 1, answers.map(({ text }) => text).join('\n'))
      for (const { status, body } of answers) {
        if (status !== 200) assert.deepEqual([status, body.error], [400, 'invalid_dpop_proof'])
      }
      assert.equal((await rowsOfProofs(stage)) - before, 1)
      const again = { ...form, refresh_token: String(passed[0]!.body.refresh_token) }
      const next = await callWith(stage, 'POST', '/oauth/token', { dpop: await proofOf(stage, key) }, again)
      assert.equal(next.status, 200, 'no token was taken for stolen')
    })

    test('that came with a failed call can be used again, once', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const { key, refreshToken } = await signInWithKey(stage)
      const form = { ...refresh, client_id: 'pocket-app' }
      const dpop = await proofOf(stage, key)
      const post = (more: Record<string, string>) =>
        callWith(stage, 'POST', '/oauth/token', { dpop }, { ...form, ...more })
      assert.equal((await post({})).body.error, 'invalid_grant')
      const { status, body } = await post({ refresh_token: refreshToken })
      assert.equal(status, 200)
      assert.equal((await post({ refresh_token: String(body.refresh_token) })).body.error, 'invalid_dpop_proof')
    })

    test('is verified once, and is refused with a wrong signature, at each endpoint', async (t) => {
      const stage = await openBehindProxy(t, engine)
      const { key, accessToken: token, refreshToken } = await signInWithKey(stage)
      const forged = { ...(await newProofKey()), jwk: key.jwk }
      const authorization = `DPoP ${token}`
      const before = await rowsOfProofs(stage)
      const calls: Attempt[] = [
        { method: 'GET', path: '/oauth/userinfo', authorization, token },
        { method: 'GET', path: '/backchannel/authinfo', authorization, token },
        {
          method: 'POST',
          path: '/oauth/token',
          form: { grant_type: 'refresh_token', refresh_token: refreshToken, client_id: 'pocket-app' },
        },
      ]
      const verifications = countVerifications(t)
      for (const [number, call] of calls.entries()) {
        const refused = await send(stage, forged, call)
        const status = call.method === 'GET' ? 401 : 400
        assert.deepEqual([refused.status, refused.body.error], [status, 'invalid_dpop_proof'], refused.text)
        assert.equal((await rowsOfProofs(stage)) - before, number)
        const soFar = verifications()
        assert.equal((await send(stage, key, call)).status, 200)
        assert.equal(verifications() - soFar, 1, call.path)
        assert.equal((await rowsOfProofs(stage)) - before, number + 1)
      }
    })
  })
}
