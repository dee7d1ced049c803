/**
 * The clock of the database. All nodes use it for stored periods, such as the hour of a counter, or a pause. They do
 * not use their own clocks: a node whose clock is far ahead would begin a new period before the period of the other
 * nodes has ended. For the other nodes, this new period would begin in the future. So they would not accept it, and
 * would begin another period. Then no count would ever reach its limit.
 */
import { type Clock, steadyTime } from '../clock.ts'
import type { Database } from './database.ts'

export interface DatabaseClock {
  /**
   * Milliseconds since 1970, by the clock of the database. The result does not depend on the wall clock of this
   * machine.
   */
  now(): number
  /** Returns a time of the database's clock as a time of this node's wall clock. */
  toWallClock(time: number): number
  /** Returns a time of this node's wall clock as a time of the database's clock. */
  fromWallClock(time: number): number
  /**
   * Returns the current time of this node's clock or of the database's clock, whichever is earlier. Used to remove old
   * rows: a node whose clock is ahead must not remove what the other nodes still need.
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
