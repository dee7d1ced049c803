/** Repeats work after a pause, and whenever the work is requested. */
import type { Clock } from './clock.ts'
import type { RepeatedFailures } from './repeated-failures.ts'

export interface PeriodicTask {
  /**
   * Starts the task: the work is first done after `afterMs` milliseconds. Does nothing if the task is already started.
   */
  start(afterMs: number): void
  /**
   * Does the work now. If a run is under way, the work is done once more after that run. Does nothing if the task is
   * not started.
   */
  wake(): void
  /** Stops the task. Resolves when work that is under way has ended. */
  stop(): Promise<void>
}

export interface PeriodicTaskNeeds {
  /** Does the work once. Resolves to the number of milliseconds until the next run. Two runs never overlap. */
  work(): Promise<number>
  /** Runs the work with `attempt`, and logs its failures. */
  failures: RepeatedFailures
  /** Milliseconds after which work that has failed is repeated. */
  retryAfterMs: number
  clock: Pick<Clock, 'after'>
  /** Called after each run of the work, unless `wake` was called during the run. */
  onRest?: () => void
}

/**
 * Returns a task that has not been started.
 *
 * @example
 * const failures = createRepeatedFailures(log, { event: 'rates.look_failed' }, 'the rates could not be read')
 * const looking = createPeriodicTask({ clock, failures, retryAfterMs: 1_000, work: async () => (await lookAgain(), 5_000) })
 * looking.start(0)
 * database.listen('outbox', looking.wake)
 */
export function createPeriodicTask({ work, failures, retryAfterMs, clock, onRest }: PeriodicTaskNeeds): PeriodicTask {
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
      const pauseMs = (await failures.attempt(work)) ?? retryAfterMs
      if (isRunning) cancel = clock.after(pauseMs, wake)
    }
    // There is no `await` between the last check of `isAsked` and this line. So a later call of `wake` finds `working`
    // cleared, and starts the work again.
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
