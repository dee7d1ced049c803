/**
 * Remembers the user of each token and code that this process has issued or found. A call with such a token counts for
 * the limits of this user from the start. If the call counted as anonymous until the token is looked up, it would be
 * refused whenever all slots for anonymous calls are taken. A remembered token gives no access by itself. Each token is
 * still looked up in the database, because it may be revoked or expired.
 */

/**
 * Maximum number of remembered tokens of all users. Beyond this number, the token that was used longest ago is
 * forgotten.
 */
const mostTokens = 20_000
/** Maximum number of remembered tokens of one user, so that one user cannot displace the tokens of all others. */
const mostOfUser = 20

export interface KnownTokens {
  /** Returns the user of the token with this hash, or undefined if the token is not remembered here. */
  userOf(tokenHash: string): string | undefined
  add(tokenHash: string, userId: string): void
}

export function createKnownTokens(): KnownTokens {
  const users = new Map<string, string>()
  const tokens = new Map<string, Set<string>>()

  function forget(tokenHash: string): void {
    const userId = users.get(tokenHash)
    if (userId === undefined) return
    users.delete(tokenHash)
    const theirs = tokens.get(userId)!
    theirs.delete(tokenHash)
    if (theirs.size === 0) tokens.delete(userId)
  }

  const oldestOf = (entries: Iterable<string>): string => entries[Symbol.iterator]().next().value!

  return {
    userOf: (tokenHash) => users.get(tokenHash),
    add(tokenHash, userId) {
      forget(tokenHash)
      const theirs = tokens.get(userId)
      if (theirs !== undefined && theirs.size >= mostOfUser) forget(oldestOf(theirs))
      if (users.size >= mostTokens) forget(oldestOf(users.keys()))
      users.set(tokenHash, userId)
      tokens.set(userId, (tokens.get(userId) ?? new Set()).add(tokenHash))
    },
  }
}
