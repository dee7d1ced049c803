/** A clock that advances only on request: a test passes a ten-minute expiry at once. */
import type { Clock } from '../../src/platform/clock.ts'

export interface StageClock extends Clock {
  /** Advances the time. Timers that are due run, in order. */
  advance(milliseconds: number): void
}

interface Timer {
  at: number
  callback: () => void
}

/** Starts at the real time, because tokens of oidc-provider and other libraries use it. */
export function createStageClock(start = Date.now()): StageClock {
  let now = start
  const timers = new Set<Timer>()

  function nextDue(until: number): Timer | undefined {
    const due = [...timers].filter((timer) => timer.at <= until)
    return due.sort((one, other) => one.at - other.at)[0]
  }

  return {
    now: () => now,
    after(milliseconds, callback) {
      const timer = { at: now + milliseconds, callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    advance(milliseconds) {
      const until = now + milliseconds
      for (let timer = nextDue(until); timer !== undefined; timer = nextDue(until)) {
        timers.delete(timer)
        now = timer.at
        timer.callback()
      }
      now = until
    },
  }
}
