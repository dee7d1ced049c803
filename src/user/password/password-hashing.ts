/**
 * Hashing of passwords and user codes.
 *
 * First an HMAC of the value is computed, with a key that is derived from the setting `secret`. Then scrypt is computed
 * from this HMAC. An attacker who can read the database but does not have `secret` cannot test any guess, not even at a
 * code of four digits. If the attacker also has `secret`, each guess takes one scrypt computation.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Vault } from '../../platform/crypto.ts'
import { base64, type PasswordHash, readPasswordHash, writePasswordHash } from './password-hash.ts'
import { HASH_BYTES, type Scrypt, type ScryptCost, STANDARD_COST, workOf } from './scrypt.ts'

export interface PasswordHashing {
  /**
   * @param of the owner and the kind of the value, from `passwordOf` or `userCodeOf`. The hash depends on this value,
   *   so a hash that an attacker copies to another row matches nothing
   */
  hash(password: string, of: string): Promise<string>
  /** Compares a password with a hash. If there is no hash, does the same work, and the result is no match. */
  verify(password: string, hash: string | undefined, of: string): Promise<Verified>
}

export interface Verified {
  matches: boolean
  /**
   * A new hash to replace the hash that matched. Set only if the hash that matched was made without the current key or
   * at a lower cost.
   */
  stronger?: string
}

export interface HashingNeeds {
  vault: Pick<Vault, 'key'>
  scrypt: Scrypt
  /** The cost of new hashes. */
  cost?: ScryptCost
}

/** For tests: replaces the hashing of passwords and user codes, for instance by a cheap or a delayed hash. */
export interface PasswordParts extends Partial<Pick<HashingNeeds, 'cost' | 'scrypt'>> {
  /** How many hashes are computed at the same time. */
  atOnce?: number
}

/** Returns owner and kind of a password, for the parameter `of`. */
export const passwordOf = (userId: string) => `password of ${userId}`
/** Returns owner and kind of a user code, for the parameter `of`. */
export const userCodeOf = (userId: string) => `user code of ${userId}`

export function createPasswordHashing({ vault, scrypt, cost = STANDARD_COST }: HashingNeeds): PasswordHashing {
  const key = vault.key('passwords')
  const keyId = base64(createHmac('sha256', key).update('key id').digest().subarray(0, 6))

  /**
   * Returns the input of scrypt. It is computed from the password in Unicode NFKC, so that the same characters from
   * different keyboards are equal.
   */
  function secretOf(password: string, of: string, keyUsed: string | undefined): Uint8Array {
    const text = Buffer.from(password.normalize('NFKC'))
    if (keyUsed === undefined) return text
    // The digest of `of` has a fixed length, so no password can be mistaken for a part of `of`.
    return createHmac('sha256', key).update(createHmac('sha256', key).update(of).digest()).update(text).digest()
  }

  /**
   * Does additional work after a hash with a lower cost was checked, so that every verification takes as long as with
   * the current cost. Without this work, the response time would reveal which users have an old hash.
   */
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
      const isUpToDate = kept.keyId === keyId && workOf(kept.cost) >= workOf(cost)
      return isUpToDate ? { matches: true } : { matches: true, stronger: await hash(password, of) }
    },
  }
}

const noSalt = new Uint8Array(16)

/**
 * Returns random bytes in the form of a hash, which no password matches. It is used for users without a hash, so that
 * the work is the same for all users.
 */
function noHash(cost: ScryptCost, keyId: string): PasswordHash {
  return { cost, keyId, salt: noSalt, hash: Uint8Array.from(randomBytes(HASH_BYTES)) }
}
