/** The hooks of an application, as the rest of the server calls them. */
import type { User, UserHooks } from './user.ts'
import { isUserId } from './user-id.ts'

/**
 * Returns hooks that call the application's hooks and correct their results. A hook in plain JavaScript may return
 * undefined instead of null, or a value instead of a promise. The returned `find` and `findByHint` always return a
 * promise, which resolves to null if there is no user, and rejects if the user's id cannot be one.
 */
export function createUserHooks(given: UserHooks): UserHooks {
  const { verifyPassword, verifyUserCode, notify, notifyAccount } = given
  return {
    find: async (id) => foundBy('find', await given.find(id)),
    findByHint: async (hint, client) => foundBy('findByHint', await given.findByHint(hint, client)),
    // Each hook is called as a method of the application's object.
    ...(verifyPassword && { verifyPassword: verifyPassword.bind(given) }),
    ...(verifyUserCode && { verifyUserCode: verifyUserCode.bind(given) }),
    ...(notify && { notify: notify.bind(given) }),
    ...(notifyAccount && { notifyAccount: notifyAccount.bind(given) }),
  }
}

/**
 * Checks the id, because a number, as databases return it, would never equal a subject (`sub`) of a token.
 *
 * @throws TypeError if the user has no valid id; the message says what the hook has to return
 */
function foundBy(hook: 'find' | 'findByHint', user: User | null | undefined): User | null {
  if (!user) return null
  const { id } = user as { id?: unknown }
  if (isUserId(id)) return user
  const found = typeof id === 'string' ? 'not valid' : `of type ${id === null ? 'null' : typeof id}`
  const advice = typeof id === 'number' || typeof id === 'bigint' ? '; return String(id)' : ''
  throw new TypeError(
    `users.${hook} returned a user whose id is ${found}. The id must be a string of 1 to 255 ASCII characters without spaces${advice}.`,
  )
}
