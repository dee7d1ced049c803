import { fingerprint } from '../../platform/crypto.ts'
import { writeBatch } from '../../platform/storage/batch.ts'
import { atMostRows, type Database } from '../../platform/storage/database.ts'

type Used = { client_id: string; jti_hash: string; expires_at: number }

export type UsedAssertionStore = ReturnType<typeof createUsedAssertionStore>

/**
 * The client assertions and DPoP proofs that were used at any node. Each is stored at least until it is no longer
 * valid.
 */
export function createUsedAssertionStore(database: Database) {
  const mark = writeBatch<Used, boolean>({
    conflictKeys: ({ client_id, jti_hash }) => [`${client_id} ${jti_hash}`],
    async execute(rows) {
      const first = await database.step<Used>({
        sql: `insert into used_assertions (client_id, jti_hash, expires_at)
              select client_id, jti_hash, expires_at
              from rows($1) as used (client_id text, jti_hash text, expires_at bigint) where true
              on conflict (client_id, jti_hash) do nothing returning client_id, jti_hash`,
        rows,
      })
      const marked = new Set(first.map(({ client_id, jti_hash }) => `${client_id} ${jti_hash}`))
      return rows.map(({ client_id, jti_hash }) => marked.has(`${client_id} ${jti_hash}`))
    },
  })

  return {
    /**
     * Marks an assertion or a proof as used. Resolves to whether this was the first use.
     *
     * @param expiresAt milliseconds since 1970
     */
    use: (clientId: string, jti: string, expiresAt: number): Promise<boolean> =>
      mark({ client_id: clientId, jti_hash: fingerprint(jti), expires_at: expiresAt }),

    /**
     * Removes at most `atMost` assertions and proofs that expired before `before` (milliseconds since 1970). Resolves
     * to the number removed.
     */
    async forgetExpired(before: number, atMost: number): Promise<number> {
      const rows = await database.step({
        sql: `with old as materialized (
                select client_id, jti_hash from used_assertions where expires_at < $1
                order by expires_at ${atMostRows(atMost)} /* for update skip locked */
              )
              delete from used_assertions where (client_id, jti_hash) in (select client_id, jti_hash from old)
              returning client_id`,
        values: [before],
      })
      return rows.length
    },
  }
}
