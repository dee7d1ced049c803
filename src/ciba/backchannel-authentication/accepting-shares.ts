/**
 * Limits how many requests of one client about one user are stored at the same time. These requests are stored one after
 * the other, so that each of them counts the earlier ones. Without this limit, a client with hundreds of calls in progress
 * would delay the requests of other clients about the same user.
 */
import { Bounds } from '../../platform/http/bounds.ts'

/** Maximum number of requests of one client about one user that are being stored, or wait for that, in one process. */
export const mostOfOnePair = 32

export interface AcceptingShares {
  /**
   * Runs `work`, which stores a request of the client about the user.
   *
   * @throws {Overloaded} if `mostOfOnePair` requests of this client about this user are being stored. Then `work` does not
   *   run
   */
  within<Result>(clientId: string, userId: string, work: () => Promise<Result>): Promise<Result>
}

export function createAcceptingShares(): AcceptingShares {
  const pairs = new Bounds(Number.POSITIVE_INFINITY)

  return {
    async within(clientId, userId, work) {
      const leave = pairs.enter([{ key: JSON.stringify([clientId, userId]), most: mostOfOnePair }])
      try {
        return await work()
      } finally {
        leave()
      }
    },
  }
}
