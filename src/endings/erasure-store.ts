import { atMostRows, type Database } from '../platform/storage/database.ts'
import { signOutLock } from '../user/token-validity-store.ts'
import { longestCallMs } from '../user/user-generation-store.ts'
import { type Ended, statementsFor } from './ending-store.ts'

/**
 * Milliseconds during which the id of an erased user stays marked as closed. After this time, all calls that began
 * before the erasure have ended.
 */
export const erasureMs = longestCallMs

export type ErasureStore = ReturnType<typeof createErasureStore>

/**
 * Completes the erasures of users.
 *
 * @param erasedAs returns the value that is stored instead of the id of an erased user
 */
export function createErasureStore(database: Database, erasedAs: (userId: string) => string) {
  return {
    /**
     * Finishes erasures that began at least `erasureMs` ago. Deletes the id of each user, and all rows that calls in
     * progress wrote after the erasure began. Skips users that were added again. Finishes at most `atMost` erasures,
     * the oldest first. Resolves to the number of finished erasures.
     */
    async complete(now: number, atMost: number): Promise<number> {
      const erasedBefore = now - erasureMs
      const due = await database.read<{ user_id: string }>(
        `select user_id from user_generations where erased_at <= $1 order by erased_at ${atMostRows(atMost)}`,
        [erasedBefore],
      )
      let completed = 0
      for (const { user_id: userId } of due) {
        const ended: Ended = { userId, erasedAs: erasedAs(userId), now }
        const deleted = await database.step(
          {
            sql: 'delete from user_generations where user_id = $1 and erased_at <= $2 returning user_id',
            values: [userId, erasedBefore],
          },
          { also: statementsFor('erased', ended), lockKeys: signOutLock(userId) },
        )
        completed += deleted.length
      }
      return completed
    },
  }
}
