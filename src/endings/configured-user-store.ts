import type { Database } from '../platform/storage/database.ts'

/** Stores the ids of the users in the configuration, so that a later start notices which users were removed from it. */
export function createConfiguredUserStore(database: Database) {
  return {
    async list(): Promise<string[]> {
      const rows = await database.read<{ user_id: string }>('select user_id from configured_users')
      return rows.map((row) => row.user_id)
    },

    async add(userIds: readonly string[], now: number): Promise<void> {
      await database.step({
        sql: `insert into configured_users (user_id, since)
              select user_id, cast(since as bigint) from rows($1) as named (user_id text, since bigint) where true
              on conflict (user_id) do nothing returning user_id`,
        rows: userIds.map((userId) => ({ user_id: userId, since: now })),
      })
    },

    /**
     * Unlocks users that the configuration lists or enables again. Their former sessions, tokens and requests are not
     * restored.
     */
    async reopen(userIds: readonly string[], now: number): Promise<void> {
      await database.step({
        sql: `update user_generations set is_closed = 0, changed_at = $2, erased_at = null
              where is_closed = 1 and user_id in (select value from each($1)) returning user_id`,
        values: [JSON.stringify(userIds), now],
      })
    },
  }
}
