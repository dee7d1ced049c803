/** Checks passwords: by the built-in directory, or by an application's own hook. */

import { sameSecret } from '../../platform/crypto.ts'
import type { ConfiguredUser, User, UserHooks } from '../user.ts'
import type { UserStore } from '../user-store.ts'
import { type PasswordHashing, passwordOf } from './password-hashing.ts'

/**
 * Resolves to whether the password is right.
 *
 * @param user undefined if the name is unknown. In that case the same work is done, and the result is false
 */
export type CheckPassword = (user: User | undefined, password: string) => Promise<boolean>

/**
 * Returns the password check of the built-in directory. It compares a password with the configuration or, for a user
 * who was added by command, with the stored hash.
 */
export function createPasswordCheck(
  configured: readonly ConfiguredUser[],
  users: Pick<UserStore, 'find' | 'replacePasswordHash'>,
  hashing: Pick<PasswordHashing, 'verify'>,
): CheckPassword {
  const fromConfiguration = new Map(configured.map(({ id, password }) => [id, password]))
  return async (user, password) => {
    const id = user?.id ?? ''
    const kept = await users.find(id)
    const plain = fromConfiguration.get(id)
    const hash = plain === undefined ? kept?.passwordHash : undefined
    // The hash is computed even if the user is unknown, so that the response time does not reveal which names exist.
    const { matches, stronger } = await hashing.verify(password, hash, passwordOf(id))
    if (plain !== undefined) return sameSecret(plain.normalize('NFKC'), password.normalize('NFKC'))
    if (stronger !== undefined) await users.replacePasswordHash(id, hash!, stronger)
    return matches
  }
}

/**
 * Returns a password check that calls `verifyPassword`, the hook of the application, or undefined if there is no such
 * hook.
 */
export function passwordCheckOfHook(users: UserHooks): CheckPassword | undefined {
  if (users.verifyPassword === undefined) return undefined
  return async (user, password) => (await users.verifyPassword?.(user ?? { id: '' }, password)) === true
}
