/**
 * Steps of one process that share a lock key wait here for each other, before they take a connection. If they waited in
 * Postgres, each of them would hold a connection while it waits, and a few parallel calls that share one key would leave no
 * connection for other calls.
 */
import { type Clock, systemClock } from '../clock.ts'

/** A step waits at most this many milliseconds. The wait for a connection of the pool has the same limit. */
export const longestWaitMs = 5_000

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
   * `work` begins before this function returns.
   *
   * @throws {LockWaitTimeout} if the earlier work has not ended after `longestWaitMs`. Then `work` does not run
   */
  withKeys<T>(keys: readonly string[], work: () => Promise<T>): Promise<T>
  /** Returns how many calls wait for earlier work. */
  countWaiting(): number
}

interface Entry {
  /** The keys, without duplicates. */
  keys: readonly string[]
  /** The number of its keys that an earlier entry still has or waits for. */
  blockedKeys: number
  /** Resolved when the entry may begin. Undefined if the entry does not have to wait. */
  turn?: PromiseWithResolvers<void>
}

/**
 * Returns an empty queue. Each entry is added to the lines of all its keys at the same moment. So of two entries that share
 * keys, the same one comes first in every line, and no two entries can wait for each other.
 */
export function createLockQueue(clock: Pick<Clock, 'after'> = systemClock): LockQueue {
  /** For each key, the entries that have the key or wait for it, in order of arrival. The first entry has the key. */
  const lines = new Map<string, Entry[]>()
  let waiting = 0

  function enter(keys: readonly string[]): Entry {
    const entry: Entry = { keys, blockedKeys: 0 }
    for (const key of keys) {
      const line = lines.get(key)
      if (line === undefined) {
        lines.set(key, [entry])
      } else {
        line.push(entry)
        entry.blockedKeys += 1
      }
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
    async withKeys(keys, work) {
      if (keys.length === 0) return work()
      const entry = enter(keys.length === 1 ? keys : [...new Set(keys)])
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
