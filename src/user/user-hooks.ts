/** The hooks of an application, as the rest of the server calls them. */
import type { User, UserHooks } from './user.ts'

/**
 * Returns hooks that call the application's hooks and correct their results. A hook in plain JavaScript may return
 * undefined instead of null, or a value instead of a promise. The returned `find` and `findByHint` always return a
 * promise, which resolves to null if there is no user.
 */
export function createUserHooks(given: UserHooks): UserHooks {
  const { verifyPassword, verifyUserCode, notify, notifyAccount } = given
  return {
    find: async (id) => orNull(await given.find(id)),
    findByHint: async (hint, client) => orNull(await given.findByHint(hint, client)),
    // Each hook is called as a method of the application's object.
    ...(verifyPassword && { verifyPassword: verifyPassword.bind(given) }),
    ...(verifyUserCode && { verifyUserCode: verifyUserCode.bind(given) }),
    ...(notify && { notify: notify.bind(given) }),
    ...(notifyAccount && { notifyAccount: notifyAccount.bind(given) }),
  }
}

const orNull = (user: User | null | undefined): User | null => user || null
