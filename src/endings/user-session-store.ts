import { noteSession, sessionKey, type UsedSession } from '../openid-provider/oidc-model-store.ts'
import { deleteOldest } from '../platform/storage/bounded-deletion.ts'
import { atMostRows, type Change, type Database, type Statement } from '../platform/storage/database.ts'
import type { RowOf } from '../platform/storage/row.ts'
import { byAge } from '../platform/storage/stored-period.ts'
import { isValid, signOutLock } from '../user/token-validity-store.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { endingGrants } from './session-ending-store.ts'

/** A session as the user sees it. Times are in milliseconds since 1970. */
export interface UserSession {
  id: string
  userId: string
  /** SHA-256 of the `uid` of the session at this provider. */
  uidHash: string
  /** The names of the browser and its operating system. */
  browser: string
  signedInAt: number
  seenAt: number
  expiresAt: number
}

/**
 * Maximum number of sessions of one user. A further sign-in ends the session that was not used for the longest time. If
 * two sign-ins at the same time end the same session, the user has one session too many. The next sign-in then ends two
 * sessions.
 */
export const mostSessions = 100
/** Upper limit for the sessions that one sign-in ends, reached only after an update from an earlier version. */
const mostEndedAtOnce = 20

export type UserSessionStore = ReturnType<typeof createUserSessionStore>

