/**
 * Builds the parts for users, for their passwords, user codes and passkeys, and for finding the user that a hint
 * identifies.
 */
import { accountKindsOf, createNoticesOfChange } from '../authentication-device/channels/account-notice.ts'
import { createFindUser, createSeekUser } from '../ciba/user-hint/find-user.ts'
import { createReadHintToken } from '../ciba/user-hint/hint-token.ts'
import { endUnnamedUsers } from '../endings/configured-users.ts'
import { createEndUser, erasedAs } from '../endings/end-user.ts'
import { createErasureStore } from '../endings/erasure-store.ts'
import { createFairQueue, type FairQueue } from '../platform/http/fair-queue.ts'
import { createSignInAttemptStore } from '../user/attempts/sign-in-attempt-store.ts'
import { createPasswordTryThrottle, createSignInThrottle } from '../user/attempts/sign-in-throttle.ts'
import { createPasskeys } from '../user/passkey/passkey.ts'
import { createPasskeyChallengeStore } from '../user/passkey/passkey-challenge-store.ts'
import { createPasskeyStore } from '../user/passkey/passkey-store.ts'
import { createPasswordCheck, passwordCheckOfHook } from '../user/password/password-check.ts'
import { createPasswordHashing, type PasswordHashing, type PasswordParts } from '../user/password/password-hashing.ts'
import { createScryptThreads, HASHES_AT_ONCE } from '../user/password/scrypt-threads.ts'
import type { UserHooks } from '../user/user.ts'
import {
  createCodeDirectory,
  createCodesOfHooks,
  createOwnCode,
  hasUserCodes,
  noCodes,
} from '../user/user-code/user-code.ts'
import { createUserCodeStore } from '../user/user-code/user-code-store.ts'
import { createUserDirectory } from '../user/user-directory.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { createUserHooks } from '../user/user-hooks.ts'
import { createUserStore } from '../user/user-store.ts'
import type { Clients } from './clients.ts'
import type { Outbox } from './outbox.ts'
import type { Platform } from './platform.ts'
import type { SigningKeys } from './signing-keys.ts'

export type Users = Awaited<ReturnType<typeof composeUsers>>

/**
 * Builds the parts for users. Also removes users who are no longer in the configuration, and locks users whom the
 * configuration disables.
 */
export async function composeUsers(platform: Platform, { enqueue }: Outbox, parts: PasswordParts = {}) {
  const { atOnce = HASHES_AT_ONCE, ...hashingParts } = parts
  const { config, database, vault, onUnreadable, clock, log, audit } = platform
  const store = createUserStore(database, onUnreadable)
  const endUser = createEndUser({ database, vault, clock, log, audit })
  const noticesOfChange = createNoticesOfChange({ kinds: accountKindsOf(config), vault, clock })
  if (Array.isArray(config.users)) {
    await endUnnamedUsers(config.users, { database, endUser, noticesOfChange, vault, now: clock.now() })
  }
  const scryptThreads = createScryptThreads(atOnce)
  const hashing = createPasswordHashing({ vault, scrypt: scryptThreads.scrypt, ...hashingParts })
  // If an application supplies the users, the queue has no limit. The application checks the passwords itself, so it
  // must also limit how many passwords it checks at the same time.
  const credentialQueue = createFairQueue(Array.isArray(config.users) ? atOnce : Number.POSITIVE_INFINITY, clock)
  const users: UserHooks = Array.isArray(config.users)
    ? createUserDirectory(config.users, store, config.issuer)
    : createUserHooks(config.users)
  const challenges = createPasskeyChallengeStore(database)

  return {
    users,
    store,
    usedIdsOf: (userId: string) => [userId, erasedAs(userId, vault)],
    findUser: users.find.bind(users),
    generations: createUserGenerationStore(database),
    endUser,
    erasures: createErasureStore(database, (userId) => erasedAs(userId, vault)),
    checkPassword: Array.isArray(config.users)
      ? createPasswordCheck(config.users, store, hashing)
      : passwordCheckOfHook(users),
    credentialQueue,
    passkeyChallenges: challenges,
    passkeys: createPasskeys({
      store: createPasskeyStore(database, enqueue, onUnreadable),
      challenges,
      issuer: config.issuer,
      clock,
    }),
    ...composeAttempts(platform),
    ...composeUserCodes(platform, users, { hashing, queue: credentialQueue, enqueue }),
    close: () => scryptThreads.close(),
  }
}

/** Builds the limits on sign-in attempts. */
function composeAttempts({ config, database, vault, databaseClock }: Platform) {
  const { signIn: limits } = config.limits
  const { pause, longestPause } = limits
  const attempts = createSignInAttemptStore(database, { first: pause * 1000, longest: longestPause * 1000 })
  const needs = { attempts, limits, vault, databaseClock }
  return {
    signInAttempts: attempts,
    signInThrottle: createSignInThrottle(needs),
    passwordTryThrottle: createPasswordTryThrottle(needs),
  }
}

/**
 * Builds the part for user codes. In the built-in directory, users manage their codes themselves. If an application
 * supplies the users, the application manages the codes.
 */
function composeUserCodes(
  { config, database, clock, databaseClock }: Platform,
  users: UserHooks,
  { hashing, queue, enqueue }: { hashing: PasswordHashing; queue: FairQueue; enqueue: Outbox['enqueue'] },
) {
  const store = createUserCodeStore(database, enqueue)
  const codeOf = Array.isArray(config.users)
    ? createCodeDirectory(config.users, store, hashing)
    : hasUserCodes(users)
      ? createCodesOfHooks(users)
      : noCodes
  const { lockSeconds, ...limits } = config.userCodes
  const tryLimits = { ...limits, lockFor: lockSeconds * 1000 }
  const needs = { codeOf, tries: store, limits: tryLimits, hashing, queue, databaseClock }
  return {
    userCodes: store,
    hasUserCodes: codeOf !== noCodes,
    codeNeeds: needs,
    ownCode: Array.isArray(config.users) ? createOwnCode({ ...needs, store, clock }) : undefined,
  }
}

export type UserHints = ReturnType<typeof composeUserHints>

/** Builds the functions that find the user whom a hint identifies. */
export function composeUserHints(platform: Platform, users: Users, { pairwise }: Clients, signingKeys: SigningKeys) {
  const { config, clock, profile } = platform
  const { tokenIssuers } = config.hints
  const readHintToken = () =>
    createReadHintToken({
      tokenIssuers,
      audience: config.issuer,
      algorithms: profile.clientSigning,
      keySets: platform.openKeySets(),
      clock,
    })
  const seekUser = createSeekUser({
    users: users.users,
    issuer: config.issuer,
    publicKeys: async () => ({ keys: signingKeys.watch.now().public }),
    userOfSubject: ({ metadata }, subject) => pairwise.userFor(metadata, subject),
    readHintToken: tokenIssuers.length === 0 ? undefined : readHintToken(),
    clock,
  })
  return { seekUser, findUserByHint: createFindUser(seekUser) }
}
