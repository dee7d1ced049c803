/** Keys that this server cannot use are ignored, wherever a client names its keys (RFC 7517 §5). */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, test } from 'node:test'
import type { PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { problemsIn, setting } from '../support/configurations.ts'
import { openDocumentServer } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import { basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { open, opened, poll } from './registration-calls.ts'

/** A post-quantum key (draft-ietf-cose-dilithium), as Node exports it. */
const mlDsa = { kid: 'pq', ...generateKeyPairSync('ml-dsa-44').publicKey.export({ format: 'jwk' }) }

const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' })

const variants: [name: string, key: Record<string, unknown>][] = [
  ['ML-DSA, as Node exports it', mlDsa],
  ['a symmetric key without its value', { kty: 'oct', kid: 'shared', alg: 'HS256' }],
  ['a type that nobody has defined yet', { kty: 'LMS', kid: 'future', pub: 'AAAA' }],
  ['a type that is a number', { kty: 7, kid: 'number' }],
  ['no type', { kid: 'none', use: 'sig' }],
  ['an EC key without its point', { kty: 'EC', crv: 'P-256' }],
  ['an EC key without y', { kty: 'EC', crv: 'P-256', kid: 'half', x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4' }],
  ['an EC key whose point is an empty text', { kty: 'EC', crv: 'P-256', kid: 'empty', x: '', y: '' }],
  ['an OKP key without x, as libraries write an Ed25519 key that they cannot export', { kty: 'OKP', crv: 'Ed25519' }],
  ['an RSA key without its modulus', { kty: 'RSA', e: 'AQAB', kid: 'old', use: 'sig' }],
  ['an RSA key whose modulus is a number', { kty: 'RSA', e: 'AQAB', n: 65537 }],
  ['an RSA key without its exponent', { kty: 'RSA', n: 'sXchDaQebHnPiGvyDOAT', kid: 'short' }],
  ['a key for encryption', { ...otherKey, use: 'enc' }],
  ['a key for key agreement, as a wallet publishes it', { ...otherKey, kid: 'agree', alg: 'ECDH-ES+A256KW' }],
  ['an RSA key for encryption', { kty: 'RSA', e: 'AQAB', n: 'AQAB'.repeat(64), alg: 'RSA-OAEP-256' }],
  ['a key for encryption, by its operations', { ...otherKey, key_ops: ['deriveKey', 'deriveBits'] }],
  ['an RSA key that wraps keys', { kty: 'RSA', e: 'AQAB', n: 'AQAB'.repeat(64), key_ops: ['encrypt', 'wrapKey'] }],
  ['a use that is not defined', { ...otherKey, use: 'verify' }],
  ['an alg in lower case', { ...otherKey, alg: 'es256' }],
  ['an alg that wraps keys', { ...otherKey, alg: 'A128KW' }],
  ['an alg of a shared secret', { ...otherKey, alg: 'HS256' }],
  ['a curve of blockchains', { ...otherKey, crv: 'secp256k1' }],
  ['a curve for key agreement', { kty: 'OKP', crv: 'X25519', x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4' }],
  ['a key whose alg is a number', { ...otherKey, alg: 256 }],
  ['a key whose kid is a list', { ...otherKey, kid: ['one'] }],
]

/**
 * Keys that are complete, but have a further member that the server cannot understand. The server uses them without
 * this member.
 */
const oddMembers: [name: string, odd: Record<string, unknown>][] = [
  ['an empty kid', { kid: '' }],
  ['a kid that is null', { kid: null }],
  ['an empty use', { use: '' }],
  ['a certificate that is not in a list', { x5c: 'MIIC' }],
  ['a list with an empty certificate', { x5c: [''] }],
  ['operations that also allow to sign, as key vaults publish them', { key_ops: ['sign', 'verify'] }],
  ['lists without members, as .NET writes them', { key_ops: [], x5c: [], oth: [] }],
  [
    'private members that are null, as a class for both kinds of keys has them',
    { d: null, p: null, oth: null, k: null },
  ],
  ['private members that are empty texts, as a struct of Go has them', { d: '', p: '', oth: [], k: '' }],
]

const secret = newSecret()
const signing = { token_endpoint_auth_method: 'private_key_jwt' } as const

for (const engine of engines) {
  describe(`a key that cannot be used beside one that can, on ${engine.name}:`, () => {
    for (const [name, unknown] of variants) {
      test(`${name}, in the registration and in the configuration`, async (t) => {
        const known = await newKey('one')
        const jwks = { keys: [unknown, known.publicJwk] as PublicJwk[] }
        const configured = pollClient('shelf', { ...signing, grant_types: [CIBA, 'refresh_token'], jwks })
        const { stage, register, send } = await opened(t, { ...open, clients: [configured] }, engine)
        await assertBelieved(stage, 'shelf', known)

        const { status, body, text } = await register({ ...poll, ...signing, jwks })
        assert.equal(status, 201, text)
        assert.deepEqual(body.jwks, { keys: [known.publicJwk] }, 'the response shows which keys are used')
        await assertBelieved(stage, String(body.client_id), known)
        const again = { ...poll, ...signing, client_id: body.client_id, jwks }
        const token = String(body.registration_access_token)
        const replaced = await send('PUT', String(body.registration_client_uri), again, token)
        assert.deepEqual([replaced.status, replaced.body.jwks], [200, { keys: [known.publicJwk] }], replaced.text)
      })
    }
  })
}

for (const engine of engines) {
  describe(`keys that cannot be used, on ${engine.name}:`, () => {
    test('at jwks_uri they are ignored at every endpoint', async (t) => {
      const known = await newKey('one')
      const odd = oddMembers.map(([, odd]) => ({ ...otherKey, ...odd }))
      const keys = [...variants.map(([, unknown]) => unknown), ...odd, known.publicJwk]
      const documents = await openDocumentServer(t)
      documents.publish({ keys })
      const grant_types = [CIBA, 'refresh_token']
      const client = pollClient('shelf', { ...signing, grant_types, jwks_uri: documents.byName })
      await assertBelieved(await openStage(t, { engine, config: { clients: [client] } }), 'shelf', known)
    })

    test('a client that signs nothing may have no other keys', async (t) => {
      const config = (keys: unknown[]) => ({ ...poll, jwks: { keys: keys as PublicJwk[] } })
      const clients = variants.map(([, key], number) =>
        pollClient(`shelf-${number}`, { client_secret: secret, ...config([key]) }),
      )
      const { stage, register } = await opened(t, { ...open, clients }, engine)
      for (const { client_id } of clients) await assertKnown(stage, String(client_id), secret)
      for (const keys of [...variants.map(([, key]) => [key]), []]) {
        const { status, body, text } = await register(config(keys))
        assert.deepEqual([status, body.jwks], [201, { keys: [] }], text)
        await assertKnown(stage, String(body.client_id), String(body.client_secret))
      }
    })

    test('a client that signs something must have another key', async (t) => {
      const { register } = await opened(t, open, engine)
      const used = [signing, { backchannel_authentication_request_signing_alg: 'ES256' }]
      for (const [name, key] of variants) {
        for (const members of used) {
          const { status, body } = await register({ ...poll, ...members, jwks: { keys: [key] } })
          assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], name)
          assert.match(
            String(body.error_description),
            /^jwks must contain a key of type EC, RSA or OKP that has all members/,
          )
        }
      }
    })

    test('other members that cannot be understood are left out', async (t) => {
      const known = await newKey('one')
      const { stage, register } = await opened(t, open, engine)
      for (const [name, odd] of oddMembers) {
        const jwks = { keys: [{ ...otherKey, ...odd }, known.publicJwk] }
        const { status, body, text } = await register({ ...poll, ...signing, jwks })
        assert.equal(status, 201, `${name}: ${text}`)
        assert.deepEqual(body.jwks, { keys: [otherKey, known.publicJwk] })
        await assertBelieved(stage, String(body.client_id), known)
      }
    })

    test('an empty kid names no key, in a key and in the header of an assertion', async (t) => {
      const known = await newKey('one')
      const documents = await openDocumentServer(t)
      const { stage, register } = await opened(t, open, engine)
      const { kid: _, ...withoutKid } = known.publicJwk
      for (const keys of [[{ ...known.publicJwk, kid: '' }], [withoutKid], [{ ...otherKey, kid: '' }, withoutKid]]) {
        documents.publish({ keys })
        for (const members of [{ jwks: { keys } }, { jwks_uri: documents.byName }]) {
          const { status, body, text } = await register({ ...poll, ...signing, ...members })
          assert.equal(status, 201, text)
          await assertBelieved(stage, String(body.client_id), known, '')
        }
      }
    })

    test('a key is used without the other members that cannot be understood', async (t) => {
      const known = await newKey('one')
      const documents = await openDocumentServer(t)
      const { stage, register } = await opened(t, open, engine)
      for (const [name, odd] of oddMembers.filter(([, odd]) => !('kid' in odd))) {
        const keys = [{ ...known.publicJwk, ...odd }]
        documents.publish({ keys })
        for (const members of [{ jwks: { keys } }, { jwks_uri: documents.byName }]) {
          const { status, body, text } = await register({ ...poll, ...signing, ...members })
          assert.equal(status, 201, `${name}: ${text}`)
          await assertBelieved(stage, String(body.client_id), known)
        }
      }
    })

    test('private members are refused for keys of every type', async (t) => {
      const { register } = await opened(t, open, engine)
      const { publicJwk } = await newKey('one')
      const hush = 'hush-hush'
      const wrong: [Record<string, unknown>[], RegExp][] = [
        [[publicJwk, { ...mlDsa, priv: hush }], /key 1 has the private member "priv"/],
        [[publicJwk, { kty: 'oct', k: hush }], /key 1 has the private member "k"/],
        [[{ kty: 'LMS', d: hush }, publicJwk], /key 0 has the private member "d"/],
        [[{ ...publicJwk, d: hush }], /key 0 has the private member "d"/],
        [[{ kid: 'none', p: hush }, publicJwk], /key 0 has the private member "p"/],
        [[{ kty: 'EC', crv: 'P-256', d: hush }, publicJwk], /key 0 has the private member "d"/],
        [[publicJwk, { kty: 'RSA', e: 'AQAB', qi: hush }], /key 1 has the private member "qi"/],
      ]
      for (const [keys, problem] of wrong) {
        for (const authentication of [signing, {}]) {
          const { status, body, text } = await register({ ...poll, ...authentication, jwks: { keys } })
          assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], text)
          assert.match(String(body.error_description).replaceAll('?', '"'), problem)
          assert.doesNotMatch(text, /hush/)
        }
      }
    })
  })
}

test('an issuer of hint tokens must have a key that can be used, and others are ignored', async () => {
  const { publicJwk } = await newKey('one')
  const problems = (keys: unknown[]) =>
    problemsIn(setting('hints.tokenIssuers', [{ issuer: 'https://finder.example', jwks: { keys } }]))
  for (const [name, key] of variants) {
    assert.deepEqual(problems([key, publicJwk]), [], name)
    const [problem] = problems([key])
    assert.match(String(problem), /jwks must contain a key of type EC, RSA or OKP that has all members/, name)
  }
})

/** Asserts that an assertion is accepted by our own endpoint and by one of oidc-provider. */
async function assertBelieved(stage: Stage, clientId: string, { privateKey }: KeyHolder, kid = 'one'): Promise<void> {
  const sign = () => assertionOf(stage, clientId, { key: privateKey, header: { kid } })
  const asked = { scope: 'openid', login_hint: 'ana', ...asserted(await sign()) }
  const own = await stage.post('/backchannel/authorize', asked)
  assert.equal(own.status, 200, own.text)
  const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown', ...asserted(await sign()) }
  const forwarded = await stage.post('/oauth/token', refresh)
  assert.equal(forwarded.body.error, 'invalid_grant', forwarded.text)
}

/** Asserts that a client with a secret is known at our own endpoint and at one of oidc-provider. */
async function assertKnown(stage: Stage, clientId: string, clientSecret: string): Promise<void> {
  const authorization = basic(clientId, clientSecret)
  const own = await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, authorization)
  assert.equal(own.status, 200, own.text)
  const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown' }
  const forwarded = await stage.post('/oauth/token', refresh, authorization)
  assert.equal(forwarded.body.error, 'invalid_grant', forwarded.text)
}
