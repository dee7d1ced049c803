/**
 * Checks whether the database responds and accepts changes. The check is a trivial statement, and only one check is under
 * way at a time.
 */
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/storage/database.ts'

/** Milliseconds after which a database that does not respond counts as `away`. */
const answersWithinMs = 2_000

/** `read-only`: for example a standby that has not been promoted, or a full disk. */
export type DatabaseState = 'ready' | 'read-only' | 'away'

export type Readiness = ReturnType<typeof createReadinessStore>

/** Returns the check of the database. */
export function createReadinessStore({ database, clock }: { database: Pick<Database, 'writable'>; clock: Clock }) {
  let underWay: Promise<DatabaseState> | undefined

  function ask(): Promise<DatabaseState> {
    const { promise, resolve } = Promise.withResolvers<DatabaseState>()
    const away = () => resolve('away')
    const cancel = clock.after(answersWithinMs, away)
    database.writable().then((isWritable) => resolve(isWritable ? 'ready' : 'read-only'), away)
    return promise.finally(() => {
      cancel()
      underWay = undefined
    })
  }

  return {
    /**
     * Resolves to the state of the database, after 2 seconds at the latest. Concurrent callers share the result of one
     * check.
     */
    check(): Promise<DatabaseState> {
      underWay ??= ask()
      return underWay
    },
  }
}
