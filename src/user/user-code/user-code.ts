/**
 * The user code (CIBA Core §7.1.2) is a secret of the user. A client that knows the user's name, but not this code,
 * cannot send authentication requests to the user.
 */
import type { Client } from '../../client/client.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { Clock } from '../../platform/clock.ts'
import { sameSecret } from '../../platform/crypto.ts'
import type { FairQueue, QueuedCaller } from '../../platform/http/fair-queue.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { DatabaseClock } from '../../platform/storage/database-clock.ts'
import { type PasswordHashing, userCodeOf, type Verified } from '../password/password-hashing.ts'
import { authenticatedClient, knownUser } from '../password/queued-callers.ts'
import type { ConfiguredUser, User, UserHooks } from '../user.ts'
import type { TryLimits, UserCodeStore } from './user-code-store.ts'

/** A user's code. */
export interface KnownCode {
  /** Checks a code. The check takes the same time whether the code is right or wrong. */
  verify(code: string): Promise<Verified>
  /** Replaces the stored hash by a stronger hash of the same code. Undefined if the code is not stored as a hash. */
  replaceHash?(stronger: string): Promise<void>
}

/** Resolves to the code of the user, or to undefined if the user has no code. */
export type CodeOf = (user: User) => Promise<KnownCode | undefined>

/** Returns a code that matches no text. Its check takes as long as the check of any other code. */
function noCode(hashing: Pick<PasswordHashing, 'verify'>): KnownCode {
  return { verify: (code) => hashing.verify(code, undefined, userCodeOf('')) }
}

/** A decoy user is used in place of a user who does not exist. Some decoy users appear to have a code. */
export interface DecoyUser {
  hasCode: boolean
}

interface CodeNeeds {
  codeOf: CodeOf
  tries: Pick<UserCodeStore, 'begin' | 'wrong' | 'right'>
  limits: TryLimits
  hashing: PasswordHashing
  /** The queue in which checks of codes wait for their turn. */
  queue: FairQueue
  databaseClock: Pick<DatabaseClock, 'now'>
}

export interface DemandNeeds extends CodeNeeds {
  /** Whether the user has ever approved a request of the client. */
  hasApproved(userId: string, clientId: string): Promise<boolean>
}

/** Resolves if the client may send the request to the user. Throws the errors of `createDemandUserCode` if not. */
export type DemandUserCode = (
  code: string | undefined,
  user: User,
  client: Client,
  decoy: DecoyUser | undefined,
  from: CodeSender,
) => Promise<void>

/** The address that sent a code, and the connection that waits for the response. */
export interface CodeSender {
  address: string | undefined
  connection?: QueuedCaller['connection']
}

/**
 * Returns a function that accepts a request if the client is not registered for user codes, if the user has no code, or
 * if the code is right. The same work is done for every user, so that the time does not reveal whether the user exists
 * or has a code.
 *
 * @throws {OAuthError} `missing_user_code`, `invalid_user_code`, and `access_denied` after too many wrong codes
 */
export function createDemandUserCode(needs: DemandNeeds): DemandUserCode {
  const { codeOf, tries, limits, hasApproved, hashing, queue, databaseClock } = needs
  return async (code, user, client, decoy, from) => {
    // A client that is not registered for user codes needs no code. If it sends `user_code`, the parameter is ignored
    // like an unknown parameter.
    if (client.metadata.backchannel_user_code_parameter !== true) return
    const kept = await codeOf(user)
    const known = decoy === undefined ? kept : decoy.hasCode ? noCode(hashing) : undefined
    if (code === undefined) {
      if (known === undefined) return
      throw new OAuthError('missing_user_code', 'this user requires a user_code')
    }
    const caller = { groups: authenticatedClient(client.id, from.address), connection: from.connection }
    await queue.withTurn(caller, () => tryCode(code, known, user, client))
  }

  async function tryCode(code: string, known: KnownCode | undefined, user: User, client: Client): Promise<void> {
    const trying = { userId: user.id, clientId: client.id, at: databaseClock.now() }
    // If the user has approved a request of this client before, the limit for all clients together does not apply. So
    // wrong codes that other clients send do not lock this client out.
    const isKnown = await hasApproved(user.id, client.id)
    const counted = isKnown ? { ...limits, maxTriesPerUser: undefined } : limits
    if (!(await tries.begin(trying, counted))) throw locked(user, client)
    const { matches, stronger } = await (known ?? noCode(hashing)).verify(code)
    const passes = matches || known === undefined
    const mayHear = passes ? await tries.right(trying, counted) : await tries.wrong(trying, counted)
    if (!mayHear) throw locked(user, client)
    if (!passes) {
      throw new OAuthError('invalid_user_code', 'user_code is wrong', { detail: `${client.id} for ${user.id}` })
    }
    if (stronger !== undefined) await known?.replaceHash?.(stronger)
  }
}

function locked(user: User, client: Client): OAuthError {
  return new OAuthError('access_denied', 'too many wrong user codes; try again later', {
    detail: `user ${user.id} or client ${client.id} is locked out`,
  })
}

/**
 * User codes of the built-in directory. The code in the configuration is valid until the user sets or removes a code.
 */
