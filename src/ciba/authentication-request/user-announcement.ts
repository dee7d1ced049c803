/**
 * Changes of a user's requests are announced with a key of the user, so that only listeners for this user read the
 * requests again. The key is a hash of a secret and the user id, because a user id can be an e-mail address and every
 * role that may connect to the database can receive announcements.
 */
import { hash } from 'node:crypto'
import type { Vault } from '../../platform/crypto.ts'

/** The topic. Its keys are made from user ids by `createUserKey`. */
export const USER_REQUESTS = 'user_requests'

/**
 * Length of a key in characters of 6 bits. Keys are part of announcements, so they are short; their 132 bits are enough to
 * make collisions negligible.
 */
const keyLength = 22

export type UserKey = ReturnType<typeof createUserKey>

/**
 * Returns a function from a user id to the key under which changes of the user's requests are announced. All nodes make
 * the same keys. Every request needs a key, so speed matters: a hash that begins with a secret takes 0.7 µs, an HMAC
 * 2.5 µs. A length-extension attack is not possible, because it needs the whole hash and the key is only half of it.
 */
export function createUserKey(vault: Vault) {
  const secret = vault.key('announcements of users').toString('base64url')
  return (userId: string): string => hash('sha256', secret + userId, 'base64url').slice(0, keyLength)
}
