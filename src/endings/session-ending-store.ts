import { deleteOldest } from '../platform/storage/bounded-deletion.ts'
import type { Change, Database, Statement } from '../platform/storage/database.ts'
import { signOutLock } from '../user/token-validity-store.ts'

/** The rows to remove when sessions end. All values are SHA-256 hashes, except `users`. */
export interface SessionRows {
  /** Hashes of the `uid`s of sessions at this provider. */
  sessions: string[]
  /** Hashes of the ids of grants. Everything that was issued under such a grant is also removed. */
  grants: string[]
  tokens: string[]
  /** Hashes of the endpoints of push subscriptions. */
  endpoints: string[]
  /** The ids of the users of these sessions. */
  users: string[]
}

export type SessionEndingStore = ReturnType<typeof createSessionEndingStore>

/** Removes sessions that end, and the grants, tokens and push subscriptions that belong to these sessions. */
export function createSessionEndingStore(database: Database) {
  /**
   * Removes push subscriptions by their endpoints, if no session was found. Writes nothing if there are no such
   * subscriptions.
   */
  async function unsubscribe(endpoints: string[]): Promise<void> {
    if (endpoints.length === 0) return
    await database.step({
      sql: 'delete from push_subscriptions where endpoint_hash in (select value from each($1)) returning id',
      values: [JSON.stringify(endpoints)],
    })
  }

  return {
    /**
     * Records that the sessions have ended, and removes the rows that `rows` identifies, in one transaction. Rows that
     * do not exist are skipped.
     */
    async end(rows: SessionRows, now: number, announce: Change[]): Promise<void> {
      const { sessions, grants, tokens, endpoints, users } = rows
      if ([sessions, grants, tokens].every((hashes) => hashes.length === 0)) return unsubscribe(endpoints)
      const [grantList, tokenList, endpointList] = [grants, tokens, endpoints].map((hashes) =>
        JSON.stringify(hashes),
      ) as [string, string, string]
      const also = [
        ...endingSessions(sessions, now),
        { sql: 'delete from oidc_models where grant_hash in (select value from each($1))', values: [grantList] },
        {
          sql: `delete from oidc_models where model = 'Grant' and id_hash in (select value from each($1))`,
          values: [grantList],
        },
        {
          sql: `delete from oidc_models where model = 'AccessToken' and id_hash in (select value from each($1))`,
          values: [tokenList],
        },
        {
          sql: 'delete from push_subscriptions where endpoint_hash in (select value from each($1))',
          values: [endpointList],
        },
      ]
      // `also` is executed only if the first statement returns a row. Here the first statement always returns a row,
      // because the result is the same if another call has already ended the session.
      await database.step({ sql: 'select 1 as one', values: [] }, { also, announce, lockKeys: users.map(signOutLock) })
    },

    /**
     * Removes at most `atMost` records of sessions that ended before `before` (milliseconds since 1970). Resolves to
     * the number of removed records.
     */
    async forget(before: number, atMost: number): Promise<number> {
      const over = { where: 'ended_at < $1', by: 'ended_at', values: [before] }
      const old = { table: 'ended_sessions', key: 'uid_hash', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}

/**
 * Returns the statements that record the end of sessions and remove the sessions. The statements also remove the tokens
 * of the sessions, the grants of these tokens, and the push subscriptions of the browsers.
 *
 * @param sessions the hashes of the `uid`s of the sessions
 */
export function endingSessions(sessions: string[], now: number): Statement[] {
  const list = JSON.stringify(sessions)
  return [
    {
      sql: `insert into ended_sessions (uid_hash, ended_at)
            select value, cast($2 as bigint) from each($1) where true on conflict (uid_hash) do nothing`,
      values: [list, now],
    },
    {
      sql: `delete from oidc_models where model = 'Session' and uid_hash in (select value from each($1))`,
      values: [list],
    },
    ...endingGrants(sessions),
    { sql: 'delete from user_sessions where uid_hash in (select value from each($1))', values: [list] },
    { sql: 'delete from push_subscriptions where uid_hash in (select value from each($1))', values: [list] },
  ]
}

/**
 * Returns the statements that remove the grants under which the tokens of these sessions were issued, and everything
 * else that was issued under these grants. A refresh that is in progress stores its tokens later. These tokens are
 * invalid, because their grant does not exist any more.
 *
 * @param sessions the hashes of the `uid`s of the sessions
 */
export function endingGrants(sessions: string[]): Statement[] {
  const values = [JSON.stringify(sessions)]
  return [
    { sql: `delete from oidc_models where model = 'Grant' and id_hash in (${grantsOfSessions})`, values },
    { sql: `delete from oidc_models where grant_hash in (${grantsOfSessions})`, values },
  ]
}

const grantsOfSessions = `select issued.grant_hash from oidc_models issued
  where issued.uid_hash in (select value from each($1)) and issued.grant_hash is not null`
