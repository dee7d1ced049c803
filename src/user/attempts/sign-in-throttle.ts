/**
 * How often passwords may be tried (M30). A browser in which the user has signed in before is counted by itself. Others
 * are counted by where they come from, by the name as it was typed, and by whose name it is: each of a user's names has
 * its own count, and all of them share one. Names that are nobody's are counted in the same way.
 */
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import { networkOf, networksOf } from '../../platform/http/address.ts'
import type { SignInAttemptStore } from './sign-in-attempt-store.ts'

export interface SignInThrottleNeeds {
  attempts: SignInAttemptStore
  /** Attempts that fail before there is a pause. */
  limits: { perName: number; perAddress: number; perNetwork: number }
  vault: Vault
  clock: Clock
}

/** Either it has to wait, or it may be made; then it counts as failed until it is said that it succeeded. */
export type SignInAttempt = { pausedUntil: number } | CountedAttempt

export interface CountedAttempt {
  pausedUntil?: undefined
  succeeded(): Promise<void>
}

export interface SignInThrottle {
  /** Counts an attempt where it comes from: a success gives back that attempt and no other. */
  from(address: string): Promise<SignInAttempt>
  /** Counts an attempt at a name, and at the user whose name it is, if it is one. */
  as(name: string, userId: string | undefined): Promise<SignInAttempt | HeldBackAttempt>
  /** Counts an attempt of a browser in which this user has signed in before. */
  with(browserId: string): Promise<SignInAttempt>
  /** Until when attempts from there are not made, if there is a pause now. Counts nothing. */
  pauseFrom(address: string): Promise<number | undefined>
  /** The same of a browser. */
  pauseWith(browserId: string): Promise<number | undefined>
}

/**
 * This name has attempts left, but the user has none: they were made under other names. It has to fail, and to look like
 * any that fails: a pause would tell that these names are one user's.
 */
export type HeldBackAttempt = CountedAttempt & { isHeldBack: true }

/** Answers until when there is a pause, or nothing: then the try has been counted. */
export type PasswordTryThrottle = (userId: string) => Promise<number | undefined>

/**
 * For whoever is signed in and says something that is compared with the password: it is as good as trying one. Counted
 * for the user alone, where it keeps nobody from signing in.
 */
export function createPasswordTryThrottle({
  attempts,
  limits,
  vault,
  clock,
}: SignInThrottleNeeds): PasswordTryThrottle {
  return async (userId) => {
    const now = clock.now()
    const hash = vault.keyedHash(`password of ${userId} tried within a session`)
    if ((await attempts.take({ subjectHash: hash, free: limits.perName }, now)) !== undefined) return undefined
    return (await attempts.pausedUntil(hash)) ?? now
  }
}

export function createSignInThrottle({ attempts, limits, vault, clock }: SignInThrottleNeeds): SignInThrottle {
  interface Counter {
    subject: string
    free: number
    fadesEveryMs?: number
    afterSuccess: 'forget' | 'take back'
  }

  async function count({ subject, free, fadesEveryMs, afterSuccess }: Counter): Promise<SignInAttempt> {
    const now = clock.now()
    // A row shows neither who nor from where.
    const subjectHash = vault.keyedHash(subject)
    const itsPause = await attempts.take({ subjectHash, free, fadesEveryMs }, now)
    if (itsPause === undefined) return { pausedUntil: (await attempts.pausedUntil(subjectHash)) ?? now }
    return {
      succeeded: () =>
        afterSuccess === 'forget' ? attempts.forget(subjectHash) : attempts.uncount(subjectHash, itsPause),
    }
  }

  const pauseOf = (...counters: Pick<Counter, 'subject'>[]) =>
    attempts.longestPauseOf(
      counters.map(({ subject }) => vault.keyedHash(subject)),
      clock.now(),
    )

  const countersOf = (address: string): Counter[] => [
    // With an account of one's own one could otherwise try others' for ever: a success gives back only itself.
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
      const typed = name.trim().toLowerCase()
      const shared = { free: limits.perName, afterSuccess: 'forget' } as const
      const atName = await count({ ...shared, subject: `sign-in as ${typed}` })
      if (atName.pausedUntil !== undefined) return atName
      const subject = userId === undefined ? `sign-in as nobody, called ${typed}` : `sign-in as user ${userId}`
      const atUser = await count({ ...shared, subject })
      return atUser.pausedUntil === undefined ? combined([atName, atUser]) : { ...atName, isHeldBack: true }
    },

    with: (browserId) => count(counterWith(browserId)),
    pauseFrom: (address) => pauseOf(...countersOf(address)),
    pauseWith: (browserId) => pauseOf(counterWith(browserId)),
  }
}

/** An office behind one address mistypes all day, every day: what was forgiven it by the day only would add up for ever. */
const addressFadesEveryMs = 10 * 60_000

/** Thousands share a network of a carrier: one failed attempt a minute is forgiven it. */
const networkFadesEveryMs = 60_000

export function combined(attempts: readonly CountedAttempt[]): CountedAttempt {
  return {
    async succeeded() {
      for (const attempt of attempts) await attempt.succeeded()
    },
  }
}
