/**
 * One attempt to sign in with a name and a password: its limits, the check of the password, and how the attempt is
 * counted.
 */
import type { ClientStore } from '../../client/client-store.ts'
import type { Clock } from '../../platform/clock.ts'
import { createFairQueue, type FairQueue, type QueuedCaller } from '../../platform/http/fair-queue.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import {
  type CountedAttempt,
  combined,
  type HeldBackAttempt,
  type SignInThrottle,
} from '../../user/attempts/sign-in-throttle.ts'
import type { CheckPassword } from '../../user/password/password-check.ts'
import { knownUser, lookingUpFrom, strangerAt } from '../../user/password/queued-callers.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { BeginFor } from '../generations-of-call.ts'
import type { KnownBrowsers } from './known-browsers.ts'

export interface PasswordSignInNeeds {
  users: UserHooks
  /** Undefined if this server checks no passwords. Every password is then treated as wrong. */
  checkPassword: CheckPassword | undefined
  clients: Pick<ClientStore, 'find'>
  /**
   * Remembers the user's generation before the password is checked. If all sessions of the user are ended during the
   * check, the session of this sign-in is not valid. Resolves to whether the user may sign in.
   */
  beginFor: BeginFor
  throttle: SignInThrottle
  knownBrowsers: KnownBrowsers
  /** The queue in which passwords wait to be checked. */
  credentialQueue: FairQueue
  clock: Pick<Clock, 'after'>
}

/** Where a sign-in attempt comes from. */
export interface TryOrigin {
  address: string
  /** The `Cookie` header. */
  cookies: string | undefined
  connection: QueuedCaller['connection']
}

export interface PasswordTry extends TryOrigin {
  name: string
  /** The client that the user signs in to. */
  clientId: string
}

export type PasswordTryOutcome =
  | { kind: 'right'; user: User }
  /**
   * `isHeldBack`: too many attempts for this user have failed, so even the right password is rejected. `isHeldBack` is
   * recorded in the audit, but the caller does not see it.
   */
  | { kind: 'wrong'; isHeldBack: boolean }
  | Paused

/**
 * The result if there is a pause after failed attempts. The password was not checked, and the attempt does not count.
 */
export interface Paused {
  kind: 'paused'
  /** Milliseconds since 1970. */
  until: number
}

/** Checks the password of the attempt. */
export type CheckTry = (password: string) => Promise<PasswordTryOutcome>

/**
 * Makes sign-in attempts. `lookUp` and `begin` come first, and need no place in the queue for passwords. Only the
 * function to which `begin` resolves needs a place, because it hashes the password.
 */
export interface PasswordSignIn {
  /**
   * Executes `reads`, which are needed before a password is checked. Only a limited number of callers read at the same
   * time. If the queue for passwords has no place for the caller, nothing is read. This is not checked for a caller
   * with the cookie of a known browser.
   *
   * @throws {Overloaded} if the queue has no place
   * @throws {CallerLeft} if the caller closes the connection while the call waits
   */
  lookUp<Result>(from: TryOrigin, reads: () => Promise<Result>): Promise<Result>
  /**
   * Finds out whether the user has signed in with this browser before, and whether there is a pause after failed
   * attempts. Counts no attempt. Resolves to the pause, or to the function that checks the password. That function may
   * throw the same errors as `lookUp`. In that case, the attempt does not count.
   */
  begin(given: PasswordTry): Promise<Paused | CheckTry>
}

/** An attempt that may be checked: the user, if the user exists, and the attempt as it was counted. */
interface Admitted {
  user: User | undefined
  attempt: CountedAttempt | HeldBackAttempt
}

/** A user who has signed in with this browser before. */
interface KnownBrowser {
  user: User
  browserId: string
}

/** Maximum number of look-ups at the same time. */
const LOOK_UPS_AT_ONCE = 8

export function createPasswordSignIn(needs: PasswordSignInNeeds): PasswordSignIn {
  const { users, checkPassword, clients, beginFor, throttle, knownBrowsers, credentialQueue } = needs
  const lookUps = createFairQueue(LOOK_UPS_AT_ONCE, needs.clock)

  async function findUser({ name, clientId }: PasswordTry): Promise<User | undefined> {
    const client = await clients.find(clientId)
    const user = client && name ? await users.findByHint({ kind: 'login_hint', value: name }, client.metadata) : null
    return user ?? undefined
  }

  /**
   * Resolves to the known browser of an attempt, or to undefined. Looks up the user only if the cookie contains a
   * sign-in. For all other attempts, the limit of the address is checked before the user is looked up.
   */
  async function findKnownBrowser(given: PasswordTry): Promise<KnownBrowser | undefined> {
    const signIns = knownBrowsers.signInsOf(given.cookies)
    const user = signIns.length === 0 ? undefined : await findUser(given)
    const browserId = user && (await knownBrowsers.browserIdFor(user.id, signIns))
    return user && browserId !== undefined ? { user, browserId } : undefined
  }

  async function admitKnown({ user, browserId }: KnownBrowser): Promise<Admitted | { pausedUntil: number }> {
    const attempt = await throttle.with(browserId)
    return attempt.pausedUntil === undefined ? { user, attempt } : attempt
  }

  async function admitStranger(given: PasswordTry): Promise<Admitted | { pausedUntil: number }> {
    // The attempt is counted for the address first. While the address is paused, no attempt is counted for the user
    // name, because a caller must not lock a user out with attempts that are refused anyway.
    const from = await throttle.from(given.address)
    if (from.pausedUntil !== undefined) return from
    const user = await findUser(given)
    const as = await throttle.as(given.name, user?.id)
    if (as.pausedUntil !== undefined) return as
    return { user, attempt: { ...as, ...combined([from, as]) } }
  }

  async function check({ user, attempt }: Admitted, password: string): Promise<PasswordTryOutcome> {
    const mayBegin = await beginFor(user?.id ?? '')
    // The same work is done whether the user exists or not, so that the response time does not reveal which users
    // exist.
    const isRight = await checkPassword?.(user, password)
    const isHeldBack = 'isHeldBack' in attempt
    if (!isRight || isHeldBack || user === undefined || !mayBegin || user.disabled) return { kind: 'wrong', isHeldBack }
    await attempt.succeeded()
    return { kind: 'right', user }
  }

  return {
    async lookUp(from, reads) {
      const mayBeKnown = knownBrowsers.signInsOf(from.cookies).length > 0
      const hasPlace = () => mayBeKnown || credentialQueue.hasPlaceFor({ groups: strangerAt(from.address) })
      if (!hasPlace()) throw new Overloaded()
      const groups = lookingUpFrom(from.address, mayBeKnown)
      return lookUps.withTurn({ groups, connection: from.connection }, async () => {
        // Another caller may have taken the last place in the queue while this look-up waited.
        if (!hasPlace()) throw new Overloaded()
        return reads()
      })
    },

    async begin(given) {
      const known = await findKnownBrowser(given)
      const until = await (known ? throttle.pauseWith(known.browserId) : throttle.pauseFrom(given.address, given.name))
      if (until !== undefined) return { kind: 'paused', until }
      const groups = known === undefined ? strangerAt(given.address) : knownUser(known.user.id)
      return (password) =>
        credentialQueue.withTurn({ groups, connection: given.connection }, async () => {
          const admitted = known === undefined ? await admitStranger(given) : await admitKnown(known)
          if ('pausedUntil' in admitted) return { kind: 'paused', until: admitted.pausedUntil }
          return check(admitted, password)
        })
    },
  }
}
