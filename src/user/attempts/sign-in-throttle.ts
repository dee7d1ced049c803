/**
 * Limits attempts to sign in with a password. Attempts in a browser in which the user has signed in before are counted
 * for that browser. All other attempts are counted for the address and its network, for the name as it was typed, and
 * for the user. So each name of a user has a counter of its own, and all names of the user share one more counter.
 * Attempts with unknown names are counted in the same way.
 */
import type { Vault } from '../../platform/crypto.ts'
import { networkOf, networksOf } from '../../platform/http/address.ts'
import type { DatabaseClock } from '../../platform/storage/database-clock.ts'
import type { SignInAttemptStore } from './sign-in-attempt-store.ts'

export interface SignInThrottleNeeds {
  attempts: SignInAttemptStore
  /** The numbers of failed attempts after which the first pause begins. */
  limits: { perName: number; perAddress: number; perNetwork: number }
  vault: Vault
  /** The times of the counters are times of this clock. */
  databaseClock: Pick<DatabaseClock, 'now' | 'toWallClock'>
}

/**
 * An attempt that may be made, or the end of the current pause, in milliseconds since 1970 by the wall clock of this
 * node.
 */
export type SignInAttempt = { pausedUntil: number } | CountedAttempt

/** An attempt that may be made. It counts as failed until `succeeded` is called. */
export interface CountedAttempt {
  pausedUntil?: undefined
  succeeded(): Promise<void>
}

export interface SignInThrottle {
  /**
   * Counts an attempt for its address and for the network of the address. If the attempt succeeds, only this attempt is
   * removed from these counters.
   */
  from(address: string): Promise<SignInAttempt>
  /** Counts an attempt for the typed name and, if a user has that name, for the user. */
  as(name: string, userId: string | undefined): Promise<SignInAttempt | HeldBackAttempt>
  /** Counts an attempt for a browser in which the user has signed in before. */
  with(browserId: string): Promise<SignInAttempt>
  /**
   * Resolves to the end of the pause for this address, its network or this name, or undefined if there is none now.
   * Counts nothing.
   */
  pauseFrom(address: string, name: string): Promise<number | undefined>
  /** Resolves to the end of the pause for this browser, or undefined if there is none now. Counts nothing. */
  pauseWith(browserId: string): Promise<number | undefined>
}

/**
 * An attempt that must fail even with the right password. The typed name has attempts left, but the user has none,
 * because of attempts under the user's other names. A pause would reveal that these names belong to one user.
 */
export type HeldBackAttempt = CountedAttempt & { isHeldBack: true }

/**
 * Counts an attempt and resolves to undefined. During a pause it counts nothing and resolves to the end of the pause.
 */
export type PasswordTryThrottle = (userId: string) => Promise<number | undefined>

/**
 * Limits how often a signed-in user can enter a value that is compared with the password, because each such value is a
 * guess at the password. The attempts are counted for the user, in a counter that does not block signing in.
 */
export function createPasswordTryThrottle({
  attempts,
  limits,
  vault,
  databaseClock,
}: SignInThrottleNeeds): PasswordTryThrottle {
  return async (userId) => {
    const now = databaseClock.now()
    const hash = vault.keyedHash(`password of ${userId} tried within a session`)
    if ((await attempts.take({ subjectHash: hash, free: limits.perName }, now)) !== undefined) return undefined
    return databaseClock.toWallClock((await attempts.pausedUntil(hash)) ?? now)
  }
}

interface Counter {
  subject: string
  free: number
  fadesEveryMs?: number
  afterSuccess: 'forget' | 'take back'
}

