/** The provider's signing keys: made on first start, kept sealed, the public halves published at `jwks_uri`. */
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import type { Clock } from '../clock.ts'
import type { Vault } from '../secret.ts'
import type { SigningKeyStore } from './signing-key-store.ts'

/** RS256 is made too because every OpenID client may ask for it (DM-6); the RSA key serves PS256 as well. */
const algorithms = ['ES256', 'RS256'] as const

export interface SigningKeys {
  /** For signing: private keys, the newest of each algorithm first. */
  private: JWK[]
  /** For verifying, retired keys included. */
  public: JWK[]
}

/** Reads the keys, making the first of each algorithm if there is none. Safe on several nodes at once. */
export async function loadSigningKeys(needs: {
  keys: SigningKeyStore
  vault: Vault
  clock: Clock
}): Promise<SigningKeys> {
  const { keys, vault, clock } = needs
  const known = await keys.list()
  for (const algorithm of algorithms) {
    if (!known.some((key) => key.algorithm === algorithm)) await makeFirst(algorithm, needs)
  }
  const kept = await keys.list()
  return {
    public: kept.map((key) => JSON.parse(key.publicJwk) as JWK),
    private: kept
      .filter((key) => key.retiredAt === undefined || key.retiredAt > clock.now())
      .map((key) => JSON.parse(vault.open(key.privateSealed, keyPlace(key.kid))) as JWK),
  }
}

/** Where a private key lies sealed, so that it opens nowhere else. */
export const keyPlace = (kid: string) => `signing_keys/${kid}`

async function makeFirst(
  algorithm: (typeof algorithms)[number],
  { keys, vault, clock }: { keys: SigningKeyStore; vault: Vault; clock: Clock },
): Promise<void> {
  const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: 2048 })
  const kid = await calculateJwkThumbprint(await exportJWK(pair.publicKey))
  // The RSA key names no algorithm, so that a client may choose RS256 or PS256.
  const marks = { kid, use: 'sig', ...(algorithm === 'ES256' && { alg: algorithm }) }
  await keys.add({
    kid,
    algorithm,
    generation: 1,
    publicJwk: JSON.stringify({ ...(await exportJWK(pair.publicKey)), ...marks }),
    privateSealed: vault.seal(JSON.stringify({ ...(await exportJWK(pair.privateKey)), ...marks }), keyPlace(kid)),
    createdAt: clock.now(),
  })
}
