/** Checks passwords: by the built-in directory, or by an application's own hook. */

import { sameSecret } from '../../platform/crypto.ts'
import type { ConfiguredUser, User, UserHooks } from '../user.ts'
import type { UserStore } from '../user-store.ts'
import { type PasswordHashing, passwordOf } from './password-hashing.ts'

/** @param user undefined if the name is unknown: the same work is then done, and the result is false */
export type CheckPassword = (user: User | undefined, password: string) => Promise<boolean>

/** Returns the check for the built-in directory: passwords in the configuration, and hashes of users added by command. */
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
    // Done even if the user is unknown: the time must not reveal which names exist.
    const { matches, stronger } = await hashing.verify(password, hash, passwordOf(id))
    if (plain !== undefined) return sameSecret(plain.normalize('NFKC'), password.normalize('NFKC'))
    if (stronger !== undefined) await users.replacePasswordHash(id, hash!, stronger)
    return matches
  }
}

/** Returns the check by the application's hook, or undefined if the application has no such hook. */
export function passwordCheckOfHook(users: UserHooks): CheckPassword | undefined {
  if (users.verifyPassword === undefined) return undefined
  return async (user, password) => (await users.verifyPassword?.(user ?? { id: '' }, password)) === true
}
