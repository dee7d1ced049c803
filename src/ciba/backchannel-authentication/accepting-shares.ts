/**
 * Limits how many requests of one client about one user wait to be stored. Requests about one user are stored one after
 * the other, so that each of them counts the earlier ones. Without this limit, a client with hundreds of calls in
 * progress would delay the requests of other clients about the same user.
 */
import { Bounds } from '../../platform/http/bounds.ts'

/**
 * Maximum number of requests of one client about one user that are being stored, or wait to be stored, in one process.
 */
export const mostOfOnePair = 32

export interface AcceptingShares {
  /**
   * Must be called before a request of the client about the user is stored. Returns a function to call when the request
   * has been stored, or could not be stored.
   *
   * @throws {Overloaded} if `mostOfOnePair` requests of this client about this user are being stored, or wait to be
   *   stored
   */
  enter(clientId: string, userId: string): () => void
}

export function createAcceptingShares(): AcceptingShares {
  const pairs = new Bounds(Number.POSITIVE_INFINITY)
  return { enter: (clientId, userId) => pairs.enter([{ key: `${clientId}\n${userId}`, most: mostOfOnePair }]) }
}
