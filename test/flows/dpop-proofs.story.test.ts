/** DPoP proofs that the token endpoint accepts or refuses, and nonces (RFC 9449). */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { CompactSign, exportJWK, SignJWT } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import { callWith, newProofKey, type ProofKey, type ProofOptions, pollWith, proofOf } from '../support/proofs.ts'
import { basic, CIBA, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { approved, assertRefused, asWallet, cast, openDpopStage, sendRequest } from './dpop-clients.ts'

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

describe('a proof is accepted at the token endpoint', () => {
  const good: [string, () => Promise<string>][] = [
    ['as it is', () => proof()],
    ['made a minute ago', () => proof({ claims: { iat: inSeconds(-60) } })],
    ['made by a clock that is a minute ahead', () => proof({ claims: { iat: inSeconds(60) } })],
    ['with query and fragment in htu', () => proof({ claims: { htu: `${stage.url}/oauth/token?a=b#c` } })],
    [
      'with htu in other upper and lower case',
      () => proof({ claims: { htu: `${stage.url.replace('http://l', 'HTTP://L')}/oauth/./token` } }),
    ],
    ['with unknown claims', () => proof({ claims: { foo: { bar: 1 } } })],
    ['by an RSA key', () => proofOf(stage, rsa, { header: { alg: 'RS256' } })],
  ]
  for (const [name, make] of good) {
    test(name, async () => assertRefused(await pollWith(stage, await make(), 'unknown', asWallet), 'invalid_grant'))
  }

  test('at each of the two addresses, if there is one for certificates (DP-12)', async (t) => {
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

describe('a refused proof is an invalid_dpop_proof, and the poll clock is unchanged: with (DP-2, DP-3, DP-11)', () => {
  const wrong: [string, () => Promise<string | string[]> | string][] = [
    ['two headers', async () => [await proof(), await proof()]],
    ['one header with two proofs', async () => `${await proof()}, ${await proof()}`],
    ['an empty header', () => ''],
    ['no JWT', () => 'x'],
    ['two parts', async () => (await proof()).split('.').slice(0, 2).join('.')],
    ['five parts', () => 'a.b.c.d.e'],
    ['the same bytes in another encoding', async () => respelled(await proof())],
    ['padding', async () => `${await proof()}==`],
    ['parts that are not JSON', async () => `AAAA.AAAA.${(await proof()).split('.')[2]}`],
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
    ...[
      { d: null },
      { use: null },
      { use: 'enc' },
      { alg: null },
      { alg: 'ES384' },
      { key_ops: [] },
      { key_ops: ['sign', 'verify'] },
    ].map((members): [string, () => Promise<string>] => [
      `a jwk that oidc-provider would not accept: ${JSON.stringify(members)}`,
      () => proof({ header: { jwk: { ...key.jwk, ...members } } }),
    ]),
    ...['exp', 'nbf'].map((claim): [string, () => Promise<string>] => [
      `${claim} null`,
      () => proof({ claims: { [claim]: null } }),
    ]),
    ['a jwk that is not a key', () => proof({ header: { jwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' } } })],
    [
      'a jwk that makes verification expensive',
      () => proof({ header: { jwk: { kty: 'RSA', n: 'x'.repeat(512), e: 'x'.repeat(500) } } }),
    ],
    ['another key in jwk', async () => proof({ header: { jwk: (await newProofKey()).jwk } })],
    ['an unknown crit (JO-1)', () => critical()],
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
    ['an nbf in the future', () => proof({ claims: { nbf: inSeconds(62) } })],
    ['an empty jti', () => proof({ claims: { jti: '' } })],
    ['a jti of 257 characters', () => proof({ claims: { jti: 'x'.repeat(257) } })],
    ['a jti that is a number', () => proof({ claims: { jti: 5 } })],
    ['claims that are a list', () => listed()],
  ]
  for (const [name, make] of wrong) {
    test(name, async () => {
      const authReqId = await sendRequest(stage)
      assertRefused(await pollWith(stage, await make(), authReqId, asWallet), 'invalid_dpop_proof')
      assert.equal(await lastPoll(), null)
      const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown' }
      const headers = { dpop: await make(), authorization: asWallet }
      assertRefused(await callWith(stage, 'POST', '/oauth/token', headers, refresh), 'invalid_dpop_proof')
    })
  }

  test('the error names the problem and repeats nothing of the proof', async () => {
    const says = async (sent: string | string[]) =>
      (await pollWith(stage, sent, 'unknown', asWallet)).body.error_description
    assert.equal(await says([await proof(), await proof()]), 'send exactly one DPoP header')
    assert.equal(await says('x'), 'the proof is not a JWT')
    assert.equal(
      await says(await proof({ claims: { htm: 'SECRET' } })),
      'the proof: htm must be the method of this request',
    )
  })

  test('a missing proof, from a client that registered to send one (DP-6)', async () => {
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

  test('failed client authentication is reported first (TE-7)', async () => {
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

  test('a proof without a nonce is answered with the nonce to use; that costs no poll (DP-11)', async () => {
    authReqId = sendRequest(ours)
    const asked = await poll(undefined)
    assertRefused(asked, 'use_dpop_nonce')
    const nonce = asked.headers.get('dpop-nonce')
    assert.match(String(nonce), /^[\w-]{43}$/)
    assertRefused(await poll(nonce), 'authorization_pending')
    assertRefused(await poll(nonce), 'slow_down')
  })

  test('a wrong nonce is refused too, also one of another server or one that is not a string', async () => {
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

  test('a nonce is valid for three minutes, whatever the client’s clock, and not for ten', async () => {
    const nonce = (await poll(undefined)).headers.get('dpop-nonce')
    ours.clock.advance(180_000)
    assertRefused(await poll(nonce, { iat: 1000 }), 'authorization_pending')
    ours.clock.advance(420_000 - 1)
    assertRefused(await poll(nonce), 'use_dpop_nonce')
  })

  test('answers carry the next nonce, so that clients need not ask for one', async () => {
    const answer = await poll((await poll(undefined)).headers.get('dpop-nonce'))
    assert.equal((await poll(answer.headers.get('dpop-nonce'))).status, 400)
    assert.notEqual((await poll(answer.headers.get('dpop-nonce'))).body.error, 'use_dpop_nonce')
  })

  test('a server that requires no nonce sends none; an old nonce is replaced', async () => {
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

/**
 * Returns the JWT with another last character, but with the same signature. The last character of a signature has four
 * bits without meaning.
 */
function respelled(jwt: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return jwt.slice(0, -1) + alphabet[alphabet.indexOf(jwt.at(-1)!) + 1]
}

function unsigned(jwt: string): string {
  const [header, payload] = jwt.split('.')
  const said = JSON.parse(Buffer.from(header!, 'base64url').toString()) as object
  return `${Buffer.from(JSON.stringify({ ...said, alg: 'none' })).toString('base64url')}.${payload}.`
}

/** Returns a proof in which the algorithm in the header was changed after signing. */
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
