/** Clients that prove with each call that they hold a key (DPoP, RFC 9449), and tokens that are of no use without it. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, type TestContext, test } from 'node:test'
import { CompactSign, exportJWK, type JWK, SignJWT } from 'jose'
import * as openid from 'openid-client'
import { checkConfig } from '../../src/config/check.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { asserted, assertionOf, pollClient } from '../cast/assertions.ts'
import { certify } from '../cast/certificates.ts'
import { createStageClock } from '../cast/clock.ts'
import { engines } from '../cast/engines.ts'
import { discover, refusalOf } from '../cast/foreign-client.ts'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { signIn } from '../cast/phone-app.ts'
import { freePort } from '../cast/ports.ts'
import { callWith, newProofKey, type ProofKey, type ProofOptions, pollWith, proofOf } from '../cast/proofs.ts'
import { signedRequest } from '../cast/signed-requests.ts'
import { type Answer, ana, basic, CIBA, credentials, openStage, type Stage, type StageOptions } from '../cast/stage.ts'
import { rowsOf } from '../cast/tables.ts'
import { openTlsStage } from '../cast/tls-stage.ts'

const secret = newSecret()
const grant_types = [CIBA, 'refresh_token']

/** Wallet's tokens are always bound; Kiosk may bind them. The pocket app signs users in and keeps no secret. */
const cast: NonNullable<ConfigInput['clients']> = [
  pollClient('wallet', { client_secret: secret, grant_types, dpop_bound_access_tokens: true }),
  {
    client_id: 'pocket-app',
    scope: 'openid ciba:decide offline_access',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    dpop_bound_access_tokens: true,
  },
]
const asWallet = basic('wallet', secret)

const openDpopStage = (t: TestContext, { config = {}, ...options }: StageOptions = {}) =>
  openStage(t, { ...options, config: { ...config, clients: [...cast, ...(config.clients ?? [])] } })

async function ring(stage: Stage, authorization = asWallet): Promise<string> {
  stage.clock.advance(1)
  const form = { scope: 'openid offline_access', login_hint: 'ana', binding_message: 'x' }
  const { status, body, text } = await stage.post('/backchannel/authorize', form, authorization)
  assert.equal(status, 200, text)
  return String(body.auth_req_id)
}

async function approved(stage: Stage, authorization = asWallet): Promise<string> {
  const authReqId = await ring(stage, authorization)
  assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
  return authReqId
}

/** A foreign library goes by the real time. */
const catchUp = ({ clock }: Stage) => clock.advance(Math.max(0, Date.now() - clock.now()))

const ath = (token: unknown) => createHash('sha256').update(String(token)).digest('base64url')

function assertRefused(answer: Answer, error: string, status = 400, about = answer.text): void {
  assert.deepEqual([answer.status, answer.body.error], [status, error], about)
  assert.match(String(answer.body.error_description), /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/)
}