export function createCodeDirectory(
  configured: readonly ConfiguredUser[],
  store: Pick<UserCodeStore, 'find' | 'replaceHash'>,
  hashing: Pick<PasswordHashing, 'verify'>,
): CodeOf {
  const fromConfiguration = new Map(configured.map(({ id, user_code }) => [id, user_code]))
  return async ({ id }) => {
    const kept = await store.find(id)
    const hash = kept?.hash
    if (hash !== undefined) {
      return {
        verify: (code) => hashing.verify(code, hash, userCodeOf(id)),
        replaceHash: (stronger) => store.replaceHash(id, hash, stronger),
      }
    }
    const plain = kept === undefined ? fromConfiguration.get(id) : undefined
    return plain === undefined ? undefined : configuredCode(plain, hashing)
  }
}

function configuredCode(plain: string, hashing: Pick<PasswordHashing, 'verify'>): KnownCode {
  return {
    async verify(code) {
      // A hash is computed although it is not needed, so that the time does not reveal whether a code is in the
      // configuration or in the database.
      await noCode(hashing).verify(code)
      return { matches: sameSecret(plain.normalize('NFKC'), code.normalize('NFKC')) }
    },
  }
}

/** Returns the user codes of an application's own users. The application checks these codes. */
export function createCodesOfHooks(users: UserHooks & Required<Pick<UserHooks, 'verifyUserCode'>>): CodeOf {
  return async (user) =>
    user.has_user_code === false
      ? undefined
      : { verify: async (code) => ({ matches: (await users.verifyUserCode(user, code)) === true }) }
}

/** Resolves to undefined for every user: used in deployments without user codes. */
export const noCodes: CodeOf = async () => undefined

/** Whether the application supplies user codes: it has the hook `verifyUserCode`. */
export function hasUserCodes(users: UserHooks): users is UserHooks & Required<Pick<UserHooks, 'verifyUserCode'>> {
  return users.verifyUserCode !== undefined
}

/** How users prove that they may change the code: they enter the current code, or have signed in just now. */
export interface Proof {
  presentCode: string | undefined
  signedInJustNow: boolean
  /** The client through which the user changes the code. */
  clientId: string
  /** The hash of the user's access token. The code is only changed while the token is valid. */
  tokenHash: string | undefined
  connection?: QueuedCaller['connection']
  /** Messages that notify the user, stored in the transaction that changes the code. */
  notices: readonly OutboxMessage[]
  /**
   * Throws if the new code is not allowed. Called only after the proof was verified, so that a caller without a valid
   * proof does not learn the result.
   */
  mayBe(code: string): Promise<void>
}

export type Change = 'changed' | 'proof needed' | 'wrong' | 'locked' | 'meanwhile changed'

export interface OwnCodeNeeds extends CodeNeeds {
  store: Pick<UserCodeStore, 'find' | 'put' | 'replace'>
  clock: Clock
}

/** Returns the functions with which users of the built-in directory see whether they have a code, and change it. */
export function createOwnCode(needs: OwnCodeNeeds) {
  const { codeOf, store, tries, limits, hashing, queue, clock, databaseClock } = needs
  return {
    /**
     * Resolves to whether the user has a code, and to the time at which the user set it (milliseconds since 1970). The
     * time is undefined if the user has no code, or if the code comes from the configuration.
     */
    async look(user: User): Promise<{ isSet: boolean; setAt: number | undefined }> {
      const isSet = (await codeOf(user)) !== undefined
      return { isSet, setAt: isSet ? (await store.find(user.id))?.setAt : undefined }
    },

    /**
     * Changes or removes the code of a user.
     *
     * @param code the new code, or undefined to remove the current code
     */
    async change(user: User, code: string | undefined, proof: Proof): Promise<Change> {
      const caller = { groups: knownUser(user.id), connection: proof.connection }
      return queue.withTurn(caller, () => changeInTurn(user, code, proof))
    },
  }

  async function changeInTurn(user: User, code: string | undefined, proof: Proof): Promise<Change> {
    const hashOf = async (of: string | undefined) => of && hashing.hash(of, userCodeOf(user.id))
    if (proof.signedInJustNow) {
      if (code !== undefined) await proof.mayBe(code)
      const hash = await hashOf(code)
      const isPut = await store.put(user.id, hash, clock.now(), proof)
      return isPut ? 'changed' : 'meanwhile changed'
    }
    const { presentCode } = proof
    if (presentCode === undefined) return 'proof needed'
    const present = await store.find(user.id)
    const known = await codeOf(user)
    const trying = { userId: user.id, clientId: proof.clientId, at: databaseClock.now() }
    // The call contains an access token of the user, so `maxTriesPerUser` does not apply. Tries of other clients must
    // not prevent users from changing their codes.
    if (!(await tries.begin(trying, { ...limits, maxTriesPerUser: undefined }))) return 'locked'
    const { matches } = await (known ?? noCode(hashing)).verify(presentCode)
    if (!matches) return known === undefined ? 'proof needed' : 'wrong'
    // `mayBe` compares the new code with the password. It is called only after the current code was verified, because a
    // stolen token must not be enough to test passwords.
    if (code !== undefined) await proof.mayBe(code)
    // If two changes are simultaneous, the second fails, because the code that was entered for it is no longer the
    // current code.
    const hash = await hashOf(code)
    const isChanged = await store.replace(user.id, present?.hash, hash, clock.now(), proof)
    return isChanged ? 'changed' : 'meanwhile changed'
  }
}

export type OwnCode = ReturnType<typeof createOwnCode>

/**
 * Whether the text is allowed as a code: 4 to 64 characters, no invisible characters, no spaces at the beginning or
 * end.
 */
export function isUserCode(code: string): boolean {
  return /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]{4,64}$/u.test(code) && code.trim() === code
}
