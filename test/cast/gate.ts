/** A database with a gate: steps that match wait before it until it is opened, and the test knows how many do. */
import { openDatabase } from '../../src/storage/open.ts'

export interface Gate {
  /** In place of `openDatabase`. */
  open: typeof openDatabase
  /** From now on steps whose SQL matches wait. */
  hold(sql: RegExp): void
  /** Resolves when so many are waiting. */
  waiting(count: number): Promise<void>
  /** Lets all of them go, and whoever comes. */
  release(): void
}

export function createGate(): Gate {
  let held: RegExp | undefined
  let inFront: (() => void)[] = []
  let heard = () => {}

  return {
    async open(url, surroundings) {
      const database = await openDatabase(url, surroundings)
      return {
        ...database,
        get listening() {
          return database.listening
        },
        async step(first, options) {
          if (held?.test(first.sql)) {
            const opened = Promise.withResolvers<void>()
            inFront.push(opened.resolve)
            heard()
            await opened.promise
          }
          return database.step(first, options)
        },
      }
    },
    hold(sql) {
      held = sql
    },
    waiting(count) {
      return new Promise((resolve) => {
        heard = () => {
          if (inFront.length >= count) resolve()
        }
        heard()
      })
    },
    release() {
      held = undefined
      for (const go of inFront) go()
      inFront = []
    },
  }
}
