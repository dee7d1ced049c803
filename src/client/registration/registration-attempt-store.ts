import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Database } from '../../platform/storage/database.ts'

export type RegistrationAttemptStore = ReturnType<typeof createRegistrationAttemptStore>

/**
 * Milliseconds for which attempts are counted. The time starts with the first attempt. After it, the count starts
 * again.
 */
const hourMs = 3600_000

/** Counts the attempts to register clients, separately for each network. */
export function createRegistrationAttemptStore(database: Database) {
  return {
    /**
     * Counts one attempt for each of the networks. Counts nothing if one of the networks has already had `most`
     * attempts within the hour. Simultaneous attempts cannot exceed this limit.
     *
     * @param networks keyed hashes of the networks
     * @returns whether the attempt is allowed
     */
    async count(networks: readonly string[], most: number, now: number): Promise<boolean> {
      const first = {
        sql: `insert into registration_attempts (network, attempts, since)
              select each.value, 1, cast($2 as bigint) from each($1)
              where not exists (
                select 1 from registration_attempts as spent, each($1)
                where spent.network = each.value and spent.attempts >= cast($4 as bigint) and spent.since > $3
              )
              on conflict (network) do update set
                attempts = case when registration_attempts.since <= $3 then 1 else registration_attempts.attempts + 1 end,
                since = case when registration_attempts.since <= $3 then excluded.since else registration_attempts.since end
              where registration_attempts.attempts < cast($4 as bigint) or registration_attempts.since <= $3
              returning network`,
        values: [JSON.stringify(networks), now, now - hourMs, most],
      }
      const rowKeys = networks.map((network) => `registration attempts ${network}`)
      return (await database.step(first, { rowKeys })).length === networks.length
    },

    /** Removes at most `atMost` counters whose time is over. Resolves to their number. */
    async forgetOld(now: number, atMost: number): Promise<number> {
      const over = { where: 'since <= $1', by: 'since', values: [now - hourMs] }
      const old = { table: 'registration_attempts', key: 'network', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}
