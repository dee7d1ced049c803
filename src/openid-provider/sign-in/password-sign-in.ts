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

/** From where a password is sent. */
export interface PasswordSender {
  address: string
  /** The `Cookie` header. */
  cookies: string | undefined
  connection: QueuedCaller['connection']
}

export interface PasswordTry {
  name: string
  password: string
  /** The client that the user signs in to. */
  clientId: string
}

export type PasswordTryOutcome =
  | { kind: 'right'; user: User }
  /** `isHeldBack`: so many tries at this user were wrong that this one was not to be right. Only the audit is told. */
  | { kind: 'wrong'; isHeldBack: boolean }
  /** It was not looked at. */
  | { kind: 'paused'; until: number }

/** @throws {Overloaded} if more passwords wait to be checked than can be soon; it does not count as a try then */
export type AttemptPassword = (given: PasswordTry) => Promise<PasswordTryOutcome>

export interface PasswordSignIn {
  /**
   * Gives a caller a place in which a password can be looked at, and carries out `work`, which tries one. A stranger has
   * the place before anything is read: of a crowd that comes at once, only those with a place burden the database. A
   * browser in which somebody has signed in before takes it when it is known for whom.
   *
   * @throws {Overloaded} if there is no place
   */
  withPlace<Result>(from: PasswordSender, work: (attempt: AttemptPassword) => Promise<Result>): Promise<Result>
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

  async function findKnownBrowser(given: PasswordTry, cookies: string | undefined): Promise<KnownBrowser | undefined> {
    const user = await findUser(given)
    const browserId = user && (await knownBrowsers.browserIdFor(user.id, knownBrowsers.signInsOf(cookies)))
    return user && browserId !== undefined ? { user, browserId } : undefined
  }

  async function admitKnown({ user, browserId }: KnownBrowser): Promise<Admitted | { pausedUntil: number }> {
    const attempt = await throttle.with(browserId)
    return attempt.pausedUntil === undefined ? { user, attempt } : attempt
  }

  async function admitStranger(given: PasswordTry, address: string): Promise<Admitted | { pausedUntil: number }> {
    // Where it comes from first: who has to wait there keeps nobody else from signing in.
    const from = await throttle.from(address)
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

  function attempting(
    admit: (given: PasswordTry) => Promise<Admitted | { pausedUntil: number }>,
    hashing: PasswordHashing,
  ) {
    return async (given: PasswordTry): Promise<PasswordTryOutcome> => {
      const admitted = await admit(given)
      if ('pausedUntil' in admitted) return { kind: 'paused', until: admitted.pausedUntil }
      return check(admitted, given.password, hashing)
    }
  }

  return {
    withPlace({ address, cookies, connection }, work) {
      const asStranger = { groups: strangerAt(address), connection }
      const admit = (given: PasswordTry) => admitStranger(given, address)
      if (knownBrowsers.signInsOf(cookies).length === 0) {
        return hashingPlaces.withPlace(asStranger, (hashing) => work(attempting(admit, hashing)))
      }
      return work(async (given) => {
        const known = await findKnownBrowser(given, cookies)
        const caller = known === undefined ? asStranger : { groups: knownUser(known.user.id), connection }
        const admitting = known === undefined ? admit : () => admitKnown(known)
        return hashingPlaces.withPlace(caller, (hashing) => attempting(admitting, hashing)(given))
      })
    },
  }
}
