/** Work that is done again and again: when its time has come, and whenever somebody asks for it. */
import type { Clock } from './clock.ts'

export interface PeriodicTask {
  /** From now on the work is done: the first time after so many milliseconds. Does nothing if it was started before. */
  start(afterMs: number): void
  /** Does the work now; if it is under way, once more when that is done. Does nothing unless it was started. */
  wake(): void
  /** Nothing more is begun. Resolves when what is under way has ended. */
  stop(): Promise<void>
}

export interface PeriodicTaskNeeds {
  /** Never runs twice at the same time. Resolves to the milliseconds after which it is done again, and must not reject. */
  work(): Promise<number>
  clock: Pick<Clock, 'after'>
  /** Called when the work has ended and nobody has asked for it meanwhile. */
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
    // In the same turn as the last look at what is asked: who asks from now on begins anew.
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