/** Lists the sessions of users, and ends them. */
export function createUserSessionStore(database: Database) {
  const generations = createUserGenerationStore(database)
  return {
    /** Records that a session was used. Resolves to whether the session exists. */
    async note(used: UsedSession): Promise<boolean> {
      return (await database.step(noteSession(used), { rowKeys: [sessionKey(used.uidHash)] })).length > 0
    },

    /**
     * Resolves to the valid sessions of a user, the most recently used first. The list contains the sessions from
     * sign-ins to all clients, not only to the consent app. The list is longer than `mostSessions` only if several
     * sign-ins happened at the same time.
     */
    async list(userId: string, now: number): Promise<UserSession[]> {
      const rows = await database.read<RowOf<UserSession>>(
        `select * from user_sessions where user_id = $1 and expires_at > $2 and exists (
           select 1 from oidc_models found
           where model = 'Session' and found.uid_hash = user_sessions.uid_hash and found.expires_at > $2 and ${isValid})
         order by seen_at desc, id desc ${atMostRows(2 * mostSessions)}`,
        [userId, now],
      )
      return rows.map((row) => ({
        id: row.id,
        userId: row.user_id,
        uidHash: row.uid_hash,
        browser: row.browser,
        signedInAt: row.signed_in_at,
        seenAt: row.seen_at,
        expiresAt: row.expires_at,
      }))
    },

    /**
     * Resolves to the sessions that must end when the session `uidHash` is stored, so that the user has at most
     * `mostSessions`. These are the sessions that were not used for the longest time.
     */
    async surplus(userId: string, uidHash: string, now: number): Promise<Pick<UserSession, 'id' | 'uidHash'>[]> {
      const rows = await database.read<Pick<RowOf<UserSession>, 'id' | 'uid_hash'>>(
        `select id, uid_hash from user_sessions where user_id = $1 and uid_hash <> $2
         order by ${byAge({ storedAt: 'seen_at' }, '$3')} desc, id desc
         ${atMostRows(mostEndedAtOnce)} offset ${mostSessions - 1}`,
        [userId, uidHash, now],
      )
      return rows.map(({ id, uid_hash }) => ({ id, uidHash: uid_hash }))
    },

    /**
     * Ends one session of a user: its tokens become invalid, and the push subscriptions of its browser are removed.
     * Resolves to whether the user had this session.
     */
    async end(userId: string, id: string, now: number, announce: Change[]): Promise<boolean> {
      const rows = await database.step<{ uid_hash: string }>(
        {
          sql: 'delete from user_sessions where user_id = $1 and id = $2 returning uid_hash',
          values: [userId, id],
        },
        {
          also: (ended) => ended.flatMap(({ uid_hash }) => ending(userId, uid_hash, now)),
          announce,
          lockKeys: signOutLock(userId),
        },
      )
      return rows.length > 0
    },

    /**
     * Ends all sessions of a user, from sign-ins to all clients. Also removes the grants and tokens of these sessions,
     * and the user's push subscriptions. Approvals of authentication requests stay valid, because users can revoke them
     * in the list of approvals. A new generation of the user begins, so that sign-ins in progress fail and no browser
     * counts as known (`known-browsers.ts`). The grants of approvals are moved to the new generation.
     */
    async endAll(userId: string, now: number, announce: Change[]): Promise<void> {
      const also: Statement[] = [
        generations.next(userId, { closes: false, refusesUntil: undefined }),
        {
          sql: `insert into ended_sessions (uid_hash, ended_at)
                select uid_hash, cast($2 as bigint) from oidc_models
                where user_id = $1 and model = 'Session' and uid_hash is not null
                on conflict (uid_hash) do nothing`,
          values: [userId, now],
        },
        {
          sql: `delete from oidc_models where grant_hash in (
                  select id_hash from oidc_models where user_id = $1 and model = 'Grant' and request_id is null)`,
          values: [userId],
        },
        {
          sql: `delete from oidc_models where user_id = $1 and model in ('Session', 'Grant') and request_id is null`,
          values: [userId],
        },
        {
          // Moves the tokens of approvals to the new generation, for nodes of earlier versions, which check the
          // generation of each token. This version checks the generation of the grant instead (see `isValid`).
          sql: `update oidc_models ${toNewGeneration} and grant_hash in (
                  select id_hash from oidc_models where user_id = $1 and model = 'Grant')`,
          values: [userId],
        },
        {
          sql: `update oidc_models ${toNewGeneration} and oidc_models.user_id = $1 and model = 'Grant'`,
          values: [userId],
        },
        { sql: 'delete from user_sessions where user_id = $1', values: [userId] },
        { sql: 'delete from push_subscriptions where user_id = $1', values: [userId] },
      ]
      await database.step(
        { sql: lockingOpenRequests, values: [userId] },
        { also, announce, lockKeys: signOutLock(userId) },
      )
    },

    /**
     * Removes at most `atMost` sessions that expired before `before` (milliseconds since 1970). Resolves to the number
     * of removed sessions.
     */
    async forget(before: number, atMost: number): Promise<number> {
      const expired = { where: 'expires_at < $1', by: 'expires_at', values: [before] }
      const old = { table: 'user_sessions', key: 'id', ...expired }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}

function ending(userId: string, uidHash: string, now: number): Statement[] {
  return [
    {
      sql: `insert into ended_sessions (uid_hash, ended_at) values ($1, $2) on conflict (uid_hash) do nothing`,
      values: [uidHash, now],
    },
    { sql: `delete from oidc_models where model = 'Session' and uid_hash = $1`, values: [uidHash] },
    ...endingGrants([uidHash]),
    {
      // A subscription that an earlier version stored has no `uid_hash`. Such a subscription is removed too, because it
      // may belong to this session.
      sql: 'delete from push_subscriptions where user_id = $1 and (uid_hash = $2 or uid_hash is null)',
      values: [userId, uidHash],
    },
  ]
}

/**
 * Locks the open requests of a user (`$1`). A redemption first changes its request, then stores the grant. So this
 * statement waits for a redemption that is in progress, and the later statements find the grant. A redemption that
 * begins later waits for the commit, and stores its grant with the new generation. The statement returns one row,
 * because the first statement of a step (a transaction) must return a row.
 */
const lockingOpenRequests = `
  with open as materialized (
    select id from backchannel_auth_requests where user_id = $1 and status in ('pending', 'approved')
    order by id /* for update */
  )
  select count(*) as locked from open`

/**
 * SQL: moves rows of the user `$1` to the generation that has just begun. Only rows of the previous generation are
 * moved. Rows of earlier generations were not valid, and must not become valid again.
 */
const toNewGeneration = `set user_generation = user_generations.generation
  from user_generations
  where user_generations.user_id = $1 and user_generation = user_generations.generation - 1`
