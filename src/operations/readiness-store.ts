/** Whether the database answers, and takes changes. Asked by anybody, at any rate, it has one trivial statement under way. */
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/storage/database.ts'

/** Milliseconds after which a database that is silent counts as away. */
const answersWithinMs = 2_000

/** `read-only`: a standby that was not promoted yet, or a full disk, say. */
export type DatabaseState = 'ready' | 'read-only' | 'away'

export type Readiness = ReturnType<typeof createReadinessStore>

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
    /** Resolves when the database has answered, or does not; callers that come meanwhile share the answer. */
    check(): Promise<DatabaseState> {
      underWay ??= ask()
      return underWay
    },
  }
}
