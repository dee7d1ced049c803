/**
 * Limits how many passkey challenges are issued for one sign-in. Every caller can begin a sign-in and then request
 * challenges without being authenticated, and each challenge is written to the database.
 */
import { type Clock, steadyTime } from '../../platform/clock.ts'

/** Maximum number of challenges for one sign-in. A user needs one for each attempt with a passkey. */
export const mostChallenges = 20

/** Milliseconds for which a count is kept: the longest lifetime of a sign-in. */
const keptMs = 3_600_000

/** Maximum number of sign-ins that are counted at the same time. Beyond it, the oldest count is forgotten. */
const mostCounted = 10_000

export type ChallengeLimit = ReturnType<typeof createChallengeLimit>

/**
 * Creates the counters of challenges. Each process has its own counters, in memory.
 *
 * @param most maximum number of sign-ins that are counted at the same time
 */
export function createChallengeLimit(clock: Pick<Clock, 'now' | 'steady'>, most = mostCounted) {
  /** By the id of the sign-in, in order of the first challenge. */
  const counts = new Map<string, { issued: number; since: number }>()

  function forgetOld(now: number): void {
    for (const [signIn, { since }] of counts) {
      if (since + keptMs > now && counts.size < most) return
      counts.delete(signIn)
    }
  }

  return {
    /** Counts a challenge. Returns false, and counts nothing, if the limit is reached. */
    mayIssue(signIn: string): boolean {
      const known = counts.get(signIn)
      if (known !== undefined) {
        if (known.issued >= mostChallenges) return false
        known.issued += 1
        return true
      }
      const now = steadyTime(clock)
      forgetOld(now)
      counts.set(signIn, { issued: 1, since: now })
      return true
    },
    /** Returns how many sign-ins are counted at the moment. */
    countSignIns: () => counts.size,
  }
}
