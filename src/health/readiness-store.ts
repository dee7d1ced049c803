/** Whether the database answers. Asked by anybody, at any rate, it has one trivial statement under way. */
import type { Clock } from '../clock.ts'
import type { Database } from '../storage/database.ts'

/** Milliseconds after which a database that is silent counts as away. */
const answersWithinMs = 2_000

export type Readiness = ReturnType<typeof createReadinessStore>

export function createReadinessStore({ database, clock }: { database: Database; clock: Clock }) {
  let underWay: Promise<unknown> | undefined

  function ask(): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const cancel = clock.after(answersWithinMs, () => reject(new Error('the database does not answer')))
    database.read('select 1 as one').then(resolve, reject)
    return promise.finally(() => {
      cancel()
      underWay = undefined
    })
  }

  return {
    /** Resolves when the database has answered; callers that come meanwhile share the answer. Rejects if it is away. */
    async check(): Promise<void> {
      underWay ??= ask()
      await underWay
    },
  }
}
