import { fingerprint } from '../../platform/crypto.ts'
import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Database, SingleStatement } from '../../platform/storage/database.ts'

export type InitialAccessStore = ReturnType<typeof createInitialAccessStore>

/** Initial access tokens (RFC 7591 §3). */
export function createInitialAccessStore(database: Database) {
  return {
    async add(token: string, uses: number, now: number, expiresAt: number): Promise<void> {
      await database.step({
        sql: `insert into initial_access_tokens (token_hash, created_at, expires_at, uses_left)
              values ($1, $2, $3, $4) returning token_hash`,
        values: [fingerprint(token), now, expiresAt, uses],
      })
    },

    /**
     * Returns the statement that counts one use of the token, if the token has not expired and has a use left. It is
     * the first statement of the transaction that adds the client. So only one of two simultaneous registrations gets
     * the last use.
     */
    use: (token: string, now: number): SingleStatement => ({
      sql: `update initial_access_tokens set uses_left = uses_left - 1
            where token_hash = $1 and uses_left > 0 and expires_at > $2 returning token_hash`,
      values: [fingerprint(token), now],
    }),

    /**
     * Whether the token can be used now. This is checked before the metadata is read, so that a call with an invalid
     * token is refused first.
     */
    async isGood(token: string, now: number): Promise<boolean> {
      const rows = await database.read(
        'select uses_left from initial_access_tokens where token_hash = $1 and uses_left > 0 and expires_at > $2',
        [fingerprint(token), now],
      )
      return rows.length > 0
    },

    /** Removes at most `atMost` expired tokens. Resolves to the number removed. */
    async forgetExpired(now: number, atMost: number): Promise<number> {
      const expired = { where: 'expires_at < $1', by: 'expires_at', values: [now] }
      const old = { table: 'initial_access_tokens', key: 'token_hash', ...expired }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}
