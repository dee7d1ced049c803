/** The only source of time. A clock is injected, so that tests can set the time. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /**
   * Calls `callback` once after `milliseconds`, unless the returned function is called first. The timer does not keep the
   * process alive.
   */
  after(milliseconds: number, callback: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

let last = { time: Number.NaN, text: '' }

/** Returns a time in ISO 8601. The last result is cached, because many log lines are written in the same millisecond. */
export function isoOf(time: number): string {
  if (last.time !== time) last = { time, text: new Date(time).toISOString() }
  return last.text
}
