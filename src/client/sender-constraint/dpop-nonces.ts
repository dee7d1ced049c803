/** Nonces for DPoP proofs (RFC 9449 §8): made from the time and a key that all nodes have, so that none is kept. */
import { hkdfSync } from 'node:crypto'
import type { Clock } from '../../platform/clock.ts'
import { sameSecret } from '../../platform/crypto.ts'

export interface Nonces {
  /** What the next proof is to say. Good for at least three minutes. */
  next(): string
  isGood(nonce: unknown): boolean
}

/** Milliseconds. */
const step = 60_000

/**
 * The derivation is that of oidc-provider, which is given the same key: a nonce from one endpoint is good at all others.
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
