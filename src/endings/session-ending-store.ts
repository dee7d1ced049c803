import type { Change, Database } from '../platform/storage/database.ts'

/** All by SHA-256. */
export interface SessionRows {
  /** The provider's sessions, by their `uid`. */
  sessions: string[]
  /** What hangs on these goes with them. */
  grants: string[]
  tokens: string[]
  /** Endpoints of push subscriptions. */
  endpoints: string[]
}

export type SessionEndingStore = ReturnType<typeof createSessionEndingStore>

export function createSessionEndingStore(database: Database) {
  return {
    /** Ends all of it in one step. What is gone already stays gone. */
    async end({ sessions, grants, tokens, endpoints }: SessionRows, now: number, announce: Change[]): Promise<void> {
      const [sessionList, grantList, tokenList, endpointList] = [sessions, grants, tokens, endpoints].map((hashes) =>
        JSON.stringify(hashes),
      ) as [string, string, string, string]
      const also = [
        {
          sql: `insert into ended_sessions (uid_hash, ended_at)
                select value, cast($2 as bigint) from each($1) where true on conflict (uid_hash) do nothing`,
          values: [sessionList, now],
        },
        {
          sql: `delete from oidc_models where model = 'Session' and uid_hash in (select value from each($1))`,
          values: [sessionList],
        },
        { sql: 'delete from oidc_models where grant_hash in (select value from each($1))', values: [grantList] },
        {
          sql: `delete from oidc_models where model = 'Grant' and id_hash in (select value from each($1))`,
          values: [grantList],
        },
        {
          sql: `delete from oidc_models where model = 'AccessToken' and id_hash in (select value from each($1))`,
          values: [tokenList],
        },
        { sql: 'delete from user_sessions where uid_hash in (select value from each($1))', values: [sessionList] },
        {
          sql: 'delete from push_subscriptions where endpoint_hash in (select value from each($1))',
          values: [endpointList],
        },
      ]
      // Nothing decides: whoever ends a session that has ended meanwhile has what they want.
      await database.step({ sql: 'select 1 as one', values: [] }, { also, announce })
    },

    /** Removes what ended before `before`. */
    async forget(before: number): Promise<number> {
      const rows = await database.step({
        sql: 'delete from ended_sessions where ended_at < $1 returning uid_hash',
        values: [before],
      })
      return rows.length
    },
  }
}
