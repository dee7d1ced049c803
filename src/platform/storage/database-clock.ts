/**
 * The clock of the database. Several nodes write and compare stored periods, such as the hour of a counter or a pause. If
 * each node used its own clock, and the clock of one node were ahead, this node would begin a new period although the period of
 * the others has not ended, and to the others its periods would begin in the future: no count would ever reach its limit.
 */
import { type Clock, steadyTime } from '../clock.ts'
import type { Database } from './database.ts'

export interface DatabaseClock {
  /** Milliseconds since 1970, by the clock of the database. It does not change if the clock of this machine is set. */
  now(): number
  /** Returns a time of the database's clock as a time of this node's wall clock. */
  toWallClock(time: number): number
  /** Returns a time of this node's wall clock as a time of the database's clock. */
  fromWallClock(time: number): number
  /**
   * Returns the earlier of two times: the present by the clock of this node, and by that of the database. Used to remove
   * old rows. A node whose clock is ahead must not remove what the other nodes still need.
   */
  earliestNow(): number
}

export function createDatabaseClock(clock: Clock, database: Pick<Database, 'clockOffset'>): DatabaseClock {
  const now = () => steadyTime(clock) + database.clockOffset
  return {
    now,
    toWallClock: (time) => time - now() + clock.now(),
    fromWallClock: (time) => time - clock.now() + now(),
    earliestNow: () => Math.min(now(), clock.now()),
  }
}
