import type { Database, Statement } from '../platform/storage/database.ts'
import type { ConfiguredUser } from '../user/user.ts'
import { markingFormerPersons } from '../user/user-generation-store.ts'

/**
 * Stores the users of the configuration, with a keyed hash of each password. From these rows, the server finds out at
 * its next start which users were removed from the configuration, and which passwords were changed.
 */
export function createConfiguredUserStore(database: Database) {
  return {
    /**
     * Resolves to the hashes of the users' passwords, by user id. The hash of a user whom an earlier version stored is
     * undefined.
     */
    async list(): Promise<Map<string, string | undefined>> {
      const rows = await database.read<{ user_id: string; password_hash: string | null }>(
        'select user_id, password_hash from configured_users',
      )
      return new Map(rows.map((row) => [row.user_id, row.password_hash ?? undefined]))
    },

    /** Adds users. If an earlier version has stored a user without a hash, adds the hash of the password. */
    async add(users: readonly { id: string; passwordHash: string }[], now: number): Promise<void> {
      await database.step({
        sql: `insert into configured_users (user_id, since, password_hash)
              select user_id, cast(since as bigint), password_hash
              from rows($1) as named (user_id text, since bigint, password_hash text) where true
              on conflict (user_id) do update set password_hash = excluded.password_hash
              where configured_users.password_hash is null returning user_id`,
        rows: users.map(({ id, passwordHash }) => ({ user_id: id, since: now, password_hash: passwordHash })),
      })
    },

    /** Returns the statement that stores a changed password, for the transaction that ends the user's sessions. */
    settingPassword: (userId: string, passwordHash: string): Statement => ({
      sql: 'update configured_users set password_hash = $2 where user_id = $1',
      values: [userId, passwordHash],
    }),

    /**
     * Unlocks users whom the configuration lists or enables again. The sessions, tokens and requests that they had
     * before are not restored. If a user was removed, the decisions made before the removal are shown again only if
     * `same_person` is set.
     */
    async reopen(users: readonly Pick<ConfiguredUser, 'id' | 'same_person'>[], now: number): Promise<void> {
      const reopening = {
        sql: `update user_generations set is_closed = 0, changed_at = $2, erased_at = null
              where is_closed = 1 and user_id in (select value from each($1)) returning user_id`,
        values: [idsOf(users), now],
      }
      await database.step(reopening, {
        also: [
          ...markingFormerPersons(idsOf(users.filter(({ same_person }) => !same_person))),
          {
            sql: 'update user_generations set removed_at = null where user_id in (select value from each($1))',
            values: [idsOf(users)],
          },
        ],
      })
    },
  }
}

const idsOf = (users: readonly Pick<ConfiguredUser, 'id'>[]) => JSON.stringify(users.map(({ id }) => id))
