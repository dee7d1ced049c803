/**
 * A user's code (CIBA Core §7.1.2): something only the user knows, so that not every client that has heard a name can
 * make that user's phone ring.
 */
import type { Client } from '../client/client.ts'
import type { Clock } from '../clock.ts'
import { Refusal } from '../refusal.ts'
import { hashPassword, sameSecret, verifyPassword } from '../secret.ts'
import type { ConfiguredUser, User, UserHooks } from './user.ts'
import type { TryLimits, UserCodeStore } from './user-code-store.ts'

/** Whether this is the code. Takes its time, right or wrong. */
type Verify = (code: string) => Promise<boolean>

/** What is known of a user's code; nothing if the user has none. */
export type CodeOf = (user: User) => Promise<Verify | undefined>

/** No code is this one; finding that out takes as long as with any other. */
const noCode: Verify = (code) => verifyPassword(code, undefined)

/** A user who is not there, but must not be told from one who is: whether that one would have a code. */
export interface StandIn {
  hasCode: boolean
}

interface CodeNeeds {
  codeOf: CodeOf
  tries: Pick<UserCodeStore, 'begin' | 'wrong' | 'right'>
  limits: TryLimits
  clock: Clock
}

export interface DemandNeeds extends CodeNeeds {
  /** Whether the user has ever approved a request of the client. */
  hasApproved(userId: string, clientId: string): Promise<boolean>
}

export type DemandUserCode = (
  code: string | undefined,
  user: User,
  client: Client,
  standIn: StandIn | undefined,
) => Promise<void>

/**
 * Lets a client through that may ask this user: one that is not registered for user codes, a user who has none, or the
 * right code. The same work is done for each user, so that time does not tell who has a code, or who is there.
 *
 * @throws {Refusal} `missing_user_code`, `invalid_user_code`, and `access_denied` after too many of those (UC-3, UC-6)
 */
export function createDemandUserCode({ codeOf, tries, limits, hasApproved, clock }: DemandNeeds): DemandUserCode {
  return async (code, user, client, standIn) => {
    // Such a client is exempt, and what it sends by that name is nothing we know (RQ-5, UC-2).
    if (client.metadata.backchannel_user_code_parameter !== true) return
    const kept = await codeOf(user)
    const verify = standIn === undefined ? kept : standIn.hasCode ? noCode : undefined
    if (code === undefined) {
      if (verify === undefined) return
      throw new Refusal('missing_user_code', 'this user has to give a user_code')
    }
    const trying = { userId: user.id, clientId: client.id, at: clock.now() }
    // However many strangers have tried, a client that the user knows is not held up by it.
    const known = await hasApproved(user.id, client.id)
    const counted = known ? { ...limits, maxTriesPerUser: undefined } : limits
    if (!(await tries.begin(trying, counted))) throw locked(user, client)
    const right = await (verify ?? noCode)(code)
    const passes = right || verify === undefined
    const mayHear = passes ? await tries.right(trying, counted) : await tries.wrong(trying, counted)
    if (!mayHear) throw locked(user, client)
    if (passes) return
    throw new Refusal('invalid_user_code', 'user_code is wrong', { detail: `${client.id} for ${user.id}` })
  }
}

function locked(user: User, client: Client): Refusal {
  return new Refusal('access_denied', 'too many wrong user codes; try again later', {
    detail: `user ${user.id} or client ${client.id} is locked out`,
  })
}

/** The codes of the built-in directory: what the user said last, else what the configuration says. */
export function createCodeDirectory(configured: readonly ConfiguredUser[], store: Pick<UserCodeStore, 'find'>): CodeOf {
  const fromConfiguration = new Map(configured.map(({ id, user_code }) => [id, user_code]))
  return async ({ id }) => {
    const kept = await store.find(id)
    if (kept?.hash !== undefined) return (code) => verifyPassword(code, kept.hash)
    const plain = kept === undefined ? fromConfiguration.get(id) : undefined
    if (plain === undefined) return undefined
    return async (code) => {
      // Stretched in any case: where a code lies must not be told by the time it takes.
      await noCode(code)
      return sameSecret(plain.normalize('NFKC'), code.normalize('NFKC'))
    }
  }
}

/** The codes of an application's own users, which only the application knows. */
export function createCodesOfHooks(users: UserHooks & Required<Pick<UserHooks, 'verifyUserCode'>>): CodeOf {
  return async (user) => (user.has_user_code === false ? undefined : (code) => users.verifyUserCode(user, code))
}

export const noCodes: CodeOf = async () => undefined

export function hasUserCodes(users: UserHooks): users is UserHooks & Required<Pick<UserHooks, 'verifyUserCode'>> {
  return users.verifyUserCode !== undefined
}

/** How users show that a code is theirs to change: they know it, or have signed in just now. */
export interface Proof {
  presentCode: string | undefined
  signedInJustNow: boolean
  /** Through which client they come. */
  clientId: string
  /** Asked once the code is known to be theirs to change, so that nobody else hears an answer. Throws if it may not be this one. */
  mayBe(code: string): Promise<void>
}

export type Change = 'changed' | 'proof needed' | 'wrong' | 'locked' | 'meanwhile changed'

export interface OwnCodeNeeds extends CodeNeeds {
  store: Pick<UserCodeStore, 'find' | 'put' | 'replace'>
}

/** What users of the built-in directory do with their codes. */
export function createOwnCode({ codeOf, store, tries, limits, clock }: OwnCodeNeeds) {
  return {
    /** Whether there is one, and since when, if the user set it. */
    async look(user: User): Promise<{ isSet: boolean; setAt: number | undefined }> {
      const isSet = (await codeOf(user)) !== undefined
      return { isSet, setAt: isSet ? (await store.find(user.id))?.setAt : undefined }
    },

    /** @param code the new one, or nothing to have none any more */
    async change(user: User, code: string | undefined, proof: Proof): Promise<Change> {
      if (proof.signedInJustNow) {
        if (code !== undefined) await proof.mayBe(code)
        await store.put(user.id, code && (await hashPassword(code)), clock.now())
        return 'changed'
      }
      if (proof.presentCode === undefined) return 'proof needed'
      const present = await store.find(user.id)
      const verify = await codeOf(user)
      const trying = { userId: user.id, clientId: proof.clientId, at: clock.now() }
      // Through a token of the user: what strangers tried does not count here.
      if (!(await tries.begin(trying, { ...limits, maxTriesPerUser: undefined }))) return 'locked'
      if (!(await (verify ?? noCode)(proof.presentCode))) return verify === undefined ? 'proof needed' : 'wrong'
      // Only now: a token that was found somewhere must not be good for trying passwords.
      if (code !== undefined) await proof.mayBe(code)
      const hash = code && (await hashPassword(code))
      // Of two who change it at once, the one who proved an older code loses.
      return (await store.replace(user.id, present?.hash, hash, clock.now())) ? 'changed' : 'meanwhile changed'
    },
  }
}

export type OwnCode = ReturnType<typeof createOwnCode>

/** Whether this can be a code: 4 to 64 characters, none of them invisible, and something to see. */
export function isUserCode(code: string): boolean {
  return /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]{4,64}$/u.test(code) && code.trim() === code
}
