import type { Database } from '../../platform/storage/database.ts'

export type RegistrationAttemptStore = ReturnType<typeof createRegistrationAttemptStore>

/** Milliseconds of the period in which attempts are counted, from the first. */
const hourMs = 3600_000

/** Counts attempts to register clients, by network. */
export function createRegistrationAttemptStore(database: Database) {
  return {
    /**
     * Counts one attempt in each of the networks, unless one of them had `most` within the hour. Of simultaneous
     * attempts, at most `most` succeed.
     *
     * @param networks hashes
     * @returns whether the attempt may be made
     */
    async count(networks: readonly string[], most: number, now: number): Promise<boolean> {
      const rows = await database.step({
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
      })
      return rows.length === networks.length
    },

    async forgetOld(now: number): Promise<void> {
      await database.step({
        sql: 'delete from registration_attempts where since <= $1 returning network',
        values: [now - hourMs],
      })
    },
  }
}
