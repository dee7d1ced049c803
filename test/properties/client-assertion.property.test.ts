/**
 * A changed client assertion is rejected: whether a character, a claim or a header was changed, even if the holder of
 * the key has signed the change (CA-8, CA-12, CA-15).
 *
 *     DOORBELL_TEST_RUNS=10000 npm test -- test/properties     more runs
 */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, cibaEndpoints, isBelieved, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { type Answer, openStage, type Stage } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'

const runs = { numRuns: Number(process.env.DOORBELL_TEST_RUNS ?? 300) }
const secret = newSecret()

let stage: Stage
let key: KeyHolder
let close = () => {}

before(async () => {
  key = await newKey('one')
  const method = (token_endpoint_auth_method: 'private_key_jwt' | 'client_secret_jwt') => ({
    token_endpoint_auth_method,
  })
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: {
      clients: [
        pollClient('signs', { ...method('private_key_jwt'), jwks: { keys: [key.publicJwk] } }),
        pollClient('shares', { ...method('client_secret_jwt'), client_secret: secret }),
      ],
    },
  })
})
after(() => close())

/** How each client signs a given text. */
const signers: Record<string, { alg: string; sign(text: string): Promise<Uint8Array> }> = {
  signs: {
    alg: 'ES256',
    sign: async (text) =>
      new Uint8Array(await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key.privateKey, Buffer.from(text))),
  },
  shares: { alg: 'HS256', sign: async (text) => createHmac('sha256', secret).update(text).digest() },
}

const now = () => Math.floor(stage.clock.now() / 1000)

/** Signs any headers and claims; `undefined` leaves one out. */
async function signed(clientId: string, claims: object = {}, header: object = {}): Promise<string> {
  const { alg, sign } = signers[clientId]!
  const usual = { iss: clientId, sub: clientId, aud: stage.url, jti: newSecret(12), iat: now(), exp: now() + 60 }
  const parts = [
    { alg, ...header },
    { ...usual, ...claims },
  ].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
  return [...parts, Buffer.from(await sign(parts.join('.'))).toString('base64url')].join('.')
}

/**
 * Sends it to either endpoint, with a request that has no other effect: one that does not exist, or one without a hint.
 */
function present(assertion: string, at: number): Promise<Answer> {
  const { path, form } = cibaEndpoints[at % 2]!
  return stage.post(path, { ...form, ...asserted(assertion) })
}

async function assertRefused(assertion: string, at: number): Promise<void> {
  const { status, body, text } = await present(assertion, at)
  assert.deepEqual([status, body.error], [401, 'invalid_client'], `${assertion}: ${text}`)
}

const anything = fc.oneof(fc.jsonValue(), fc.string(), fc.integer(), fc.webUrl())
const at = fc.nat(1)
const isTime = (value: unknown): value is number => typeof value === 'number'
/** Libraries write null for a claim that has no value. */
const isAbsent = (value: unknown) => value === undefined || value === null

/** The values of each claim that are valid. */
const goodClaims: Record<string, (value: unknown, clientId: string) => boolean> = {
  iss: (iss, clientId) => iss === clientId,
  sub: (sub, clientId) => sub === clientId,
  aud: (aud) => [aud].flat().includes(stage.url),
  jti: (jti) => typeof jti === 'string',
  exp: (exp) => isTime(exp) && exp > now() - 10 && exp <= now() + 3610,
  iat: (iat) => isAbsent(iat) || (isTime(iat) && iat <= now() + 10),
  nbf: (nbf) => isAbsent(nbf) || (isTime(nbf) && nbf <= now() + 10),
}

/** Characters that a form can contain and that a lenient parser might accept. */
const letters = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', ...'.=+/ ,;"\\%~{}']

for (const clientId of Object.keys(signers)) {
  describe(`an assertion of ${clientId === 'signs' ? 'private_key_jwt' : 'client_secret_jwt'}`, () => {
    test('is rejected if a character is replaced, removed or added', async () => {
      const assertion = await signed(clientId)
      const before = await countRows(stage)
      const changed = fc.record({
        where: fc.nat(assertion.length - 1),
        cut: fc.constantFrom(0, 1),
        letter: fc.constantFrom('', ...letters),
        at,
      })
      await fc.assert(
        fc.asyncProperty(changed, async ({ where, cut, letter, at }) => {
          const mutated = assertion.slice(0, where) + letter + assertion.slice(where + cut)
          fc.pre(mutated !== assertion)
          await assertRefused(mutated, at)
        }),
        runs,
      )
      assert.deepEqual(await countRows(stage), before, 'nothing of this is stored')
      assert.ok(isBelieved(await present(assertion, 1)), 'it is not marked as used')
    })

    test('is rejected if a claim has an invalid value, even with a valid signature', async () => {
      const names = fc.constantFrom(...Object.keys(goodClaims))
      await fc.assert(
        fc.asyncProperty(names, fc.option(anything, { nil: undefined, freq: 9 }), at, async (name, value, at) => {
          fc.pre(!goodClaims[name]!(value, clientId))
          await assertRefused(await signed(clientId, { [name]: value }), at)
        }),
        runs,
      )
    })

    test('is rejected if a header has an invalid value, even with a valid signature', async () => {
      const { alg } = signers[clientId]!
      const names = fc.constantFrom('alg', 'crit', 'b64')
      await fc.assert(
        fc.asyncProperty(names, fc.oneof(anything, fc.constantFrom(...algs)), at, async (name, value, at) => {
          fc.pre(value !== alg && !(name === 'b64' && value !== false))
          const header = name === 'b64' ? { b64: value, crit: ['b64'] } : { [name]: value }
          await assertRefused(await signed(clientId, {}, header), at)
        }),
        runs,
      )
      assert.ok(isBelieved(await present(await signed(clientId), 1)), 'unchanged it is accepted')
    })

    test('is rejected with the client_id of another client', async () => {
      const other = clientId === 'signs' ? 'shares' : 'signs'
      for (const claims of [{ iss: other }, { sub: other }, { iss: other, sub: other }]) {
        for (const at of [0, 1]) await assertRefused(await signed(clientId, claims), at)
      }
    })
  })
}

const algs = [
  'none',
  'None',
  'HS256',
  'HS384',
  'ES256 ',
  'es256',
  'ES256',
  'ES384',
  'PS256',
  'RS256',
  'EdDSA',
  'ES256K',
]
