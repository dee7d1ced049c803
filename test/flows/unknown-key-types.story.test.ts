/** Keys of types that this server does not know are ignored, wherever a client names its keys (RFC 7517 §5). */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, test } from 'node:test'
import type { PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { openDocumentServer } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import { CIBA, openStage, type Stage } from '../support/stage.ts'
import { open, opened, poll } from './registration-calls.ts'

/** A post-quantum key (draft-ietf-cose-dilithium), as Node exports it. */
const mlDsa = { kid: 'pq', ...generateKeyPairSync('ml-dsa-44').publicKey.export({ format: 'jwk' }) }

const variants: [name: string, key: Record<string, unknown>][] = [
  ['ML-DSA, as Node exports it', mlDsa],
  ['a symmetric key without its value', { kty: 'oct', kid: 'shared', alg: 'HS256' }],
  ['a type that nobody has defined yet', { kty: 'LMS', kid: 'future', pub: 'AAAA' }],
  ['a type that is a number', { kty: 7, kid: 'number' }],
  ['no type', { kid: 'none', use: 'sig' }],
]

const signing = { token_endpoint_auth_method: 'private_key_jwt' } as const

for (const engine of engines) {
  describe(`an unknown key beside a known one, on ${engine.name}:`, () => {
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

test('unknown keys at jwks_uri are ignored at every endpoint', async (t) => {
  const known = await newKey('one')
  const keys = [...variants.map(([, unknown]) => unknown), known.publicJwk]
  const documents = await openDocumentServer(t)
  documents.publish({ keys })
  const grant_types = [CIBA, 'refresh_token']
  const client = pollClient('shelf', { ...signing, grant_types, jwks_uri: documents.byName })
  await assertBelieved(await openStage(t, { config: { clients: [client] } }), 'shelf', known)
})

test('private members are refused for keys of every type, and a set must have a known key', async (t) => {
  const { register } = await opened(t)
  const { publicJwk } = await newKey('one')
  const hush = 'hush-hush'
  const wrong: [Record<string, unknown>[], RegExp][] = [
    [[publicJwk, { ...mlDsa, priv: hush }], /key 1 has the private member "priv"/],
    [[publicJwk, { kty: 'oct', k: hush }], /key 1 has the private member "k"/],
    [[{ kty: 'LMS', d: hush }, publicJwk], /key 0 has the private member "d"/],
    [[{ ...publicJwk, d: hush }], /key 0 has the private member "d"/],
    [[{ kid: 'none', p: hush }, publicJwk], /key 0 has the private member "p"/],
    [[mlDsa], /must contain a key of type EC, RSA or OKP/],
  ]
  for (const [keys, problem] of wrong) {
    const { status, body, text } = await register({ ...poll, ...signing, jwks: { keys } })
    assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], text)
    assert.match(String(body.error_description).replaceAll('?', '"'), problem)
    assert.doesNotMatch(text, /hush/)
  }
})

/** Asserts that an assertion is accepted by our own endpoint and by one of oidc-provider. */
async function assertBelieved(stage: Stage, clientId: string, { privateKey }: KeyHolder): Promise<void> {
  const sign = () => assertionOf(stage, clientId, { key: privateKey, header: { kid: 'one' } })
  const asked = { scope: 'openid', login_hint: 'ana', ...asserted(await sign()) }
  const own = await stage.post('/backchannel/authorize', asked)
  assert.equal(own.status, 200, own.text)
  const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown', ...asserted(await sign()) }
  const forwarded = await stage.post('/oauth/token', refresh)
  assert.equal(forwarded.body.error, 'invalid_grant', forwarded.text)
}
