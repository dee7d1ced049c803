import { fingerprint } from '../secret.ts'
import type { Database } from '../storage/database.ts'

export type UsedAssertionStore = ReturnType<typeof createUsedAssertionStore>

/** Which client assertions have been seen, on any node, until they expire. */
export function createUsedAssertionStore(database: Database) {
  return {
    /** Marks an assertion as used. Answers whether this was the first time. @param expiresAt milliseconds since 1970 */
    async use(clientId: string, jti: string, expiresAt: number): Promise<boolean> {
      const rows = await database.step({
        sql: `insert into used_assertions (client_id, jti_hash, expires_at) values ($1, $2, $3)
              on conflict (client_id, jti_hash) do nothing returning client_id`,
        values: [clientId, fingerprint(jti), expiresAt],
      })
      return rows.length > 0
    },

    /** Removes those that ran out before `before`, at most so many. */
    async forgetExpired(before: number, atMost: number): Promise<number> {
      const rows = await database.step({
        sql: `with old as materialized (
                select client_id, jti_hash from used_assertions where expires_at < $1
                order by expires_at limit $2 /* for update skip locked */
              )
              delete from used_assertions where (client_id, jti_hash) in (select client_id, jti_hash from old)
              returning client_id`,
        values: [before, atMost],
      })
      return rows.length
    },
  }
}
