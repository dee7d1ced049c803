/** A clock that advances only on request. So a test can let ten minutes pass at once. */
import { type Clock, steadyTime, systemClock } from '../../src/platform/clock.ts'

export interface StageClock extends Clock {
  /** Advances the time. Calls the timers that become due, in order. */
  advance(milliseconds: number): void
  /** Sets the wall clock back. Timers and the steady time are not affected. */
  setBack(milliseconds: number): void
}

interface Timer {
  at: number
  callback: () => void
}

/** The real `Date`. If a test mocks `Date`, the clock of Postgres does not change. */
const RealDate = Date

/**
 * The clock of this machine, which Postgres on this machine also uses. It has no `steady`, because the steady time
 * differs by some milliseconds after a correction of the machine's clock.
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

/**
 * Returns a clock that starts at the real time, because oidc-provider and other libraries use the real time for tokens.
 */
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
