/**
 * Measures how much the clock of the database differs from the steady time of this process. All nodes compare stored
 * times with the current time of the database's clock, because the nodes' own clocks differ.
 */
import { type Clock, steadyTime, systemClock } from '../clock.ts'

export interface ClockOffset {
  /** Milliseconds to add to the steady time of this process. */
  readonly milliseconds: number
  /** Measures again. `read` resolves to the database's time, in milliseconds since 1970. */
  measure(read: () => Promise<number>): Promise<void>
}

/**
 * Differences of fewer milliseconds than this do not change the stored offset. They come from rounding to whole
 * milliseconds, and from the small corrections that the clocks of machines get again and again. If the offset followed
 * them, it could change between two polls, and the time between the polls would be measured wrongly.
 */
const insignificantMs = 20

/**
 * Returns an offset that is 0 before the first measurement. The database reads its clock at an unknown moment between
 * the query and the answer, so a measurement yields a range of possible offsets. The stored offset changes only if it
 * is outside this range. So slow answers, rounding errors and small corrections do not change it.
 *
 * @param machine the clock of this machine. It is not the injected clock, because a test that sets the injected clock
 *   does not set the clock of the database
 */
export function createClockOffset(machine: Clock = systemClock): ClockOffset {
  let milliseconds = 0
  return {
    get milliseconds() {
      return milliseconds
    },
    async measure(read) {
      const asked = steadyTime(machine)
      const there = await read()
      const least = there - steadyTime(machine) - insignificantMs
      const most = there - asked + insignificantMs
      if (milliseconds < least || milliseconds > most) milliseconds = Math.round((least + most) / 2)
    },
  }
}