/** Returns the functions that count attempts to sign in and find out whether there is a pause. */
export function createSignInThrottle({ attempts, limits, vault, databaseClock }: SignInThrottleNeeds): SignInThrottle {
  // The subject of a counter is hashed, so that a row reveals neither user nor address.
  const hashOf = ({ subject }: Pick<Counter, 'subject'>) => vault.keyedHash(subject)

  /** Counts an attempt. Resolves to the attempt, or to undefined if the counter is paused. */
  async function take(counter: Counter): Promise<CountedAttempt | undefined> {
    const { free, fadesEveryMs, afterSuccess } = counter
    const subjectHash = hashOf(counter)
    const itsPause = await attempts.take({ subjectHash, free, fadesEveryMs }, databaseClock.now())
    if (itsPause === undefined) return undefined
    return {
      succeeded: () =>
        afterSuccess === 'forget' ? attempts.forget(subjectHash) : attempts.uncount(subjectHash, itsPause),
    }
  }

  async function count(counter: Counter): Promise<SignInAttempt> {
    const attempt = await take(counter)
    if (attempt !== undefined) return attempt
    const until = (await attempts.pausedUntil(hashOf(counter))) ?? databaseClock.now()
    return { pausedUntil: databaseClock.toWallClock(until) }
  }

  async function pauseOf(...counters: Counter[]): Promise<number | undefined> {
    const until = await attempts.longestPauseOf(counters.map(hashOf), databaseClock.now())
    return until === undefined ? undefined : databaseClock.toWallClock(until)
  }

  const countersOf = (address: string): Counter[] => [
    // A successful attempt removes only itself from the counters of the address and the network. If it removed all
    // attempts, an attacker who has an account could try other accounts without limit.
    {
      subject: `sign-in from ${networkOf(address)}`,
      free: limits.perAddress,
      fadesEveryMs: addressFadesEveryMs,
      afterSuccess: 'take back',
    },
    {
      subject: `sign-in from network ${networksOf(address).at(-1)}`,
      free: limits.perNetwork,
      fadesEveryMs: networkFadesEveryMs,
      afterSuccess: 'take back',
    },
  ]

  const typed = (name: string) => name.trim().toLowerCase()

  const counterAs = (name: string): Counter => ({
    subject: `sign-in as ${typed(name)}`,
    free: limits.perName,
    afterSuccess: 'forget',
  })

  const counterWith = (browserId: string): Counter => ({
    subject: `sign-in with browser ${browserId}`,
    free: limits.perName,
    afterSuccess: 'forget',
  })

  return {
    async from(address) {
      const taken: CountedAttempt[] = []
      for (const counter of countersOf(address)) {
        const attempt = await count(counter)
        if (attempt.pausedUntil !== undefined) return attempt
        taken.push(attempt)
      }
      return combined(taken)
    },

    async as(name, userId) {
      const atName = await count(counterAs(name))
      if (atName.pausedUntil !== undefined) return atName
      const subject = userId === undefined ? `sign-in as nobody, called ${typed(name)}` : `sign-in as user ${userId}`
      // If the user is paused, the end of the pause is not read. The longer response time of one more SQL statement
      // would reveal to the caller that the user is paused.
      const atUser = await take({ ...counterAs(name), subject })
      return atUser === undefined ? { ...atName, isHeldBack: true } : combined([atName, atUser])
    },

    with: (browserId) => count(counterWith(browserId)),
    pauseFrom: (address, name) => pauseOf(...countersOf(address), counterAs(name)),
    pauseWith: (browserId) => pauseOf(counterWith(browserId)),
  }
}

/**
 * The counter of an address is reduced by one failed attempt every ten minutes, so that the mistakes of many users who
 * share the address of an office do not add up.
 */
const addressFadesEveryMs = 10 * 60_000

/**
 * The counter of a network is reduced by one failed attempt every minute, because thousands of users may share the
 * network of a carrier.
 */
const networkFadesEveryMs = 60_000

/** Combines several counted attempts into one. `succeeded` of the result calls `succeeded` of each attempt. */
export function combined(attempts: readonly CountedAttempt[]): CountedAttempt {
  return {
    async succeeded() {
      for (const attempt of attempts) await attempt.succeeded()
    },
  }
}
