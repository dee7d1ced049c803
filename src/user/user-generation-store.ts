import type { Database, Statement } from '../platform/storage/database.ts'
import { isNotOver } from '../platform/storage/stored-period.ts'

export interface UserGeneration {
  generation: number
  /**
   * Whether the user is locked or removed. Such a user cannot sign in and gets no requests. If an application supplies
   * the users and removes one, `isClosed` stays false.
   */
  isClosed: boolean
}

/** Maximum duration of a call to this server, in milliseconds. */
export const longestCallMs = 10 * 60_000

/**
 * Returns the SQL condition that a call received at `receivedAt` may have begun before the change at `changedAt`. If
 * `changedAt` is later than `receivedAt` by more than a call can last, the wall clock was set back after the change,
 * and the call began after the change. The condition is then false.
 */
export const begunBefore = (changedAt: string, receivedAt: string) =>
  isNotOver({ begin: `${changedAt} - ${longestCallMs}`, length: longestCallMs }, receivedAt)

/** The tables whose rows stay when a user is removed, and the column that contains the user's id. */
const keptOfRemoved = {
  backchannel_auth_requests: 'user_id',
  backchannel_auth_consent_history: 'user_id',
  notifications: 'subject',
}

/**
 * Returns the SQL condition that a row belongs to the person who has the user id now, and not to a former person. A
 * former person is an earlier user with the same id, who was removed. When another person gets the id, the rows of the
 * former person are marked (`is_former`). An earlier version of this server did not mark rows, but stored the time
 * until which the id belonged to the former person (`former_until`).
 *
 * @param row the table, or its alias
 * @param time the column with the time at which the row was written
 * @param userId SQL: the id of the user
 */
export const ofPresentPerson = (row: string, time: string, userId = '$1'): string =>
  `(${row}.is_former is null and ${row}.${time} > coalesce(
     (select former_until from user_generations where user_generations.user_id = ${userId}), -1))`

/**
 * Returns the statements that mark the rows of removed users as rows of former persons. They are needed when other
 * persons get the ids of these users. They must be executed in the transaction that makes the ids usable again, before
 * it sets `removed_at` to null.
 *
 * @param userIds the ids as a JSON array
 */
export const markingFormerPersons = (userIds: string): Statement[] =>
  Object.entries(keptOfRemoved).map(([table, userId]) => ({
    sql: `update ${table} set is_former = 1 where is_former is null and ${userId} in (
            select user_id from user_generations
            where removed_at is not null and user_id in (select value from each($1)))`,
    values: [userIds],
  }))

export type UserGenerationStore = ReturnType<typeof createUserGenerationStore>

/**
 * The current generation of each user: a number that grows when the user is signed out of all sessions, locked or
 * removed. Sessions and tokens of an earlier generation are no longer valid.
 */
export function createUserGenerationStore(database: Pick<Database, 'read'>) {
  return {
    async find(userId: string): Promise<UserGeneration> {
      const [row] = await database.read<{ generation: number; is_closed: number }>(
        'select generation, is_closed from user_generations where user_id = $1',
        [userId],
      )
      return { generation: row?.generation ?? 0, isClosed: row?.is_closed === 1 }
    },

    /** Resolves to the ids of those users that are locked or removed (closed). */
    async closedOf(userIds: string[]): Promise<Set<string>> {
      const rows = await database.read<{ user_id: string }>(
        'select user_id from user_generations where is_closed = 1 and user_id in (select value from each($1))',
        [JSON.stringify(userIds)],
      )
      return new Set(rows.map((row) => row.user_id))
    },

    /**
     * Resolves to the ids of removed users of whom something is kept, and when they were removed. Erased users are left
     * out.
     */
    async removed(): Promise<{ id: string; removedAt: number }[]> {
      const rows = await database.read<{ user_id: string; removed_at: number }>(
        'select user_id, removed_at from user_generations where removed_at is not null and erased_at is null order by removed_at',
      )
      return rows.map(({ user_id, removed_at }) => ({ id: user_id, removedAt: removed_at }))
    },

    /**
     * Returns the statement that begins the next generation of a user.
     *
     * @param ending.closes whether the user is marked as locked or removed
     * @param ending.refusesUntil milliseconds since 1970: authentication requests that were received up to this time
     *   are refused; undefined if no requests are to be refused
     */
    next: (
      userId: string,
      { closes, refusesUntil }: { closes: boolean; refusesUntil: number | undefined },
    ): Statement => ({
      sql: `insert into user_generations (user_id, generation, is_closed, changed_at)
            values ($1, 1, $2, coalesce(cast($3 as bigint), 0))
            on conflict (user_id) do update set generation = user_generations.generation + 1,
              is_closed = case when excluded.is_closed = 1 then 1 else user_generations.is_closed end,
              changed_at = coalesce(cast($3 as bigint), user_generations.changed_at)`,
      values: [userId, closes ? 1 : 0, refusesUntil ?? null],
    }),
  }
}
