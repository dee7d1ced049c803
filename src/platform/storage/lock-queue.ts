/**
 * Steps of one process that share a lock key wait here for each other, before they take a connection. If they waited
 * for the lock in Postgres, each of them would hold a connection during the wait. A few parallel calls that share one
 * key would then leave no connection for other calls.
 */
import { type Clock, steadyTime, systemClock } from '../clock.ts'

/** A step waits at most this many milliseconds. The wait for a connection of the pool has the same limit. */
export const longestWaitMs = 5_000

/**
 * Work that yields lets other work go first only if the other work arrives within this many milliseconds after it.
 * Without this limit, a user who sends one decision after the other could delay all requests about this user for ever.
 * Requests that share another key with the delayed requests would be delayed too.
 */
const yieldsForMs = 250

/** Thrown if a step has waited for too long. SQLSTATE 55P03: lock not available. */
export class LockWaitTimeout extends Error {
  override readonly name = 'LockWaitTimeout'
  readonly code = '55P03'

  constructor() {
    super('earlier steps with the same lock key took too long')
  }
}

export interface LockQueue {
  /**
   * Runs `work` when all earlier work with one of these keys has ended, successfully or not. If there is no such work,
   * `work` begins before this function returns. If `how.yields` is set and `work` has to wait, later work without
   * `yields` runs before `work` if it arrives within `yieldsForMs`.
   *
   * @throws {LockWaitTimeout} if the earlier work has not ended after `longestWaitMs`. Then `work` does not run
   */
  withKeys<T>(keys: readonly string[], work: () => Promise<T>, how?: { yields?: boolean }): Promise<T>
  /** Returns how many calls wait for earlier work. */
  countWaiting(): number
}

interface Entry {
  /** The lock keys of the entry, without duplicates. */
  keys: readonly string[]
  /**
   * The time of arrival, plus `yieldsForMs` if the entry yields. Entries that have not begun are in ascending order of
   * rank.
   */
  rank: number
  /**
   * The number of keys for which another entry is before this one in the line. The entry has begun if the number is 0.
   */
  blockedKeys: number
  /** Resolved when the entry may begin. Undefined if the entry does not have to wait. */
  turn?: PromiseWithResolvers<void>
}

/**
 * Returns an empty queue. Each entry is added to the lines of all its keys at the same moment. In every line, entries
 * that have begun come first, then the others in the order of their ranks, and those of equal rank in order of arrival.
 * So of two entries that share keys, the same one comes first in every line, and no two entries can wait for each
 * other.
 */
export function createLockQueue(clock: Clock = systemClock): LockQueue {
  /**
   * For each key, the entries that hold the key or wait for it. The first entry holds the key. Until this entry has
   * begun, an entry of a lower rank can still take the key from it.
   */
  const lines = new Map<string, Entry[]>()
  let waiting = 0

  function enter(keys: readonly string[], yields: boolean): Entry {
    const entry: Entry = { keys, rank: steadyTime(clock) + (yields ? yieldsForMs : 0), blockedKeys: 0 }
    for (const key of keys) {
      const line = lines.get(key)
      if (line === undefined) {
        lines.set(key, [entry])
        continue
      }
      const place = placeIn(line, entry)
      line.splice(place, 0, entry)
      if (place > 0) entry.blockedKeys += 1
      else line[1]!.blockedKeys += 1
    }
    return entry
  }

  function leave(entry: Entry): void {
    for (const key of entry.keys) {
      const line = lines.get(key)!
      if (line.length === 1) {
        lines.delete(key)
        continue
      }
      const place = line.indexOf(entry)
      line.splice(place, 1)
      if (place === 0) unblock(line[0]!)
    }
  }

  function unblock(entry: Entry): void {
    entry.blockedKeys -= 1
    if (entry.blockedKeys === 0) entry.turn!.resolve()
  }

  async function waitForTurn(entry: Entry): Promise<void> {
    entry.turn = Promise.withResolvers()
    const cancel = clock.after(longestWaitMs, () => entry.turn!.reject(new LockWaitTimeout()))
    waiting += 1
    try {
      await entry.turn.promise
    } finally {
      waiting -= 1
      cancel()
    }
  }

  return {
    async withKeys(keys, work, { yields = false } = {}) {
      if (keys.length === 0) return work()
      const entry = enter(keys.length === 1 ? keys : [...new Set(keys)], yields)
      try {
        if (entry.blockedKeys > 0) await waitForTurn(entry)
        return await work()
      } finally {
        leave(entry)
      }
    },
    countWaiting: () => waiting,
  }
}

/**
 * Returns the place of a new entry in a line: before all entries of a higher rank that have not begun, or else the
 * last.
 */
function placeIn(line: readonly Entry[], { rank }: Entry): number {
  const place = line.findIndex((other) => other.rank > rank && other.blockedKeys > 0)
  return place === -1 ? line.length : place
}
