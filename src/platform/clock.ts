/** The only source of time. A clock is injected, so that tests can set the time. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /**
   * Milliseconds that never go back: the wall clock when the process started, plus the time since then. Used for
   * durations within the process, because the wall clock can be changed while the process runs. The clock of an
   * application or of a test may lack this function, so call `steadyTime` instead.
   */
  steady?(): number
  /**
   * Calls `callback` once after `milliseconds`. The returned function cancels the call. The timer does not keep the
   * process alive.
   */
  after(milliseconds: number, callback: () => void): () => void
}

const startedAt = Date.now() - performance.now()

export const systemClock: Clock = {
  now: () => Date.now(),
  steady: () => Math.floor(startedAt + performance.now()),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** Returns the time for measuring durations within the process. A change of the wall clock does not affect it. */
export function steadyTime(clock: Pick<Clock, 'now' | 'steady'>): number {
  return clock.steady === undefined ? clock.now() : clock.steady()
}

let last = { time: Number.NaN, text: '' }

/**
 * Returns a time in ISO 8601. The last result is cached, because many log lines are written in the same millisecond.
 */
export function isoOf(time: number): string {
  if (last.time !== time) last = { time, text: new Date(time).toISOString() }
  return last.text
}
