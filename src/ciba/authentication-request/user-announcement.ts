/**
 * Changes of a user's requests are announced by user, so that only listeners for this user read the requests again. Every
 * role that may connect to the database may listen too, and a user id can be an e-mail address: so the key is a keyed hash.
 */
import { hash } from 'node:crypto'
import type { Vault } from '../../platform/crypto.ts'

/** The topic. Its keys are made from user ids by `createUserKey`. */
export const USER_REQUESTS = 'user_requests'

/** Characters of a key, of 6 bits each. As each announcement contains a key, it is only as long as collisions require. */
const keyLength = 22

export type UserKey = ReturnType<typeof createUserKey>

/**
 * Returns a function from a user id to the key under which changes of the user's requests are announced. All nodes make
 * the same keys. Every request needs one, and a hash that begins with a secret takes less than a third of the time of an
 * HMAC (0.7 to 2.5 µs). A length-extension attack would need the whole hash; the key is only half of it.
 */
export function createUserKey(vault: Vault) {
  const secret = vault.key('announcements of users').toString('base64url')
  return (userId: string): string => hash('sha256', secret + userId, 'base64url').slice(0, keyLength)
}
