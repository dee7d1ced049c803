/**
 * The provider's signing keys: made by the server itself, kept sealed, the public halves published at `jwks_uri`. A key
 * is published, signs, is retired and goes (docs/operating.md); its times and the clock say where it stands.
 */
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { KeptKey, NewKey, SigningKeyStore } from './signing-key-store.ts'

/** RS256 is made too because every OpenID client may ask for it (DM-6); the RSA key serves PS256 as well. */
export const keyAlgorithms = ['ES256', 'RS256'] as const
export type KeyAlgorithm = (typeof keyAlgorithms)[number]

/**
 * `published`: in the key set, to be known when it begins to sign. `signing`. `retired`: in the key set until what it
 * signed has run out. `unpublished`: it verifies ID tokens given as hints, and nothing else. `removed`, `revoked`: nothing.
 */
export type KeyState = 'published' | 'signing' | 'retired' | 'unpublished' | 'removed' | 'revoked'

export interface SigningKeys {
  /** For oidc-provider: all that are good for anything, and of each algorithm the one that signs first. */
  private: JWK[]
  /** What `jwks_uri` shows: the one that signs, the next one, and those whose tokens have not run out. */
  published: JWK[]
  /** For verifying `id_token_hint`s (SC-6). */
  public: JWK[]
}

export interface KeyNeeds {
  keys: SigningKeyStore
  vault: Vault
  clock: Clock
}

/** Reads the keys, making one of each algorithm that nothing signs with. Safe on several nodes at once. */
export async function loadSigningKeys(needs: KeyNeeds): Promise<SigningKeys> {
  return signingKeysAt(await listKeys(needs), needs.clock.now(), needs.vault)
}

/** The same, as they are kept. */
export async function listKeys({ keys, vault, clock }: KeyNeeds): Promise<KeptKey[]> {
  const kept = await keys.list()
  const missing = keyAlgorithms.filter((algorithm) => !kept.some((key) => willSign(key, algorithm, clock.now())))
  if (missing.length === 0) return kept
  for (const algorithm of missing) {
    // Nobody can have fetched the key set of a provider that cannot sign, so nobody has to wait.
    const now = clock.now()
    await keys.add(
      await makeKey({ algorithm, generation: nextGeneration(kept, algorithm), now, signsFrom: now }, vault),
    )
  }
  return keys.list()
}

export function signingKeysAt(kept: KeptKey[], now: number, vault: Vault): SigningKeys {
  const standing = kept.map((key) => ({ key, state: stateOf(key, now) }))
  const inOrder = useful.flatMap((wanted) => standing.filter(({ state }) => state === wanted))
  return {
    private: inOrder.map(({ key }) => JSON.parse(vault.open(key.privateSealed!, signingKeyAad(key.kid))) as JWK),
    published: inOrder.filter(({ state }) => state !== 'unpublished').map(({ key }) => publicHalf(key)),
    public: inOrder.map(({ key }) => publicHalf(key)),
  }
}

/** What is good for something. Of several keys oidc-provider signs with the first: with the next, while our clock is behind. */
export const useful: readonly KeyState[] = ['signing', 'published', 'retired', 'unpublished']

export function stateOf({ signsFrom, retirement, revokedAt }: KeptKey, now: number): KeyState {
  if (revokedAt !== undefined) return 'revoked'
  if (now < signsFrom) return 'published'
  if (retirement === undefined || now < retirement.at) return 'signing'
  if (now < retirement.publishedUntil) return 'retired'
  return now < retirement.verifiesUntil ? 'unpublished' : 'removed'
}

/** When the next of these keys becomes something else by the clock alone. */
export function nextTurn(kept: KeptKey[], now: number): number | undefined {
  const turns = kept.flatMap(({ signsFrom, retirement }) => [signsFrom, ...Object.values(retirement ?? {})])
  const coming = turns.filter((time) => time > now)
  return coming.length === 0 ? undefined : Math.min(...coming)
}

export function nextGeneration(kept: KeptKey[], algorithm: KeyAlgorithm): number {
  return Math.max(0, ...kept.filter((key) => key.algorithm === algorithm).map(({ generation }) => generation)) + 1
}

/** Where a private key lies sealed, so that it opens nowhere else. */
export const signingKeyAad = (kid: string) => `signing_keys/${kid}`

export async function makeKey(
  wanted: { algorithm: KeyAlgorithm; generation: number; now: number; signsFrom: number },
  vault: Vault,
): Promise<NewKey> {
  const { algorithm, generation, now, signsFrom } = wanted
  const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: 2048 })
  const kid = await calculateJwkThumbprint(await exportJWK(pair.publicKey))
  // The RSA key names no algorithm, so that a client may choose RS256 or PS256.
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