for (const engine of engines) {
  describe(`a foreign client library with its own DPoP, on ${engine.name}`, () => {
    for (const requireNonce of [false, true]) {
      test(`rings, polls, gets bound tokens, uses and refreshes them${requireNonce ? ', with nonces (DP-8)' : ''} (DP-1, DP-4, DP-5, DP-10)`, async (t) => {
        const stage = await openDpopStage(t, { engine, config: { dpop: { requireNonce } } })
        const wallet = await discover(stage, 'wallet', openid.ClientSecretBasic(secret))
        const DPoP = openid.getDPoPHandle(wallet, await openid.randomDPoPKeyPair('ES256'))
        const jkt = await DPoP.calculateThumbprint()
        const rung = await openid.initiateBackchannelAuthentication(wallet, {
          scope: 'openid offline_access',
          login_hint: 'ana',
        })
        await stage.decide(await stage.newestRequest(), 'approved')
        catchUp(stage)
        const tokens = await openid.pollBackchannelAuthenticationGrant(wallet, { ...rung, interval: 0 }, undefined, {
          DPoP,
          signal: AbortSignal.timeout(5000),
        })
        assert.equal(tokens.token_type, 'dpop')
        assert.equal((await openid.fetchUserInfo(wallet, tokens.access_token, ana.id, { DPoP })).sub, ana.id)

        const seen = await openid.tokenIntrospection(wallet, tokens.access_token)
        assert.deepEqual([seen.active, seen.token_type, seen.cnf], [true, 'DPoP', { jkt }])

        catchUp(stage)
        const fresh = await openid.refreshTokenGrant(wallet, tokens.refresh_token!, undefined, { DPoP })
        assert.equal(fresh.token_type, 'dpop')
        assert.equal((await openid.fetchUserInfo(wallet, fresh.access_token, ana.id, { DPoP })).sub, ana.id)

        // A confidential client's refresh token is bound to the client, so it may go on with another key.
        const other = openid.getDPoPHandle(wallet, await openid.randomDPoPKeyPair('ES256'))
        catchUp(stage)
        const moved = await openid.refreshTokenGrant(wallet, fresh.refresh_token!, undefined, { DPoP: other })
        assert.equal((await openid.fetchUserInfo(wallet, moved.access_token, ana.id, { DPoP: other })).sub, ana.id)
        const withTheOld = openid.fetchUserInfo(wallet, moved.access_token, ana.id, { DPoP })
        await assert.rejects(withTheOld, 'the new tokens are bound to the new key')
      })
    }
  })

  describe(`a proof is good once, on ${engine.name} (DP-9)`, () => {
    test('of ten at once one is accepted, and it stays used after a restart', async (t) => {
      const stage = await openDpopStage(t, { engine })
      const authReqId = await ring(stage)
      const proof = await proofOf(stage, await newProofKey())
      const send = () => pollWith(stage, proof, authReqId, asWallet)
      const answers = await Promise.all(Array.from({ length: 10 }, send))
      assert.deepEqual(answers.map(({ body }) => body.error).sort(), [
        'authorization_pending',
        ...Array(9).fill('invalid_dpop_proof'),
      ])
      await stage.restart()
      assertRefused(await send(), 'invalid_dpop_proof')
    })

    test('of ten refreshes at once, and of ten looks at userinfo', async (t) => {
      const stage = await openDpopStage(t, { engine })
      const key = await newProofKey()
      const { body } = await pollWith(stage, await proofOf(stage, key), await approved(stage), asWallet)
      const proof = await proofOf(stage, key)
      const form = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
      const refresh = () => callWith(stage, 'POST', '/oauth/token', { dpop: proof, authorization: asWallet }, form)
      const refreshed = await Promise.all(Array.from({ length: 10 }, refresh))
      assert.deepEqual(refreshed.map(({ status }) => status).sort(), [200, ...Array(9).fill(400)])
      assertRefused(await refresh(), 'invalid_dpop_proof')
      assertRefused(await pollWith(stage, proof, 'unknown', asWallet), 'invalid_dpop_proof')

      const claims = { htm: 'GET', htu: `${stage.url}/oauth/userinfo`, ath: ath(body.access_token) }
      const headers = { dpop: await proofOf(stage, key, { claims }), authorization: `DPoP ${body.access_token}` }
      const look = () => callWith(stage, 'GET', '/oauth/userinfo', headers)
      const seen = await Promise.all(Array.from({ length: 10 }, look))
      assert.deepEqual(seen.map(({ status }) => status).sort(), [200, ...Array(9).fill(401)])
    })

    test('what nobody would accept any more is forgotten', async (t) => {
      const stage = await openDpopStage(t, { engine })
      const used = async () =>
        (await rowsOf(stage, "select 1 as x from used_assertions where client_id like 'dpop %'")).length
      await pollWith(stage, await proofOf(stage, await newProofKey()), 'unknown', asWallet)
      assert.equal(await used(), 1)
      stage.clock.advance(301_000)
      await stage.doorbell.prune()
      assert.equal(await used(), 0)
    })
  })

  describe(`what is pushed, on ${engine.name}`, () => {
    test('M33, ML-14, DP-13: it is bound to the key that was proven when ringing, and without a proof nothing is rung', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const signing = await newProofKey()
      const stage = await openDpopStage(t, {
        engine,
        config: {
          dpop: { requireNonce: true },
          clients: [
            {
              client_id: 'pushed',
              client_secret: secret,
              backchannel_token_delivery_mode: 'push',
              backchannel_client_notification_endpoint: endpoint.url,
              backchannel_authentication_request_signing_alg: 'ES256',
              jwks: { keys: [signing.jwk as never] },
              dpop_bound_access_tokens: true,
            },
          ],
        },
      })
      const key = await newProofKey()
      const request = await signedRequest(stage, 'pushed', {
        key: signing.privateKey,
        claims: { client_notification_token: newSecret(24) },
      })
      const authorization = basic('pushed', secret)
      const send = (dpop: string | undefined) =>
        callWith(stage, 'POST', '/backchannel/authorize', { dpop, authorization }, { request })
      const claims = { htu: `${stage.url}/backchannel/authorize` }
      const proof = (more = {}) => proofOf(stage, key, { claims: { ...claims, ...more } })

      assertRefused(await send(undefined), 'invalid_dpop_proof')
      assertRefused(await send(await proofOf(stage, key)), 'invalid_dpop_proof')
      const asked = await send(await proof())
      assertRefused(asked, 'use_dpop_nonce')
      assert.deepEqual(await stage.waiting(), [], 'nobody has been disturbed')
      // The same signed request: it was not used up.
      const nonce = asked.headers.get('dpop-nonce')
      const rung = await send(await proof({ nonce }))
      assert.equal(rung.status, 200, rung.text)

      await stage.decide(await stage.newestRequest(), 'approved')
      const [heard] = await endpoint.hears(1)
      const { access_token, token_type } = heard!.body
      assert.equal(token_type, 'DPoP')
      const look = async (with_: ProofKey) =>
        callWith(stage, 'GET', '/oauth/userinfo', {
          authorization: `DPoP ${access_token}`,
          dpop: await proofOf(stage, with_, {
            claims: { htm: 'GET', htu: `${stage.url}/oauth/userinfo`, ath: ath(access_token), nonce },
          }),
        })
      assert.equal((await look(key)).status, 200)
      assert.equal((await look(await newProofKey())).status, 401)
      assert.equal((await stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })).status, 401)
    })
  })
}

