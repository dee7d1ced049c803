/**
 * The tables from which the server deletes old rows once a minute. For each table, there is a row to insert and the
 * function that deletes old rows.
 */

import type { Forget } from '../../src/ciba/decision/expiry-sweep.ts'
import { createDenialPauseStore } from '../../src/ciba/request-limits/denial-pause-store.ts'
import { createUnknownUserStore } from '../../src/ciba/unknown-user/unknown-user-counter-store.ts'
import { createInitialAccessStore } from '../../src/client/registration/initial-access-token-store.ts'
import { createRegistrationAttemptStore } from '../../src/client/registration/registration-attempt-store.ts'
import { createSessionEndingStore } from '../../src/endings/session-ending-store.ts'
import { createUserSessionStore } from '../../src/endings/user-session-store.ts'
import type { Database, Value } from '../../src/platform/storage/database.ts'
import { createSignInAttemptStore } from '../../src/user/attempts/sign-in-attempt-store.ts'
import { createPasskeyChallengeStore } from '../../src/user/passkey/passkey-challenge-store.ts'
import { createUserCodeStore } from '../../src/user/user-code/user-code-store.ts'

interface OldRows {
  table: string
  forget: Forget
  /** Returns a row with this key and the time `at`. */
  row(key: string, at: number): Record<string, Value>
}

export const oldRowsIn = (database: Database): OldRows[] => [
  {
    table: 'passkey_challenges',
    forget: createPasskeyChallengeStore(database).forgetExpired,
    row: (key, at) => ({ challenge_hash: key, purpose: 'sign-in', expires_at: at }),
  },
  {
    table: 'initial_access_tokens',
    forget: createInitialAccessStore(database).forgetExpired,
    row: (key, at) => ({ token_hash: key, created_at: at, expires_at: at, uses_left: 1 }),
  },
  {
    table: 'registration_attempts',
    forget: createRegistrationAttemptStore(database).forgetOld,
    row: (key, at) => ({ network: key, attempts: 1, since: at }),
  },
  {
    table: 'denial_pauses',
    forget: createDenialPauseStore(database, { first: 1, longest: 1 }).forgetOver,
    row: (key, at) => ({ user_id: key, client_id: key, pause: 1, paused_until: at }),
  },
  {
    table: 'sign_in_attempts',
    forget: createSignInAttemptStore(database, { first: 1, longest: 1 }).forgetOld,
    row: (key, at) => ({ subject_hash: key, attempts: 1, paused_until: at, last_at: at }),
  },
  {
    table: 'unknown_users',
    forget: createUnknownUserStore(database).forgetOld,
    row: (key, at) => ({ client_id: key, told: 1, since: at }),
  },
  {
    table: 'user_code_tries',
    forget: createUserCodeStore(database).forgetTries,
    row: (key, at) => ({ counter: key, tries: 1, tried_at: at }),
  },
  {
    table: 'ended_sessions',
    forget: createSessionEndingStore(database).forget,
    row: (key, at) => ({ uid_hash: key, ended_at: at }),
  },
  {
    table: 'user_sessions',
    forget: createUserSessionStore(database).forget,
    row: (key, at) => ({
      id: key,
      user_id: key,
      uid_hash: key,
      browser: '',
      signed_in_at: at,
      seen_at: at,
      expires_at: at,
    }),
  },
]
