/** A barrier: while it is closed, callers wait, and the test can count them. */
import { inTime } from './until.ts'

export interface Gate {
  /** Resolves when the barrier is open. */
  pass(): Promise<void>
  /** Closes the barrier: from now on, all callers wait. */
  hold(): void
  /** Resolves when this many callers wait. Rejects after 20 seconds. */
  waiting(count: number): Promise<void>
  /** Opens the barrier for waiting and later callers. */
  release(): void
}

export function createGate(): Gate {
  let isClosed = false
  let inFront: (() => void)[] = []
  let heard = () => {}

  return {
    async pass() {
      if (!isClosed) return
      const opened = Promise.withResolvers<void>()
      inFront.push(opened.resolve)
      heard()
      await opened.promise
    },
    hold() {
      isClosed = true
    },
    waiting(count) {
      const enough = new Promise<void>((resolve) => {
        heard = () => {
          if (inFront.length >= count) resolve()
        }
        heard()
      })
      return inTime(enough, () => `${count} callers at a gate; ${inFront.length} are there`)
    },
    release() {
      isClosed = false
      for (const go of inFront) go()
      inFront = []
    },
  }
}
