/** The only source of time: it is injected, so that tests can set it. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /** Calls back once after `milliseconds`, unless the returned function is called before. Does not keep the process alive. */
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

/** Returns the time in ISO 8601. The last result is cached: many log lines are of the same millisecond. */
export function isoOf(time: number): string {
  if (last.time !== time) last = { time, text: new Date(time).toISOString() }
  return last.text
}
