/** A gate: while it is closed whoever comes waits before it, and the test knows how many do. */
export interface Gate {
  /** Resolves at once, or when the gate is opened. */
  pass(): Promise<void>
  /** From now on everybody waits. */
  hold(): void
  /** Resolves when so many are waiting. */
  waiting(count: number): Promise<void>
  /** Lets all of them go, and whoever comes. */
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
      return new Promise((resolve) => {
        heard = () => {
          if (inFront.length >= count) resolve()
        }
        heard()
      })
    },
    release() {
      isClosed = false
      for (const go of inFront) go()
      inFront = []
    },
  }
}
