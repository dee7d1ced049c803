/**
 * Checks whether the database responds and accepts changes. Only one check runs at a time. A check is cheap: it
 * executes a trivial statement on Postgres, or checks the database file on SQLite.
 */
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/storage/database.ts'

/** Milliseconds after which a database that does not respond counts as `away`. */
const answersWithinMs = 2_000

/** `read-only`: for example a Postgres standby that has not been promoted, or a SQLite file that cannot be written. */
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
