/** Work that is repeated after a pause, and whenever it is requested. */
import type { Clock } from './clock.ts'

export interface PeriodicTask {
  /** Begins: the work is first done after `afterMs`. Does nothing if it was started before. */
  start(afterMs: number): void
  /** Does the work now; if it is under way, once more afterwards. Does nothing unless it was started. */
  wake(): void
  /** Begins no more work. Resolves when work under way has ended. */
  stop(): Promise<void>
}

export interface PeriodicTaskNeeds {
  /** Never runs in parallel. Resolves to the milliseconds until it is repeated; must not reject. */
  work(): Promise<number>
  clock: Pick<Clock, 'after'>
  /** Called when the work has ended and was not requested again meanwhile. */
  onRest?: () => void
}

/**
 * @example
 * const looking = createPeriodicTask({ clock, work: async () => (await lookAgain(), 5_000) })
 * looking.start(0)
 * whenNewsCome(looking.wake)
 */
export function createPeriodicTask({ work, clock, onRest }: PeriodicTaskNeeds): PeriodicTask {
  let isRunning = false
  let isAsked = false
  let working: Promise<void> | undefined
  let cancel = () => {}

  function wake(): void {
    if (!isRunning) return
    isAsked = true
    working ??= workWhileAsked()
  }

  async function workWhileAsked(): Promise<void> {
    while (isAsked && isRunning) {
      isAsked = false
      cancel()
      const pauseMs = await work()
      if (isRunning) cancel = clock.after(pauseMs, wake)
    }
    // In the same turn as the last check of `isAsked`: a later request begins anew.
    working = undefined
    if (isRunning) onRest?.()
  }

  return {
    start(afterMs) {
      if (isRunning) return
      isRunning = true
      if (afterMs === 0) wake()
      else cancel = clock.after(afterMs, wake)
    },
    wake,
    async stop() {
      isRunning = false
      cancel()
      await working
    },
  }
}
