/**
 * How often passwords may be tried: for one name, and from one address (M30). Names are counted as they were typed,
 * whether somebody is called so or not: nothing here tells which names exist.
 */
import type { Clock } from '../clock.ts'
import { networkOf } from '../http/address.ts'
import type { Vault } from '../secret.ts'
import type { SignInAttemptStore } from './sign-in-attempt-store.ts'

export interface SignInThrottleNeeds {
  attempts: SignInAttemptStore
  /** Attempts that fail before there is a pause. */
  limits: { perName: number; perAddress: number }
  vault: Vault
  clock: Clock
}

/** Either it has to wait, or it may be made; then it counts as failed until it is said that it succeeded. */
export type SignInAttempt =
  | { pausedUntil: number }
  | {
      pausedUntil?: undefined
      succeeded(): Promise<void>
      /** It was not looked at, right or wrong: it does not count. */
      takeBack(): Promise<void>
    }

export type SignInThrottle = (name: string, address: string) => Promise<SignInAttempt>

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
    if ((await attempts.take(hash, limits.perName, now)) !== undefined) return undefined
    return (await attempts.pausedUntil(hash)) ?? now
  }
}

export function createSignInThrottle({ attempts, limits, vault, clock }: SignInThrottleNeeds): SignInThrottle {
  return async (name, address) => {
    const now = clock.now()
    // A row shows neither who nor from where.
    const from = vault.keyedHash(`sign-in from ${networkOf(address)}`)
    const as = vault.keyedHash(`sign-in as ${name.trim().toLowerCase()}`)
    // The address first: who has to wait there keeps nobody else from signing in.
    const pauseOfAddress = await attempts.take(from, limits.perAddress, now)
    if (pauseOfAddress === undefined) return { pausedUntil: (await attempts.pausedUntil(from)) ?? now }
    const pauseOfName = await attempts.take(as, limits.perName, now)
    if (pauseOfName === undefined) return { pausedUntil: (await attempts.pausedUntil(as)) ?? now }
    return {
      async succeeded() {
        await attempts.forget(as)
        // With an account of one's own one could otherwise try others' for ever.
        await attempts.takeBack(from, pauseOfAddress)
      },
      async takeBack() {
        await attempts.takeBack(as, pauseOfName)
        await attempts.takeBack(from, pauseOfAddress)
      },
    }
  }
}
