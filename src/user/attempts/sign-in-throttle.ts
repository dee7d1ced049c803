/**
 * Limits attempts at passwords. A browser in which the user has signed in before has a counter of its own. Other attempts are
 * counted by address, by the name as it was typed, and by user: each name of a user has its own counter, and all of them
 * share one. Unknown names are counted in the same way.
 */
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import { networkOf, networksOf } from '../../platform/http/address.ts'
import type { SignInAttemptStore } from './sign-in-attempt-store.ts'

export interface SignInThrottleNeeds {
  attempts: SignInAttemptStore
  /** Failed attempts before there is a pause. */
  limits: { perName: number; perAddress: number; perNetwork: number }
  vault: Vault
  clock: Clock
}

/** Either there is a pause, or the attempt may be made; then it counts as failed until it is reported as successful. */
export type SignInAttempt = { pausedUntil: number } | CountedAttempt

/** An attempt that may be made. It counts as failed until `succeeded` is called. */
export interface CountedAttempt {
  pausedUntil?: undefined
  succeeded(): Promise<void>
}

export interface SignInThrottle {
  /** Counts an attempt by its address: a success takes back that attempt and no other. */
  from(address: string): Promise<SignInAttempt>
  /** Counts an attempt by name, and by the user with that name, if there is one. */
  as(name: string, userId: string | undefined): Promise<SignInAttempt | HeldBackAttempt>
  /** Counts an attempt of a browser in which this user has signed in before. */
  with(browserId: string): Promise<SignInAttempt>
  /** Resolves to the end of the pause for this address, or undefined if there is none now. Counts nothing. */
  pauseFrom(address: string): Promise<number | undefined>
  /** The same for a browser. */
  pauseWith(browserId: string): Promise<number | undefined>
}

/**
 * This name has attempts left, but the user has none: they were made under other names. The attempt must fail like any other:
 * a pause would reveal that these names belong to one user.
 */
export type HeldBackAttempt = CountedAttempt & { isHeldBack: true }

/** Resolves to the end of the pause, or to undefined: then the attempt has been counted. */
export type PasswordTryThrottle = (userId: string) => Promise<number | undefined>

/**
 * For signed-in users who enter something that is compared with the password, which is as good as trying one. Counted by user
 * alone, in a counter that does not block signing in.
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
    // A row reveals neither user nor address.
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
    // Else an attacker with an account could try others for ever: a success takes back only its own attempt.
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

/** Many users share an office address and mistype every day: without fading, their attempts would add up for ever. */
const addressFadesEveryMs = 10 * 60_000

/** Thousands of users share a carrier's network: one failed attempt a minute is forgotten. */
const networkFadesEveryMs = 60_000

/** Returns one attempt that stands for several. */
export function combined(attempts: readonly CountedAttempt[]): CountedAttempt {
  return {
    async succeeded() {
      for (const attempt of attempts) await attempt.succeeded()
    },
  }
}
