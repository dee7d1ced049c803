import type { Database, Statement } from '../../platform/storage/database.ts'
import { isSignedIn, signOutLock } from '../../user/token-validity-store.ts'
import type { Pair } from '../authentication-request/open-request-store.ts'

export type BlockedClientStore = ReturnType<typeof createBlockedClientStore>

/** Stores which user has blocked which client. */
export function createBlockedClientStore(database: Database) {
  return {
    /**
     * Resolves to whether every request of the client for the user is refused: the user has blocked the client, or is
     * locked, removed or erased.
     */
    async isRefused(userId: string, clientId: string): Promise<boolean> {
      const rows = await database.read(
        `select user_id from blocked_clients where user_id = $1 and client_id = $2
         union all select user_id from user_generations where user_id = $1 and is_closed = 1`,
        [userId, clientId],
      )
      return rows.length > 0
    },

    /** Resolves to the ids of all clients that the user has blocked. */
    async blockedBy(userId: string): Promise<ReadonlySet<string>> {
      const rows = await database.read<{ client_id: string }>(
        'select client_id from blocked_clients where user_id = $1',
        [userId],
      )
      return new Set(rows.map((row) => row.client_id))
    },

    /** Returns the statement that blocks a client, for the transaction of a block or a report by the user. */
    blocking,

    /**
     * Unblocks a client. If the client was blocked, also clears its pause after denials. Resolves to false, and changes
     * nothing, if the access token is not valid any more.
     */
    async unblock({ userId, clientId, tokenHash }: Pair): Promise<boolean> {
      const values = [userId, clientId]
      const ofBlocked = `delete from denial_pauses where user_id = $1 and client_id = $2
        and exists (select 1 from blocked_clients where user_id = $1 and client_id = $2)`
      const rows = await database.step(
        { sql: `select 1 as present where ${isSignedIn('$1')}`, values: [tokenHash ?? null] },
        {
          also: [
            { sql: ofBlocked, values },
            { sql: 'delete from blocked_clients where user_id = $1 and client_id = $2', values },
          ],
          lockKeys: signOutLock(userId),
        },
      )
      return rows.length > 0
    },
  }
}

function blocking(userId: string, clientId: string, now: number): Statement {
  return {
    sql: `insert into blocked_clients (user_id, client_id, blocked_at) values ($1, $2, $3)
          on conflict (user_id, client_id) do nothing returning user_id`,
    values: [userId, clientId, now],
  }
}
