/**
 * Limits how many requests of one client about one user are stored at the same time. These requests are stored one after
 * the other, so that each of them counts the earlier ones. Without this limit, a client with hundreds of calls in progress
 * would delay the requests of other clients about the same user.
 */
import { Overloaded } from '../../platform/http/unavailable.ts'

/** Maximum number of requests of one client about one user that are being stored, or wait for that, in one process. */
export const mostOfOnePair = 32

export interface AcceptingShares {
  /**
   * Must be called before a request of the client about the user is stored. Returns the key to pass to `leave`.
   *
   * @throws {Overloaded} if `mostOfOnePair` requests of this client about this user are being stored
   */
  enter(clientId: string, userId: string): string
  /** Must be called when the request has been stored, or could not be stored. */
  leave(key: string): void
}

export function createAcceptingShares(): AcceptingShares {
  const counts = new Map<string, number>()

  return {
    enter(clientId, userId) {
      const key = `${clientId}\n${userId}`
      const count = counts.get(key) ?? 0
      if (count >= mostOfOnePair) throw new Overloaded()
      counts.set(key, count + 1)
      return key
    },
    leave(key) {
      const count = counts.get(key)!
      if (count === 1) counts.delete(key)
      else counts.set(key, count - 1)
    },
  }
}
