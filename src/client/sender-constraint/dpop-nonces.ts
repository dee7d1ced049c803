/**
 * Nonces for DPoP proofs (RFC 9449 §8). They are derived from the time and from a key that all nodes share, so no nonce
 * is stored.
 */
import { hkdfSync } from 'node:crypto'
import type { Clock } from '../../platform/clock.ts'
import { sameSecret } from '../../platform/crypto.ts'

export interface Nonces {
  /** Returns the nonce for the next proof. The nonce is valid for at least three minutes. */
  next(): string
  /** Whether the nonce is valid now. */
  isGood(nonce: unknown): boolean
}

/** Milliseconds for which the same nonce is issued. */
const step = 60_000

/**
 * Returns the nonces of this server. They are derived in the same way and from the same key as those of oidc-provider,
 * so a nonce from one endpoint is valid at all endpoints.
 *
 * @param key 32 bytes
 */
export function createNonces(key: Buffer, clock: Clock): Nonces {
  const stepNow = () => Math.floor(clock.now() / step)

  function nonceOf(step: number): string {
    const salt = Buffer.alloc(8)
    salt.writeBigUInt64BE(BigInt(step))
    return Buffer.from(hkdfSync('sha256', key, salt, 'DPoP', 32)).toString('base64url')
  }

  return {
    next: () => nonceOf(stepNow() + 1),
    isGood(nonce) {
      if (typeof nonce !== 'string') return false
      const now = stepNow()
      return [-2, -1, 0, 1, 2].map((away) => sameSecret(nonceOf(now + away), nonce)).includes(true)
    },
  }
}
