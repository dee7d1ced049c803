/**
 * Changes of a user's requests are announced to all nodes (`NOTIFY` on Postgres) with a key of the user. So only the
 * listeners for this user read the requests again. The key is a hash of a secret and the user id. The user id itself is
 * not announced, because it can be an e-mail address: every database role that may connect can receive announcements.
 */
import { hash } from 'node:crypto'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { Change, Database } from '../../platform/storage/database.ts'

/** The topic under which changes of a user's requests are announced, with the key from `createUserKey`. */
export const USER_REQUESTS = 'user_requests'

/** The topic under which the end of a user's sessions is announced, with the key from `createUserKey`. */
const USER_SESSIONS = 'user_sessions'

/**
 * Returns the announcements to make when a user's session ends. The topic `user_requests` is for nodes of earlier
 * versions, which do not listen to `user_sessions`.
 */
export const sessionsEnded = (key: string): Change[] => [
  { topic: USER_SESSIONS, key },
  { topic: USER_REQUESTS, key },
]

/**
 * Calls `listener` with the key of a user when a session of the user has ended, or with '' if announcements may have
 * been missed. On SQLite, changes by other processes, such as commands, are not announced. So `listener` is also called
 * with '' within `foreignChangesMs` after another process has written to the database. Returns a function that stops
 * listening.
 */
export function onSessionsEnded(
  database: Pick<Database, 'listen' | 'epoch'>,
  clock: Pick<Clock, 'after'>,
  listener: (key: string) => void,
): () => void {
  const stopListening = database.listen(USER_SESSIONS, listener)
  let { epoch } = database
  let cancel = clock.after(foreignChangesMs, check)
  function check(): void {
    const { epoch: now } = database
    if (now !== undefined && now !== epoch) {
      epoch = now
      listener('')
    }
    cancel = clock.after(foreignChangesMs, check)
  }
  return () => {
    cancel()
    stopListening()
  }
}

/** Milliseconds between two checks whether another process has written to the database. */
const foreignChangesMs = 2_000

/**
 * Length of a key in base64url characters of 6 bits. Keys are short, because each announcement contains one. With 132
 * bits, it is practically impossible that two users have the same key.
 */
const keyLength = 22

export type UserKey = ReturnType<typeof createUserKey>

/**
 * Returns the function that makes the key of a user. Changes of the user's requests are announced with this key. All
 * nodes make the same key for a user. Every request needs a key, so the function must be fast: a hash of the secret and
 * the user id takes 0.7 µs, an HMAC takes 2.5 µs. A length-extension attack is not possible, because it needs all 256
 * bits of the hash, and the key contains only 132 bits.
 */
export function createUserKey(vault: Vault) {
  const secret = vault.key('announcements of users').toString('base64url')
  return (userId: string): string => hash('sha256', secret + userId, 'base64url').slice(0, keyLength)
}
