/** One try to sign in with a name and a password: who may try, whether it is right, and what follows from it. */
import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import {
  type CountedAttempt,
  type HeldBackAttempt,
  type SignInThrottle,
  together,
} from '../../user/attempts/sign-in-throttle.ts'
import { isBeforeTurn, type QueuedCaller } from '../../user/password/fair-queue.ts'
import { type HashingPlaces, knownUser, strangerAt } from '../../user/password/hashing-places.ts'
import type { CheckPassword } from '../../user/password/password-check.ts'
import type { PasswordHashing } from '../../user/password/password-hashing.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { KnownBrowsers } from './known-browsers.ts'

export interface PasswordSignInNeeds {
  users: UserHooks
  /** Undefined if no passwords are checked here: then none is right. */
  checkPassword: CheckPassword | undefined
  findClient(id: string): Promise<ClientMetadata | undefined>
  /**
   * Holds on to the generation the user is in before the password is looked at: what ends meanwhile ends this sign-in too.
   * Resolves to whether the user may sign in.
   */
  beginFor(userId: string): Promise<boolean>
  throttle: SignInThrottle
  knownBrowsers: KnownBrowsers
  hashingPlaces: HashingPlaces
}

export interface PasswordTry {
  name: string
  password: string
  /** The client that the user signs in to. */
  clientId: string
  address: string
  /** The `Cookie` header. */
  cookies: string | undefined
  connection: QueuedCaller['connection']
}

export type PasswordTryOutcome =
  | { kind: 'right'; user: User }
  /** `isHeldBack`: so many tries at this user were wrong that this one was not to be right. Only the audit is told. */
  | { kind: 'wrong'; isHeldBack: boolean }
  /** It was not looked at. */
  | { kind: 'paused'; until: number }

export interface PasswordSignIn {
  /** Asked before anything is read for a stranger: whether there is a place in which a password could be looked at. */
  hasPlaceFor(from: Pick<PasswordTry, 'address' | 'cookies'>): boolean
  /** @throws {Overloaded} if more passwords wait to be checked than can be soon; it does not count as a try then */
  attempt(given: PasswordTry): Promise<PasswordTryOutcome>
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

export function createPasswordSignIn(needs: PasswordSignInNeeds): PasswordSignIn {
  const { users, checkPassword, findClient, beginFor, throttle, knownBrowsers, hashingPlaces } = needs

  async function findUser({ name, clientId }: PasswordTry): Promise<User | undefined> {
    const client = await findClient(clientId)
    const user = client && name ? await users.findByHint({ kind: 'login_hint', value: name }, client) : null
    return user ?? undefined
  }

  /** Only for who has signed in here before is anybody looked for before it is known where they come from. */
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
    // Where it comes from first: who has to wait there keeps nobody else from signing in.
    const from = await throttle.from(given.address)
    if (from.pausedUntil !== undefined) return from
    const user = await findUser(given)
    const as = await throttle.as(given.name, user?.id)
    if (as.pausedUntil !== undefined) return as
    return { user, attempt: { ...as, ...together([from, as]) } }
  }

  async function check(
    { user, attempt }: Admitted,
    password: string,
    hashing: PasswordHashing,
  ): Promise<PasswordTryOutcome> {
    const mayBegin = await beginFor(user?.id ?? '')
    let isRight: boolean | undefined
    try {
      // The same work for a user who exists and one who does not: the answer's time tells nothing.
      isRight = await checkPassword?.(user, password, hashing)
    } catch (error) {
      if (isBeforeTurn(error)) await attempt.takeBack()
      throw error
    }
    const isHeldBack = 'isHeldBack' in attempt
    if (!isRight || isHeldBack || user === undefined || !mayBegin || user.disabled) return { kind: 'wrong', isHeldBack }
    await attempt.succeeded()
    return { kind: 'right', user }
  }

  function hasPlaceFor({ address, cookies }: Pick<PasswordTry, 'address' | 'cookies'>): boolean {
    return knownBrowsers.signInsOf(cookies).length > 0 || hashingPlaces.hasPlaceFor({ groups: strangerAt(address) })
  }

  async function attempt(given: PasswordTry): Promise<PasswordTryOutcome> {
    const known = await findKnownBrowser(given)
    const groups = known === undefined ? strangerAt(given.address) : knownUser(known.user.id)
    return hashingPlaces.withPlace({ groups, connection: given.connection }, async (hashing) => {
      const admitted = known === undefined ? await admitStranger(given) : await admitKnown(known)
      if ('pausedUntil' in admitted) return { kind: 'paused', until: admitted.pausedUntil }
      return check(admitted, given.password, hashing)
    })
  }

  return { hasPlaceFor, attempt }
}
