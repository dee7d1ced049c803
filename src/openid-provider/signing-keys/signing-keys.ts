/**
 * The provider's signing keys. The server generates them, stores them encrypted, and publishes the public keys at
 * `jwks_uri`. A key is first published, then signs, is then retired and finally removed (docs/operating.md). The state
 * of a key follows from its times and the clock.
 */
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { KeptKey, NewKey, SigningKeyStore } from './signing-key-store.ts'

/** OpenID Connect Discovery §3 requires RS256. The RSA key is also used for PS256. */
export const keyAlgorithms = ['ES256', 'RS256'] as const
export type KeyAlgorithm = (typeof keyAlgorithms)[number]

/**
 * `published`: the key is in the key set but does not sign yet, so that clients can fetch it in time. `signing`: the
 * key signs. `retired`: the key no longer signs, but stays in the key set until everything that it signed has expired.
 * `unpublished`: the key only verifies `id_token_hint`. `removed`, `revoked`: the key is not used.
 */
export type KeyState = 'published' | 'signing' | 'retired' | 'unpublished' | 'removed' | 'revoked'

export interface SigningKeys {
  /** For oidc-provider: all keys in use. The signing key comes first among the keys of its algorithm. */
  private: JWK[]
  /**
   * Published at `jwks_uri`: the signing keys, the next keys, and the retired keys. A key stays retired until the last
   * token that it signed has expired.
   */
  published: JWK[]
  /** The public keys that verify an `id_token_hint`: those of all keys in use. */
  public: JWK[]
}

export interface KeyNeeds {
  keys: SigningKeyStore
  vault: Vault
  clock: Clock
}

/**
 * Resolves to the keys. Generates a key for each algorithm for which no key signs now or later. Several nodes may call
 * this function at the same time.
 */
export async function loadSigningKeys(needs: KeyNeeds): Promise<SigningKeys> {
  return signingKeysAt(await listKeys(needs), needs.clock.now(), needs.vault)
}

/** Like `loadSigningKeys`, but resolves to the keys in the form in which they are stored. */
export async function listKeys({ keys, vault, clock }: KeyNeeds): Promise<KeptKey[]> {
  const kept = await keys.list()
  const missing = keyAlgorithms.filter((algorithm) => !kept.some((key) => willSign(key, algorithm, clock.now())))
  if (missing.length === 0) return kept
  for (const algorithm of missing) {
    // No key of this algorithm exists that signs now or later. So the new key signs at once, without waiting until
    // clients have fetched it.
    const now = clock.now()
    await keys.add(
      await makeKey({ algorithm, generation: nextGeneration(kept, algorithm), now, signsFrom: now }, vault),
    )
  }
  return keys.list()
}

/** Returns the keys in use at `now` (milliseconds since 1970), decrypted, in the order that oidc-provider needs. */
export function signingKeysAt(kept: KeptKey[], now: number, vault: Vault): SigningKeys {
  const standing = kept.map((key) => ({ key, state: stateOf(key, now) }))
  const inOrder = useful.flatMap((wanted) => standing.filter(({ state }) => state === wanted))
  return {
    private: inOrder.map(({ key }) => JSON.parse(vault.open(key.privateSealed!, signingKeyAad(key.kid))) as JWK),
    published: inOrder.filter(({ state }) => state !== 'unpublished').map(({ key }) => publicHalf(key)),
    public: inOrder.map(({ key }) => publicHalf(key)),
  }
}

/**
 * The states of keys in use, in the order in which oidc-provider gets the keys. oidc-provider signs with the first key
 * of an algorithm. If the clock of this node is behind that of another node, it can happen that no key has the state
 * `signing`. The first key is then the `published` key that will sign next.
 */
export const useful: readonly KeyState[] = ['signing', 'published', 'retired', 'unpublished']

/** Returns the state of a key at `now`, in milliseconds since 1970. */
export function stateOf({ signsFrom, retirement, revokedAt }: KeptKey, now: number): KeyState {
  if (revokedAt !== undefined) return 'revoked'
  if (now < signsFrom) return 'published'
  if (retirement === undefined || now < retirement.at) return 'signing'
  if (now < retirement.publishedUntil) return 'retired'
  return now < retirement.verifiesUntil ? 'unpublished' : 'removed'
}

/**
 * Returns the earliest future time at which the state of one of the keys changes, in milliseconds since 1970. Undefined
 * if no state will change.
 */
export function nextRotationAt(kept: KeptKey[], now: number): number | undefined {
  const turns = kept.flatMap(({ signsFrom, retirement }) => [signsFrom, ...Object.values(retirement ?? {})])
  const coming = turns.filter((time) => time > now)
  return coming.length === 0 ? undefined : Math.min(...coming)
}

/** Returns the number of the next generation of an algorithm. The first number is 1. */
export function nextGeneration(kept: KeptKey[], algorithm: KeyAlgorithm): number {
  return Math.max(0, ...kept.filter((key) => key.algorithm === algorithm).map(({ generation }) => generation)) + 1
}

/**
 * Returns the additional authenticated data of an encrypted private key. It contains the key id, so that the encrypted
 * key is useless in another row.
 */
export const signingKeyAad = (kid: string) => `signing_keys/${kid}`

/** Generates a key pair, and encrypts the private key. Stores nothing. */
export async function makeKey(
  wanted: { algorithm: KeyAlgorithm; generation: number; now: number; signsFrom: number },
  vault: Vault,
): Promise<NewKey> {
  const { algorithm, generation, now, signsFrom } = wanted
  const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: 2048 })
  const kid = await calculateJwkThumbprint(await exportJWK(pair.publicKey))
  // The JWK of the RSA key has no `alg`, so that a client may choose RS256 or PS256.
  const marks = { kid, use: 'sig', ...(algorithm === 'ES256' && { alg: algorithm }) }
  return {
    kid,
    algorithm,
    generation,
    publicJwk: JSON.stringify({ ...(await exportJWK(pair.publicKey)), ...marks }),
    privateSealed: vault.seal(JSON.stringify({ ...(await exportJWK(pair.privateKey)), ...marks }), signingKeyAad(kid)),
    createdAt: now,
    signsFrom,
  }
}

function willSign(key: KeptKey, algorithm: KeyAlgorithm, now: number): boolean {
  return key.algorithm === algorithm && ['published', 'signing'].includes(stateOf(key, now))
}

function publicHalf({ publicJwk }: KeptKey): JWK {
  return JSON.parse(publicJwk) as JWK
}
