import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Database } from '../../platform/storage/database.ts'
import { isNotOver } from '../../platform/storage/stored-period.ts'

export type RegistrationAttemptStore = ReturnType<typeof createRegistrationAttemptStore>

/**
 * The period of a counter, in milliseconds. It starts with the first attempt. The first attempt after its end starts a
 * new period and a new count.
 */
const hourMs = 3600_000

/** Returns the SQL condition that the period of this row's counter is not over at the time `$2`. */
const isCounting = (row: string) => isNotOver({ begin: `${row}.since`, length: hourMs }, '$2')
const known = isCounting('registration_attempts')

/**
 * Counts the attempts to register clients, separately for each network. All times are times of the database's clock.
 */
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
                where spent.network = each.value and spent.attempts >= cast($3 as bigint) and ${isCounting('spent')}
              )
              on conflict (network) do update set
                attempts = case when ${known} then registration_attempts.attempts + 1 else 1 end,
                since = case when ${known} then registration_attempts.since else excluded.since end
              where registration_attempts.attempts < cast($3 as bigint) or not ${known}
              returning network`,
        values: [JSON.stringify(networks), now, most],
      }
      const rowKeys = networks.map((network) => `registration attempts ${network}`)
      return (await database.step(first, { rowKeys })).length === networks.length
    },

    /** Removes at most `atMost` counters whose period is over. Resolves to the number removed. */
    async forgetOld(now: number, atMost: number): Promise<number> {
      const over = { where: 'since <= $1', by: 'since', values: [now - hourMs] }
      const old = { table: 'registration_attempts', key: 'network', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}