let stage: Stage
let close = () => {}
let key: ProofKey
let rsa: ProofKey

before(async () => {
  key = await newProofKey()
  rsa = await newProofKey('RS256')
  stage = await openDpopStage({ after: (fn: () => void) => (close = fn) } as never)
})
after(() => close())

const proof = (options: ProofOptions = {}) => proofOf(stage, key, options)

describe('a proof is good at the token endpoint', () => {
  const good: [string, () => Promise<string>][] = [
    ['as it is', () => proof()],
    ['made a minute ago', () => proof({ claims: { iat: inSeconds(-60) } })],
    ['made by a clock that is a minute ahead', () => proof({ claims: { iat: inSeconds(60) } })],
    ['with query and fragment in htu', () => proof({ claims: { htu: `${stage.url}/oauth/token?a=b#c` } })],
    [
      'with htu in other letters',
      () => proof({ claims: { htu: `${stage.url.replace('http://l', 'HTTP://L')}/oauth/./token` } }),
    ],
    ['with claims nobody knows', () => proof({ claims: { foo: { bar: 1 } } })],
    ['by an RSA key', () => proofOf(stage, rsa, { header: { alg: 'RS256' } })],
  ]
  for (const [name, make] of good) {
    test(name, async () => assertRefused(await pollWith(stage, await make(), 'unknown', asWallet), 'invalid_grant'))
  }

  test('and at each of the two addresses, where there is one for certificates (DP-12)', async (t) => {
    const alias = 'https://mtls.example.com'
    const ours = await openTlsStage(t, {
      config: { mutualTls: { issuer: alias }, clients: [...cast] },
    })
    const post = async (htu: string, form: Record<string, string>, host: string) =>
      ours.as().post('/oauth/token', form, {
        authorization: asWallet,
        host,
        dpop: await proofOf(ours, key, { claims: { htu } }),
      })
    for (const form of [
      { grant_type: CIBA, auth_req_id: 'unknown' },
      { grant_type: 'refresh_token', refresh_token: 'unknown' },
    ]) {
      assertRefused(await post(`${alias}/oauth/token`, form, 'mtls.example.com'), 'invalid_grant')
      assertRefused(await post(`${ours.url}/oauth/token`, form, new URL(ours.url).host), 'invalid_grant')
      assertRefused(await post('https://x.example.com/oauth/token', form, 'mtls.example.com'), 'invalid_dpop_proof')
    }
  })
})

const inSeconds = (seconds: number) => Math.floor(stage.clock.now() / 1000) + seconds

