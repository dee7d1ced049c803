/**
 * A changed DPoP proof is rejected: whether a character, a claim or a header was changed, even if the holder of the key
 * has signed the change.
 *
 *     DOORBELL_TEST_RUNS=10000 npm test -- test/properties     more runs
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { newProofKey, type ProofKey, pollWith, proofOf } from '../support/proofs.ts'
import { basic, openStage, type Stage } from '../support/stage.ts'

const runs = { numRuns: Number(process.env.DOORBELL_TEST_RUNS ?? 400) }
const secret = newSecret()

let stage: Stage
let key: ProofKey
let close = () => {}

before(async () => {
  key = await newProofKey()
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: { clients: [pollClient('wallet', { client_secret: secret, dpop_bound_access_tokens: true })] },
  })
})
after(() => close())

/** Sends the proof with a request that does not exist: `invalid_grant` means that the proof was accepted. */
async function answerTo(proof: string): Promise<unknown> {
  const { status, body } = await pollWith(stage, proof, 'unknown', basic('wallet', secret))
  assert.equal(status, 400)
  return body.error
}

async function assertRefused(proof: string, by: unknown[] = ['invalid_dpop_proof']): Promise<void> {
  const error = await answerTo(proof)
  assert.ok(by.includes(error), `${error}: ${proof}`)
}

/** Characters that a header can contain and that a lenient parser might accept. */
const letters = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', ...'.=+/,;"\\%~{}']

test('a proof is rejected if a character is replaced, removed or added (DP-2)', async () => {
  const proof = await proofOf(stage, key)
  const changed = fc.record({
    at: fc.nat(proof.length - 1),
    cut: fc.constantFrom(0, 1),
    letter: fc.constantFrom('', ...letters),
  })
  await fc.assert(
    fc.asyncProperty(changed, async ({ at, cut, letter }) => {
      const mutated = proof.slice(0, at) + letter + proof.slice(at + cut)
      fc.pre(mutated !== proof)
      await assertRefused(mutated)
    }),
    runs,
  )
  assert.equal(await answerTo(proof), 'invalid_grant', 'it is not marked as used')
})

const anything = fc.oneof(fc.jsonValue(), fc.string(), fc.integer(), fc.webUrl())

/** The values of each claim that are valid. */
const goodClaims: Record<string, (value: unknown) => boolean> = {
  jti: (jti) => typeof jti === 'string' && jti.length >= 1 && jti.length <= 256,
  htm: (htm) => htm === 'POST',
  htu: () => false,
  iat: (iat) => typeof iat === 'number' && Math.abs(iat - now()) <= 60,
  nonce: () => false,
  exp: (exp) => typeof exp === 'number' && exp > now() - 60,
  nbf: (nbf) => typeof nbf === 'number' && nbf <= now() + 60,
}
const now = () => Math.floor(stage.clock.now() / 1000)

test('a proof is rejected if a claim has an invalid value, even with a valid signature (DP-2)', async () => {
  const changed = fc.tuple(fc.constantFrom(...Object.keys(goodClaims)), anything)
  await fc.assert(
    fc.asyncProperty(changed, async ([claim, value]) => {
      fc.pre(!goodClaims[claim]!(value))
      const proof = await signed({}, { [claim]: value })
      await assertRefused(proof, claim === 'nonce' ? ['use_dpop_nonce'] : undefined)
    }),
    runs,
  )
})

test('a proof is rejected if a header has an invalid value, even with a valid signature (DP-2)', async () => {
  const changed = fc.tuple(fc.constantFrom('typ', 'alg', 'jwk', 'crit'), fc.oneof(anything, fc.constantFrom(...algs)))
  await fc.assert(
    fc.asyncProperty(changed, async ([name, value]) => {
      fc.pre(value !== (name === 'typ' ? 'dpop+jwt' : 'ES256'))
      await assertRefused(await signed({ [name]: value }))
    }),
    runs,
  )
})

test('a proof is rejected if a member of its key is changed, or a private member is added', async () => {
  const members = fc.constantFrom('kty', 'crv', 'x', 'y', 'd', 'k', 'p', 'q', 'dp', 'dq', 'qi', 'oth')
  await fc.assert(
    fc.asyncProperty(members, anything, async (name, value) => {
      fc.pre(value !== key.jwk[name as 'x'])
      await assertRefused(await signed({ jwk: { ...key.jwk, [name]: value } }))
    }),
    runs,
  )
  assert.equal(await answerTo(await signed({})), 'invalid_grant', 'unchanged it is accepted')
})

const algs = [
  'none',
  'None',
  'HS256',
  'ES256 ',
  'es256',
  'ES384',
  'PS256',
  'RS256',
  'EdDSA',
  'ES256K',
  'dpop+jwt',
  'JWT',
]

/** Signs any headers with the key. */
async function signed(header: Record<string, unknown>, claims: Record<string, unknown> = {}): Promise<string> {
  const plain = { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk, ...header }
  const usual = { jti: newSecret(12), htm: 'POST', htu: `${stage.url}/oauth/token`, iat: now() }
  const text = [plain, { ...usual, ...claims }].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
  const algorithm = { name: 'ECDSA', hash: 'SHA-256' }
  const signature = await crypto.subtle.sign(algorithm, key.privateKey, Buffer.from(text.join('.')))
  return [...text, Buffer.from(signature).toString('base64url')].join('.')
}
