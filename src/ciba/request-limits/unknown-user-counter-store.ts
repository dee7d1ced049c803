import { createChangeTracker, type Snapshot } from '../../platform/storage/change-tracker.ts'
import type { Database } from '../../platform/storage/database.ts'

export type UnknownUserStore = ReturnType<typeof createUnknownUserStore>

/** Milliseconds over which is counted, from the first. */
const minute = 60_000

/** Clients that are known not to have to wait; of more, all are looked up anew. */
const mostKnown = 10_000

/** How often clients were told that nobody is there. Each time is announced under the topic `unknown_user`. */
export function createUnknownUserStore(database: Database) {
  /** Who did not have to wait when it was looked up, and has been told nothing since. */
  const free = new Map<string, { snapshot: Snapshot; most: number }>()
  const changes = createChangeTracker(database, 'unknown_user', (clientId) => {
    if (clientId === '') free.clear()
    else free.delete(clientId)
  })

  function isFree(clientId: string, most: number): boolean {
    const known = free.get(clientId)
    return known !== undefined && known.most <= most && changes.isUnchangedSince(known.snapshot, clientId)
  }

  return {
    /** Until when a client has to wait that was told `most` times; nothing if it need not. */
    async pausedUntil(clientId: string, most: number, now: number): Promise<number | undefined> {
      if (isFree(clientId, most)) return undefined
      const snapshot = changes.snapshot()
      const [row] = await database.read<{ since: number }>(
        'select since from unknown_users where client_id = $1 and told >= cast($2 as bigint) and since > $3',
        [clientId, most, now - minute],
      )
      if (row !== undefined) return row.since + minute
      if (free.size >= mostKnown) free.clear()
      free.set(clientId, { snapshot, most })
      return undefined
    },

    /** Accounts for telling it once more. Of many at once no more than `most` may. @returns whether this one may */
    async tell(clientId: string, most: number, now: number): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `insert into unknown_users (client_id, told, since) values ($1, 1, $2)
                on conflict (client_id) do update set
                  told = case when unknown_users.since <= $3 then 1 else unknown_users.told + 1 end,
                  since = case when unknown_users.since <= $3 then excluded.since else unknown_users.since end
                where unknown_users.told < cast($4 as bigint) or unknown_users.since <= $3
                returning client_id`,
          values: [clientId, now, now - minute, most],
        },
        { announce: [{ topic: 'unknown_user', key: clientId }] },
      )
      return rows.length > 0
    },

    async forgetOld(now: number): Promise<number> {
      const rows = await database.step({
        sql: 'delete from unknown_users where since <= $1 returning client_id',
        values: [now - minute],
      })
      return rows.length
    },
  }
}
