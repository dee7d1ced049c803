/** One try to sign in with a name and a password: who may try, whether it is right, and what follows from it. */
import type { ClientMetadata } from '../client/client-metadata.ts'
import { isBeforeTurn, type QueuedCaller } from '../password/fair-queue.ts'
import { type HashingPlaces, strangerAt } from '../password/hashing-places.ts'
import type { CheckPassword } from '../user-hint/password-check.ts'
import type { User, UserHooks } from '../user-hint/user.ts'
import type { SignInThrottle } from './sign-in-throttle.ts'

export interface PasswordSignInNeeds {
  users: UserHooks
  /** Undefined if no passwords are checked here: then none is right. */
  checkPassword: CheckPassword | undefined
  findClient(id: string): Promise<ClientMetadata | undefined>
  throttle: SignInThrottle
  hashingPlaces: HashingPlaces
}

export interface PasswordTry {
  name: string
  password: string
  /** The client that the user signs in to. */
  clientId: string
  address: string
  connection: QueuedCaller['connection']
}

export type PasswordTryOutcome =
  | { kind: 'right'; user: User }
  | { kind: 'wrong' }
  /** It was not looked at. */
  | { kind: 'paused'; until: number }

export type PasswordSignIn = (given: PasswordTry) => Promise<PasswordTryOutcome>

/** @throws {Overloaded} if more passwords wait to be checked than can be soon; it does not count as a try then */
export function createPasswordSignIn(needs: PasswordSignInNeeds): PasswordSignIn {
  const { users, checkPassword, findClient, throttle, hashingPlaces } = needs

  async function findUser(name: string, clientId: string): Promise<User | undefined> {
    const client = await findClient(clientId)
    const user = client && name ? await users.findByHint({ kind: 'login_hint', value: name }, client) : null
    return user ?? undefined
  }

  return async ({ name, password, clientId, address, connection }) => {
    const caller = { groups: strangerAt(address), connection }
    hashingPlaces.refuseIfFull(caller)
    const attempt = await throttle(name, address)
    if (attempt.pausedUntil !== undefined) return { kind: 'paused', until: attempt.pausedUntil }
    // The same work for a user who exists and one who does not: the answer's time tells nothing.
    const user = await findUser(name, clientId)
    try {
      const isRight = await checkPassword?.(user, password, hashingPlaces.hashingFor(caller))
      if (!isRight || user === undefined || user.disabled) return { kind: 'wrong' }
    } catch (error) {
      if (isBeforeTurn(error)) await attempt.takeBack()
      throw error
    }
    await attempt.succeeded()
    return { kind: 'right', user }
  }
}
