/** Time comes in through the door: nothing in the story asks the machine what time it is. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /** Calls back once after `milliseconds`, unless cancelled before. Never keeps the process alive by itself. */
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

/** ISO 8601. The last one is remembered: many lines of a log are of the same millisecond. */
export function isoOf(time: number): string {
  if (last.time !== time) last = { time, text: new Date(time).toISOString() }
  return last.text
}
