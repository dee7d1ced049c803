/**
 * Limits the calls in progress of one user. All calls of a process share the connections of the database. So a user
 * with hundreds of calls in progress would delay the calls of clients and of other users.
 */
import { Overloaded } from '../../platform/http/unavailable.ts'

/**
 * Maximum number of calls in progress of one user. This is enough, because a user has only a few devices, and a page
 * makes only a few calls at once.
 */
export const mostOfOneUser = 32

export interface UserShares {
  /**
   * Runs `work`. The call counts as in progress for the key until `work` has settled, even if the caller disconnects.
   *
   * @throws {Overloaded} if the key already has `most` calls in progress. In this case `work` does not run
   */
  within<Result>(key: string, work: () => Promise<Result>): Promise<Result>
}

export function createUserShares(most = mostOfOneUser): UserShares {
  /** The number of calls in progress, by key. */
  const inProgress = new Map<string, number>()

  return {
    async within(key, work) {
      const others = inProgress.get(key) ?? 0
      if (others >= most) throw new Overloaded()
      inProgress.set(key, others + 1)
      try {
        return await work()
      } finally {
        const left = inProgress.get(key)! - 1
        if (left === 0) inProgress.delete(key)
        else inProgress.set(key, left)
      }
    },
  }
}
