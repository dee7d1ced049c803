/** A clock that advances only on request: a test passes a ten-minute expiry at once. */
import { type Clock, steadyTime, systemClock } from '../../src/platform/clock.ts'

export interface StageClock extends Clock {
  /** Advances the time. Timers that are due run, in order. */
  advance(milliseconds: number): void
  /** Sets the wall clock back. Timers and the steady time are not affected. */
  setBack(milliseconds: number): void
}

interface Timer {
  at: number
  callback: () => void
}

/** Also if a test mocks `Date`: Postgres does not notice that. */
const RealDate = Date

/**
 * The clock of this machine, which is also that of its Postgres: without steady time, which differs from it by some
 * milliseconds after the machine's clock was corrected.
 */
export const machineClock: Clock = { now: () => RealDate.now(), after: systemClock.after }

/** Returns a clock that is ahead of another by this many milliseconds, or behind it if the number is negative. */
export function aheadOf(clock: Clock, milliseconds: number): Clock {
  return {
    now: () => clock.now() + milliseconds,
    steady: () => steadyTime(clock) + milliseconds,
    after: clock.after,
  }
}

/** Starts at the real time, because tokens of oidc-provider and other libraries use it. */
export function createStageClock(start = Date.now()): StageClock {
  let steady = start
  let behind = 0
  const timers = new Set<Timer>()

  function nextDue(until: number): Timer | undefined {
    const due = [...timers].filter((timer) => timer.at <= until)
    return due.sort((one, other) => one.at - other.at)[0]
  }

  return {
    now: () => steady - behind,
    steady: () => steady,
    after(milliseconds, callback) {
      const timer = { at: steady + milliseconds, callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    advance(milliseconds) {
      const until = steady + milliseconds
      for (let timer = nextDue(until); timer !== undefined; timer = nextDue(until)) {
        timers.delete(timer)
        steady = timer.at
        timer.callback()
      }
      steady = until
    },
    setBack(milliseconds) {
      behind += milliseconds
    },
  }
}
