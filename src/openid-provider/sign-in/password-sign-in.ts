/** One try to sign in with a name and a password: who may try, whether it is right, and what follows from it. */
import type { ClientStore } from '../../client/client-store.ts'
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
import type { BeginFor } from '../held-generations.ts'
import type { KnownBrowsers } from './known-browsers.ts'

export interface PasswordSignInNeeds {
  users: UserHooks
  /** Undefined if no passwords are checked here: then none is right. */
  checkPassword: CheckPassword | undefined
  clients: Pick<ClientStore, 'find'>
  /**
   * Holds on to the generation the user is in before the password is looked at: what ends meanwhile ends this sign-in too.
   * Resolves to whether the user may sign in.
   */
  beginFor: BeginFor
  throttle: SignInThrottle
  knownBrowsers: KnownBrowsers
  /** In which passwords wait to be checked. */
  credentialQueue: FairQueue
}

/** Where a try comes from. */
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
  /** `isHeldBack`: so many tries at this user were wrong that this one was not to be right. Only the audit is told. */
  | { kind: 'wrong'; isHeldBack: boolean }
  | Paused

/** There is a pause: the password was not looked at, and the try does not count. */
export interface Paused {
  kind: 'paused'
  /** Milliseconds since 1970. */
  until: number
}

/** Says which password it is. */
export type CheckTry = (password: string) => Promise<PasswordTryOutcome>

/** Two steps, so that only a caller who needs a hash takes a place where passwords wait to be checked. */
export interface PasswordSignIn {
  /**
   * Carries out the reads before a check: of many at once, a few at a time, and none while there is no place in which
   * a password could be checked.
   *
   * @throws {Overloaded} if there is no place
   * @throws {CallerLeft} if the caller leaves before
   */
  lookUp<Result>(from: TryOrigin, reads: () => Promise<Result>): Promise<Result>
  /** Looks who tries, and whether there is a pause. Counts nothing. The result may throw what `lookUp` throws; that is no try. */
  begin(given: PasswordTry): Promise<Paused | CheckTry>
}

/** Who tries, and the try as it was counted. */
interface Admitted {
  user: User | undefined
  attempt: CountedAttempt | HeldBackAttempt
}

/** A user who has signed in with this browser before. */
interface KnownBrowser {
  user: User
  browserId: string
}

/** Sign-ins that are looked up at the same time. */
const LOOK_UPS_AT_ONCE = 8

export function createPasswordSignIn(needs: PasswordSignInNeeds): PasswordSignIn {
  const { users, checkPassword, clients, beginFor, throttle, knownBrowsers, credentialQueue } = needs
  const lookUps = createFairQueue(LOOK_UPS_AT_ONCE)

  async function findUser({ name, clientId }: PasswordTry): Promise<User | undefined> {
    const client = await clients.find(clientId)
    const user = client && name ? await users.findByHint({ kind: 'login_hint', value: name }, client.metadata) : null
    return user ?? undefined
  }

  /** Only where somebody has signed in before is a user looked for before it is known where the try comes from. */
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
    // Where it comes from first: a caller who has to wait there keeps nobody else from signing in.
    const from = await throttle.from(given.address)
    if (from.pausedUntil !== undefined) return from
    const user = await findUser(given)
    const as = await throttle.as(given.name, user?.id)
    if (as.pausedUntil !== undefined) return as
    return { user, attempt: { ...as, ...combined([from, as]) } }
  }

  async function check({ user, attempt }: Admitted, password: string): Promise<PasswordTryOutcome> {
    const mayBegin = await beginFor(user?.id ?? '')
    // The same work for a user who exists and one who does not: the answer's time tells nothing.
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
        // Of those who have waited for this, most have nothing to look up any more.
        if (!hasPlace()) throw new Overloaded()
        return reads()
      })
    },

    async begin(given) {
      const known = await findKnownBrowser(given)
      const until = await (known ? throttle.pauseWith(known.browserId) : throttle.pauseFrom(given.address))
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