describe('a proof is an invalid_dpop_proof, and the poll clock stands still, with (DP-2, DP-3, DP-11)', () => {
  const wrong: [string, () => Promise<string | string[]> | string][] = [
    ['two headers', async () => [await proof(), await proof()]],
    ['one header with two proofs', async () => `${await proof()}, ${await proof()}`],
    ['an empty header', () => ''],
    ['no JWT', () => 'x'],
    ['two parts', async () => (await proof()).split('.').slice(0, 2).join('.')],
    ['five parts', () => 'a.b.c.d.e'],
    ['the same bytes, spelled otherwise', async () => respelled(await proof())],
    ['padding', async () => `${await proof()}==`],
    ['parts that are no JSON', async () => `AAAA.AAAA.${(await proof()).split('.')[2]}`],
    ['one that is too long (JO-4)', () => proof({ claims: { padding: 'x'.repeat(9000) } })],
    ...[undefined, '', 'JWT', 'at+jwt', 'DPOP+JWT', 'application/dpop+jwt', 5].map(
      (typ): [string, () => Promise<string>] => [`typ ${typ}`, () => proof({ header: { typ } })],
    ),
    ['alg none', async () => unsigned(await proof())],
    ['a shared secret', () => proof({ header: { alg: 'HS256' }, signedWith: Buffer.alloc(32) })],
    ['a shared secret as its jwk', () => symmetric()],
    ['an algorithm that is not announced', () => relabelled('ES256K')],
    ['another algorithm than that of the key', () => relabelled('ES384')],
    ['no jwk', () => proof({ header: { jwk: undefined } })],
    ['a jwk that is a text', () => proof({ header: { jwk: JSON.stringify(key.jwk) } })],
    ['a jwk that is a list', () => proof({ header: { jwk: [key.jwk] } })],
    ['a private jwk', async () => proof({ header: { jwk: await exportJWK(key.privateKey) } })],
    ['a jwk with one private part', () => proof({ header: { jwk: { ...key.jwk, k: 'x' } } })],
    ['a jwk that is no key', () => proof({ header: { jwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' } } })],
    [
      'a jwk with which verifying would be work',
      () => proof({ header: { jwk: { kty: 'RSA', n: 'x'.repeat(512), e: 'x'.repeat(500) } } }),
    ],
    ['another key in jwk', async () => proof({ header: { jwk: (await newProofKey()).jwk } })],
    ['crit that nobody here understands (JO-1)', () => critical()],
    ...['jti', 'htm', 'htu', 'iat'].map((claim): [string, () => Promise<string>] => [
      `no ${claim}`,
      () => proof({ claims: { [claim]: undefined } }),
    ]),
    ...['GET', 'post', 'POST ', 5].map((htm): [string, () => Promise<string>] => [
      `htm ${htm}`,
      () => proof({ claims: { htm } }),
    ]),
    ...[
      () => `${stage.url}/oauth/userinfo`,
      () => `${stage.url}/oauth/token/`,
      () => `${stage.url}/oauth`,
      () => stage.url,
      () => '/oauth/token',
      () => `${stage.url.replace('http', 'https')}/oauth/token`,
      () => `${stage.url.replace('localhost', '127.0.0.1')}/oauth/token`,
      () => `${stage.url.replace('//', '//me@')}/oauth/token`,
      () => `${stage.url}\\oauth\\token`,
      () => ` ${stage.url}/oauth/token`,
      () => `${stage.url}0/oauth/token`,
      () => [`${stage.url}/oauth/token`],
    ].map((htu): [string, () => Promise<string>] => [
      `another htu: ${String(htu).slice(6)}`,
      () => proof({ claims: { htu: htu() } }),
    ]),
    ['an iat more than a minute ago', () => proof({ claims: { iat: inSeconds(-61) } })],
    ['an iat more than a minute ahead', () => proof({ claims: { iat: inSeconds(61) } })],
    ['an iat that is a text', () => proof({ claims: { iat: String(inSeconds(0)) } })],
    ['an exp that has passed', () => proof({ claims: { exp: inSeconds(-61) } })],
    ['an nbf to come', () => proof({ claims: { nbf: inSeconds(62) } })],
    ['an empty jti', () => proof({ claims: { jti: '' } })],
    ['a jti of 257 letters', () => proof({ claims: { jti: 'x'.repeat(257) } })],
    ['a jti that is a number', () => proof({ claims: { jti: 5 } })],
    ['claims that are a list', () => listed()],
  ]
  for (const [name, make] of wrong) {
    test(name, async () => {
      const authReqId = await ring(stage)
      assertRefused(await pollWith(stage, await make(), authReqId, asWallet), 'invalid_dpop_proof')
      assert.equal(await lastPoll(), null)
      const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown' }
      const headers = { dpop: await make(), authorization: asWallet }
      assertRefused(await callWith(stage, 'POST', '/oauth/token', headers, refresh), 'invalid_dpop_proof')
    })
  }

  test('what is wrong is said, and nothing of it is repeated', async () => {
    const says = async (sent: string | string[]) =>
      (await pollWith(stage, sent, 'unknown', asWallet)).body.error_description
    assert.equal(await says([await proof(), await proof()]), 'send exactly one DPoP header')
    assert.equal(await says('x'), 'the proof is not a JWT')
    assert.equal(
      await says(await proof({ claims: { htm: 'SECRET' } })),
      'the proof: htm must be the method of this call',
    )
  })

  test('no proof at all, from a client that registered to send one (DP-6)', async () => {
    const authReqId = await approved(stage)
    assertRefused(await pollWith(stage, undefined, authReqId, asWallet), 'invalid_dpop_proof')
    assert.equal(await lastPoll(), null)
    const { status, body } = await pollWith(stage, await proof(), authReqId, asWallet)
    assert.equal(status, 200, 'nothing was used up')
    const refresh = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
    assertRefused(await stage.post('/oauth/token', refresh, asWallet), 'invalid_dpop_proof')
    const headers = { dpop: await proof(), authorization: asWallet }
    assert.equal((await callWith(stage, 'POST', '/oauth/token', headers, refresh)).status, 200)
  })

  test('whoever is not the client hears that first (TE-7)', async () => {
    assertRefused(await pollWith(stage, 'x', 'unknown', basic('wallet', 'wrong')), 'invalid_client', 401)
    assertRefused(await pollWith(stage, 'x', '', asWallet), 'invalid_request')
  })

  const lastPoll = async () => {
    const [row] = await rowsOf(stage, 'select last_polled_at from backchannel_auth_requests order by id desc limit 1')
    return row!.last_polled_at
  }
})

describe('nonces (DP-8)', () => {
  let ours: Stage
  let end = () => {}
  before(async () => {
    const t = { after: (fn: () => void) => (end = fn) } as never
    ours = await openDpopStage(t, { config: { dpop: { requireNonce: true } } })
  })
  after(() => end())
  const poll = async (nonce: unknown, more = {}) =>
    pollWith(ours, await proofOf(ours, key, { claims: { nonce, ...more } }), await authReqId, asWallet)
  let authReqId: Promise<string>

  test('without one the client is told which to use; that costs no poll (DP-11)', async () => {
    authReqId = ring(ours)
    const asked = await poll(undefined)
    assertRefused(asked, 'use_dpop_nonce')
    const nonce = asked.headers.get('dpop-nonce')
    assert.match(String(nonce), /^[\w-]{43}$/)
    assertRefused(await poll(nonce), 'authorization_pending')
    assertRefused(await poll(nonce), 'slow_down')
  })

  test('a wrong one is no better, nor one of another server, nor one that is no text', async () => {
    const elsewhere = await openDpopStage({ after: (fn: () => void) => after(fn) } as never, {
      config: { dpop: { requireNonce: true }, secret: newSecret() },
    })
    const theirs = await pollWith(elsewhere, await proofOf(elsewhere, key), 'unknown', asWallet)
    for (const nonce of ['x', '', theirs.headers.get('dpop-nonce'), 5, ['x'], {}]) {
      const answer = await poll(nonce)
      assertRefused(answer, 'use_dpop_nonce')
      assert.ok(answer.headers.get('dpop-nonce'))
    }
  })

  test('one is good for three minutes, whatever the client’s clock says, and not for ten', async () => {
    const nonce = (await poll(undefined)).headers.get('dpop-nonce')
    ours.clock.advance(180_000)
    assertRefused(await poll(nonce, { iat: 1000 }), 'authorization_pending')
    ours.clock.advance(420_000 - 1)
    assertRefused(await poll(nonce), 'use_dpop_nonce')
  })

  test('answers name the next one, so that nobody has to ask', async () => {
    const answer = await poll((await poll(undefined)).headers.get('dpop-nonce'))
    assert.equal((await poll(answer.headers.get('dpop-nonce'))).status, 400)
    assert.notEqual((await poll(answer.headers.get('dpop-nonce'))).body.error, 'use_dpop_nonce')
  })

  test('where none is asked for, none is told; an old one is exchanged', async () => {
    const { headers, body } = await pollWith(stage, await proof(), await approved(stage), asWallet)
    assert.equal(headers.get('dpop-nonce'), null)
    const refresh = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
    const refreshed = await callWith(
      stage,
      'POST',
      '/oauth/token',
      { dpop: await proof(), authorization: asWallet },
      refresh,
    )
    assert.deepEqual([refreshed.status, refreshed.headers.get('dpop-nonce')], [200, null])
    assertRefused(
      await pollWith(stage, await proof({ claims: { nonce: 'old' } }), 'unknown', asWallet),
      'use_dpop_nonce',
    )
  })
})

describe('a bound token', () => {
  const bound = async (as = key) => {
    const made = await proofOf(stage, as)
    const { status, body, text } = await pollWith(stage, made, await approved(stage), asWallet)
    assert.equal(status, 200, text)
    assert.equal(body.token_type, 'DPoP')
    return body
  }
  const at = (path: string, method: 'GET' | 'POST', token: unknown, options: { as?: ProofKey; claims?: object } = {}) =>
    proofOf(stage, options.as ?? key, {
      claims: { htm: method, htu: stage.url + path, ath: ath(token), ...options.claims },
    })

  test('is refused at userinfo from whoever only bears it, or proves the wrong thing (DP-15)', async () => {
    const { access_token: token } = await bound()
    const path = '/oauth/userinfo'
    const look = async (scheme: string, dpop: string | undefined) =>
      callWith(stage, 'GET', path, { authorization: `${scheme} ${token}`, dpop })
    assert.equal((await look('DPoP', await at(path, 'GET', token))).status, 200)
    const asBearer = await look('Bearer', undefined)
    assertRefused(asBearer, 'invalid_token', 401)
    assert.match(String(asBearer.headers.get('www-authenticate')), /^DPoP /)
    for (const [error, dpop] of [
      ['invalid_dpop_proof', await at(path, 'GET', token, { claims: { ath: undefined } })],
      ['invalid_dpop_proof', await at(path, 'GET', 'another')],
      ['invalid_dpop_proof', await at('/oauth/token', 'GET', token)],
      ['invalid_dpop_proof', await at(path, 'POST', token)],
      ['invalid_dpop_proof', 'x'],
      ['invalid_token', await at(path, 'GET', token, { as: await newProofKey() })],
    ] as const) {
      const answer = await look('DPoP', dpop)
      assertRefused(answer, error, 401)
      assert.match(String(answer.headers.get('www-authenticate')), new RegExp(`^DPoP .*error="${error}".*algs="ES256 `))
    }
    assert.ok((await look('DPoP', undefined)).status >= 400)
    assert.ok((await look('Bearer', await at(path, 'GET', token))).status >= 400)
  })

  test('is what a client gets that sends a proof without having registered for it (DP-14)', async () => {
    const asKiosk = credentials.kiosk
    const { body } = await pollWith(stage, await proof(), await approved(stage, asKiosk), asKiosk)
    assert.equal(body.token_type, 'DPoP')
    const unbound = await pollWith(stage, undefined, await approved(stage, asKiosk), asKiosk)
    assert.equal(unbound.body.token_type, 'Bearer')
    const { access_token: token } = unbound.body
    const headers = { authorization: `DPoP ${token}`, dpop: await at('/oauth/userinfo', 'GET', token) }
    assertRefused(await callWith(stage, 'GET', '/oauth/userinfo', headers), 'invalid_token', 401)
  })
})

describe('a public client', () => {
  const scope = 'openid ciba:decide offline_access'

  test('keeps its key: the refresh token is bound to it, and so is what decides (RFC 9449 §5)', async () => {
    catchUp(stage)
    const keys = await openid.randomDPoPKeyPair('ES256')
    const tokens = await signIn(stage, ana, { scope, prompt: 'consent' }, { id: 'pocket-app', dpopKeys: keys })
    assert.equal(tokens.token_type, 'dpop')
    const app = await discover(stage, 'pocket-app', openid.None())
    const other = openid.getDPoPHandle(app, await openid.randomDPoPKeyPair('ES256'))
    catchUp(stage)
    const stolen = await refusalOf(openid.refreshTokenGrant(app, tokens.refresh_token!, undefined, { DPoP: other }))
    assert.deepEqual(stolen, { error: 'invalid_grant', status: 400 })
    const without = await refusalOf(openid.refreshTokenGrant(app, tokens.refresh_token!))
    assert.deepEqual(without, { error: 'invalid_dpop_proof', status: 400 })
    const DPoP = openid.getDPoPHandle(app, keys)
    const fresh = await openid.refreshTokenGrant(app, tokens.refresh_token!, undefined, { DPoP })
    assert.equal(fresh.token_type, 'dpop')
  })

  test('decides with a proof for the very address, and with nothing less', async () => {
    catchUp(stage)
    const keys = await openid.randomDPoPKeyPair('ES256', { extractable: true })
    const { access_token: token } = await signIn(stage, ana, {}, { id: 'pocket-app', dpopKeys: keys })
    const own: ProofKey = { ...key, privateKey: keys.privateKey, jwk: (await exportJWK(keys.publicKey)) as JWK }
    const made = (path: string, method: string, claims = {}, as = own) =>
      proofOf(stage, as, { claims: { htm: method, htu: stage.url + path, ath: ath(token), ...claims } })
    await ring(stage)
    const request_id = await stage.newestRequest()
    const calls: ['GET' | 'POST', string, Record<string, string>][] = [
      ['GET', '/backchannel/authinfo', {}],
      ['POST', '/backchannel/authinfo', {}],
      ['GET', '/backchannel/activity', {}],
      ['GET', '/backchannel/passkeys', {}],
      ['POST', '/backchannel/complete', { request_id, status: 'denied' }],
    ]
    for (const [method, path, form] of calls) {
      const send = (dpop: string | string[] | undefined, scheme = 'DPoP') =>
        callWith(stage, method, path, { authorization: `${scheme} ${token}`, dpop }, form)
      const good = await made(path, method)
      for (const [error, answer] of [
        ['invalid_token', await send(undefined, 'Bearer')],
        ['invalid_token', await send(good, 'Bearer')],
        ['invalid_dpop_proof', await send(undefined)],
        ['invalid_dpop_proof', await send([good, good])],
        ['invalid_dpop_proof', await send(await made(path, method, { ath: undefined }))],
        ['invalid_dpop_proof', await send(await made(path, method, { ath: ath('another') }))],
        ['invalid_dpop_proof', await send(await made('/backchannel/elsewhere', method))],
        ['invalid_dpop_proof', await send(await made(path, method === 'GET' ? 'POST' : 'GET'))],
        ['invalid_token', await send(await made(path, method, {}, key))],
      ] as const) {
        assertRefused(answer, error, 401, `${method} ${path}: ${answer.text}`)
        assert.match(String(answer.headers.get('www-authenticate')), new RegExp(`^DPoP .*error="${error}".*algs="`))
      }
      const answer = await send(good)
      assert.equal(answer.status, 200, answer.text)
      assertRefused(await send(good), 'invalid_dpop_proof', 401, 'a second time')
    }
    assert.equal((await stage.waiting())[0]!.status, 'denied')

    const unbound = await signIn(stage)
    const dpop = await made('/backchannel/authinfo', 'GET', { ath: ath(unbound.access_token) })
    const headers = { authorization: `DPoP ${unbound.access_token}`, dpop }
    assertRefused(await callWith(stage, 'GET', '/backchannel/authinfo', headers), 'invalid_token', 401)
  })
})

describe('one token, one key (DP-14)', () => {
  const bank = {
    client_secret: secret,
    grant_types,
    tls_client_certificate_bound_access_tokens: true,
  }

  test('a client registers to bind tokens to its certificate or by DPoP, not both', () => {
    const { problems } = checkConfig({
      development: true,
      proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'X-C' },
      clients: [pollClient('bank', { ...bank, dpop_bound_access_tokens: true })],
    }) as { problems: string[] }
    assert.match(problems.join('\n'), /^clients\[0\]\.dpop_bound_access_tokens and tls_.* must not both be true/)
  })

  test('who is bound to a certificate sends no proof', async (t) => {
    const ours = await openTlsStage(t, { config: { clients: [pollClient('bank', bank)] } })
    const certified = ours.as(await certify({ subject: 'CN=bank' }))
    const headers = { authorization: basic('bank', secret), dpop: await proofOf(ours, key) }
    const form = { grant_type: CIBA, auth_req_id: 'unknown' }
    assertRefused(await certified.post('/oauth/token', form, headers), 'invalid_request')
    const { dpop: _, ...without } = headers
    assertRefused(await certified.post('/oauth/token', form, without), 'invalid_grant')
  })

  test('fapi-ciba: DPoP instead of a certificate, with ES256 or PS256 (FI-2, FC-15, FC-42)', async (t) => {
    const signing = await newProofKey()
    const client = (id: string, more = {}) =>
      pollClient(id, {
        token_endpoint_auth_method: 'private_key_jwt',
        backchannel_authentication_request_signing_alg: 'ES256',
        jwks: { keys: [signing.jwk as never] },
        grant_types,
        ...more,
      })
    const ours = await openFapiStage(t, [
      client('wallet', { dpop_bound_access_tokens: true, tls_client_certificate_bound_access_tokens: false }),
      client('bank'),
    ])
    const { body: metadata } = await ours.get('/.well-known/openid-configuration')
    assert.deepEqual(metadata.dpop_signing_alg_values_supported, ['ES256', 'PS256'])

    const post = async (id: string, form: Record<string, string>, dpop?: string) => {
      const own = asserted(await assertionOf(ours, id, { key: signing.privateKey, claims: { aud: ours.issuer } }))
      const headers = { ...(dpop !== undefined && { dpop }) }
      return callWith(ours, 'POST', '/oauth/token', headers, { ...form, ...own })
    }
    const ciba = { grant_type: CIBA, auth_req_id: 'unknown' }
    const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown' }
    const claims = { htu: `${ours.issuer}/oauth/token` }
    for (const form of [ciba, refresh]) {
      assertRefused(await post('wallet', form, await proofOf(ours, key, { claims })), 'invalid_grant')
      const byRsa = await proofOf(ours, rsa, { claims, header: { alg: 'RS256' } })
      assertRefused(await post('wallet', form, byRsa), 'invalid_dpop_proof')
      assertRefused(await post('wallet', form), 'invalid_dpop_proof')
    }
    assertRefused(await post('bank', ciba), 'invalid_request')
    assertRefused(await post('bank', ciba, await proofOf(ours, key, { claims })), 'invalid_request')
  })
})

/** Behind a proxy, because the profile wants https; the cast's own clients have secrets, which it forbids. */
async function openFapiStage(t: TestContext, clients: NonNullable<ConfigInput['clients']>) {
  const issuer = 'https://id.example.com'
  const port = await freePort()
  const clock = createStageClock()
  const proxy = { trust: ['127.0.0.1'], clientCertificateHeader: 'X-Client-Cert' }
  const overrides = { issuer, port, database: 'sqlite::memory:', secret, profile: 'fapi-ciba', proxy, clients } as const
  const config = await loadConfig({ env: {}, overrides })
  const doorbell = await createDoorbell(config, { clock, log: createLog('silent') })
  t.after(() => doorbell.close())
  await doorbell.listen()
  const url = `http://127.0.0.1:${port}`
  const get = async (path: string) => callWith({ url }, 'GET', path, {})
  return { issuer, url, clock, get } as unknown as Stage & { issuer: string }
}

/** The last letter of a signature holds four bits that mean nothing. */
function respelled(jwt: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return jwt.slice(0, -1) + alphabet[alphabet.indexOf(jwt.at(-1)!) + 1]
}

function unsigned(jwt: string): string {
  const [header, payload] = jwt.split('.')
  const said = JSON.parse(Buffer.from(header!, 'base64url').toString()) as object
  return `${Buffer.from(JSON.stringify({ ...said, alg: 'none' })).toString('base64url')}.${payload}.`
}

/** Says another algorithm than the one it was signed with. */
async function relabelled(alg: string): Promise<string> {
  const [header, ...rest] = (await proof()).split('.')
  const said = JSON.parse(Buffer.from(header!, 'base64url').toString()) as object
  return [Buffer.from(JSON.stringify({ ...said, alg })).toString('base64url'), ...rest].join('.')
}

function symmetric(): Promise<string> {
  const shared = Buffer.alloc(32, 1)
  const jwk = { kty: 'oct', k: shared.toString('base64url') }
  return proof({ header: { alg: 'HS256', jwk }, signedWith: shared })
}

function critical(): Promise<string> {
  const claims = { jti: newSecret(), htm: 'POST', htu: `${stage.url}/oauth/token`, iat: inSeconds(0) }
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk, crit: ['urn:x'], 'urn:x': true }
  return new SignJWT(claims).setProtectedHeader(header).sign(key.privateKey, { crit: { 'urn:x': true } })
}

async function listed(): Promise<string> {
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk }
  return new CompactSign(Buffer.from('[1]')).setProtectedHeader(header).sign(key.privateKey)
}
