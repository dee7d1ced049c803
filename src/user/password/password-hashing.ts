/**
 * Hashing of passwords and user codes.
 *
 * First comes an HMAC with a key derived from the configured secret, then scrypt. A reader of the database without the secret
 * cannot test a single guess, not even at a code of four digits; with the secret, each guess costs a scrypt computation.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Vault } from '../../platform/crypto.ts'
import { base64, type PasswordHash, readPasswordHash, writePasswordHash } from './password-hash.ts'
import { HASH_BYTES, type Scrypt, type ScryptCost, STANDARD_COST, workOf } from './scrypt.ts'

export interface PasswordHashing {
  /** @param of owner and kind of the value, made by `passwordOf` or `userCodeOf`: moved elsewhere, a hash matches nothing */
  hash(password: string, of: string): Promise<string>
  /** Without a hash it does the same work and finds no match. */
  verify(password: string, hash: string | undefined, of: string): Promise<Verified>
}

export interface Verified {
  matches: boolean
  /** A hash to replace the one that matched, where that was made without the key or at a lower cost. */
  stronger?: string
}

export interface HashingNeeds {
  vault: Pick<Vault, 'key'>
  scrypt: Scrypt
  /** The cost of new hashes. */
  cost?: ScryptCost
}

/** Owner and kind for `hash` and `verify`: a password. */
export const passwordOf = (userId: string) => `password of ${userId}`
/** Owner and kind for `hash` and `verify`: a user code. */
export const userCodeOf = (userId: string) => `user code of ${userId}`

export function createPasswordHashing({ vault, scrypt, cost = STANDARD_COST }: HashingNeeds): PasswordHashing {
  const key = vault.key('passwords')
  const keyId = base64(createHmac('sha256', key).update('key id').digest().subarray(0, 6))

  /** Returns the input of scrypt. In Unicode's NFKC form, so that the same characters from any keyboard are equal. */
  function secretOf(password: string, of: string, keyUsed: string | undefined): Uint8Array {
    const text = Buffer.from(password.normalize('NFKC'))
    if (keyUsed === undefined) return text
    // The digest of the name has a fixed length, so no password can imitate a part of it.
    return createHmac('sha256', key).update(createHmac('sha256', key).update(of).digest()).update(text).digest()
  }

  /** A cheaper hash takes as long as one of today's cost: the time must not reveal whose password is old. */
  async function makeUpFor(cheaper: ScryptCost, secret: Uint8Array): Promise<void> {
    const p = Math.floor((workOf(cost) - workOf(cheaper)) / (cheaper.N * cheaper.r))
    if (p > 0) await scrypt({ secret, salt: noSalt, cost: { ...cheaper, p } })
  }

  async function hash(password: string, of: string): Promise<string> {
    const salt = Uint8Array.from(randomBytes(16))
    const hash = await scrypt({ secret: secretOf(password, of, keyId), salt, cost })
    return writePasswordHash({ cost, keyId, salt, hash })
  }

  return {
    hash,
    async verify(password, text, of) {
      const kept = readPasswordHash(text) ?? noHash(cost, keyId)
      const secret = secretOf(password, of, kept.keyId)
      const computed = await scrypt({ secret, salt: kept.salt, cost: kept.cost })
      await makeUpFor(kept.cost, secret)
      if (!timingSafeEqual(computed, kept.hash)) return { matches: false }
      const isOfToday = kept.keyId === keyId && workOf(kept.cost) >= workOf(cost)
      return isOfToday ? { matches: true } : { matches: true, stronger: await hash(password, of) }
    },
  }
}

const noSalt = new Uint8Array(16)

/** Matches no password: 256 random bits that no computation returns. */
function noHash(cost: ScryptCost, keyId: string): PasswordHash {
  return { cost, keyId, salt: noSalt, hash: Uint8Array.from(randomBytes(HASH_BYTES)) }
}
