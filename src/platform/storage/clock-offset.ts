/**
 * Measures how much the clock of the database differs from the steady time of this process. Nodes compare stored times with
 * the present by the clock of the database, because their own clocks differ.
 */
import { type Clock, steadyTime, systemClock } from '../clock.ts'

export interface ClockOffset {
  /** Milliseconds to add to the steady time of this process. */
  readonly milliseconds: number
  /** Measures again. `read` resolves to the database's time, in milliseconds since 1970. */
  measure(read: () => Promise<number>): Promise<void>
}

/**
 * Smaller differences do not change the offset. Both times are whole milliseconds, and the clock of a machine is
 * corrected by some milliseconds again and again. If the offset followed each correction, it could change between two
 * polls, and the pause between them would be measured wrongly.
 */
const insignificantMs = 20

/**
 * Returns an offset that is 0 before the first measurement. The database reads its clock at an unknown moment between
 * the query and the answer, so a measurement yields a range. The offset changes only if it is outside this range. So
 * slow answers, rounding errors and small corrections do not change it.
 *
 * @param machine the clock of this machine. Not the injected clock: a test that sets its own clock does not set the
 *   database's
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
