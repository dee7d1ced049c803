import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { before, describe, test } from 'node:test'
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  decodeJwt,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  jwtVerify,
  SignJWT,
} from 'jose'
import type { SigningKeys } from '../../openid-provider/signing-keys/signing-keys.ts'
import { signAgain } from './sign-again.ts'

const algorithms = ['ES256', 'RS256', 'PS256'] as const
type Algorithm = (typeof algorithms)[number]
type Pair = { publicJwk: JWK; privateJwk: JWK; privateKey: Awaited<ReturnType<typeof generateKeyPair>>['privateKey'] }

const opaque = () => randomBytes(32).toString('base64url')

describe('tokens whose key was revoked', () => {
  const old = new Map<Algorithm, Pair>()
  const next = new Map<Algorithm, Pair>()

  before(async () => {
    for (const pairs of [old, next]) {
      pairs.set('ES256', await newPair('ES256'))
      const rsa = await newPair('RS256')
      pairs.set('RS256', rsa)
      // The RSA key is used for RS256 and for PS256.
      const privateKey = (await importJWK(rsa.privateJwk, 'PS256')) as Pair['privateKey']
      pairs.set('PS256', { ...rsa, privateKey })
    }
  })

  for (const algorithm of algorithms) {
    test(`an ${algorithm} ID token is signed by the current key, with the same claims`, async () => {
      const claims = { sub: 'ana', iat: 1, exp: 4_000_000_000, at_hash: 'as it was', auth_time: 1, amr: ['pwd'] }
      const tokens = { access_token: opaque(), refresh_token: opaque(), id_token: await sign(claims, algorithm, old) }
      const signed = (await signAgain(tokens, keysOf(next)))!
      const { payload, protectedHeader } = await jwtVerify(signed.id_token, publishedBy(next))
      assert.equal(protectedHeader.alg, algorithm)
      assert.deepEqual({ ...payload, at_hash: 'as it was' }, claims)
      assert.equal(payload.at_hash, leftHalf(tokens.access_token))
      assert.deepEqual([signed.access_token, signed.refresh_token], [tokens.access_token, tokens.refresh_token])
    })
  }

  test('a JWT access token is signed again, and the ID token has the hash of the new one', async () => {
    const access = { sub: 'ana', aud: 'https://api.example', jti: 'one' }
    const tokens = {
      access_token: await sign(access, 'ES256', old, 'at+jwt'),
      id_token: await sign({ sub: 'ana', at_hash: 'x' }, 'RS256', next),
    }
    const signed = (await signAgain(tokens, keysOf(next)))!
    const { payload, protectedHeader } = await jwtVerify(signed.access_token, publishedBy(next), { typ: 'at+jwt' })
    assert.deepEqual([payload, protectedHeader.typ], [access, 'at+jwt'])
    assert.equal(decodeJwt(signed.id_token).at_hash, leftHalf(signed.access_token))
    await jwtVerify(signed.id_token, publishedBy(next))
  })

  test('no `at_hash` is added to an ID token without one', async () => {
    const tokens = { access_token: opaque(), id_token: await sign({ sub: 'ana' }, 'ES256', old) }
    assert.deepEqual(decodeJwt((await signAgain(tokens, keysOf(next)))!.id_token), { sub: 'ana' })
  })

  test('tokens whose key is published, opaque tokens and encrypted tokens stay as they are', async () => {
    const id_token = await sign({ sub: 'ana', at_hash: 'x' }, 'ES256', next)
    for (const tokens of [
      { access_token: opaque(), id_token },
      { access_token: await sign({ jti: 'one' }, 'ES256', next), id_token },
      { access_token: opaque(), id_token: 'eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.b.c.d.e' },
    ]) {
      assert.equal(await signAgain(tokens, keysOf(next)), undefined)
    }
  })

  const sign = (claims: object, alg: Algorithm, pairs: Map<Algorithm, Pair>, typ?: string) => {
    const { privateKey, publicJwk } = pairs.get(alg)!
    return new SignJWT({ ...claims })
      .setProtectedHeader({ alg, kid: publicJwk.kid!, ...(typ && { typ }) })
      .sign(privateKey)
  }
})

async function newPair(algorithm: Algorithm): Promise<Pair> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true })
  const marks = { kid: await calculateJwkThumbprint(await exportJWK(publicKey)), use: 'sig' }
  return {
    publicJwk: { ...(await exportJWK(publicKey)), ...marks },
    privateJwk: { ...(await exportJWK(privateKey)), ...marks },
    privateKey,
  }
}

function keysOf(pairs: Map<Algorithm, Pair>): SigningKeys {
  const different = (['ES256', 'RS256'] as const).map((algorithm) => pairs.get(algorithm)!)
  const published = different.map(({ publicJwk }) => publicJwk)
  return { private: different.map(({ privateJwk }) => privateJwk), published, public: published }
}

const publishedBy = (pairs: Map<Algorithm, Pair>) => createLocalJWKSet({ keys: keysOf(pairs).published })

const leftHalf = (token: string) => createHash('sha256').update(token).digest().subarray(0, 16).toString('base64url')
