import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import { createChangeTracker, type Snapshot } from '../../platform/storage/change-tracker.ts'
import type { Database } from '../../platform/storage/database.ts'
import { isNotOver } from '../../platform/storage/stored-period.ts'

export type UnknownUserStore = ReturnType<typeof createUnknownUserStore>

/** The period over which `unknown_user_id` errors are counted, in milliseconds. It begins with the first error. */
const minute = 60_000

const isCounting = isNotOver({ begin: 'unknown_users.since', length: minute }, '$3')

/** Maximum number of cached clients. When it is reached, the cache is cleared. */
const mostKnown = 10_000

/**
 * Counts how often each client got `unknown_user_id` within a minute, measured by the clock of the database. Each new
 * count is announced under the topic `unknown_user`.
 */
export function createUnknownUserStore(database: Database) {
  /** Clients that were below their limit when their counter was read. */
  const belowLimit = new Map<string, { snapshot: Snapshot; most: number }>()
  const changes = createChangeTracker(database, 'unknown_user', (clientId) => {
    if (clientId === '') belowLimit.clear()
    else belowLimit.delete(clientId)
  })

  function isBelowLimit(clientId: string, most: number): boolean {
    const known = belowLimit.get(clientId)
    return known !== undefined && known.most <= most && changes.isUnchangedSince(known.snapshot, clientId)
  }

  return {
    /**
     * Resolves to the time until which a client with at least `most` errors has to wait. Resolves to undefined if the
     * client has fewer errors.
     */
    async pausedUntil(clientId: string, most: number, now: number): Promise<number | undefined> {
      if (isBelowLimit(clientId, most)) return undefined
      const snapshot = changes.snapshot()
      const [row] = await database.read<{ since: number }>(
        `select since from unknown_users where client_id = $1 and told >= cast($2 as bigint) and ${isCounting}`,
        [clientId, most, now],
      )
      if (row !== undefined) return row.since + minute
      if (belowLimit.size >= mostKnown) belowLimit.clear()
      belowLimit.set(clientId, { snapshot, most })
      return undefined
    },

    /**
     * Counts one more `unknown_user_id`. Resolves to whether the client may get this error. The client gets the error
     * at most `most` times in a minute, even with concurrent calls.
     */
    async tell(clientId: string, most: number, now: number): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `insert into unknown_users (client_id, told, since) values ($1, 1, $3)
                on conflict (client_id) do update set
                  told = case when ${isCounting} then unknown_users.told + 1 else 1 end,
                  since = case when ${isCounting} then unknown_users.since else excluded.since end
                where unknown_users.told < cast($2 as bigint) or not ${isCounting}
                returning client_id`,
          values: [clientId, most, now],
        },
        { announce: [{ topic: 'unknown_user', key: clientId }], rowKeys: [`unknown users ${clientId}`] },
      )
      return rows.length > 0
    },

    /** Removes at most `atMost` counters whose period is over. Resolves to the number of removed counters. */
    async forgetOld(now: number, atMost: number): Promise<number> {
      const over = { where: 'since <= $1', by: 'since', values: [now - minute] }
      const old = { table: 'unknown_users', key: 'client_id', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}
