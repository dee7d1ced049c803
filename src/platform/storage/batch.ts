/**
 * Collects items that arrive at the same time into a group, and executes the group with one statement and one commit.
 * Groups grow with the load. An item that arrives alone does not wait for other items.
 */
import { systemClock } from '../clock.ts'

/** How items of one kind, for instance lookups of requests, are executed together. */
export interface Kind<Item, Outcome> {
  /** Executes all items, or none. @returns one outcome for each item, in the order of the items */
  execute(items: Item[]): Promise<Outcome[]>
  /**
   * Returns the keys of an item. Items that share a key are never executed at the same time, so that each item sees the
   * effect of the previous item with that key.
   */
  conflictKeys?(item: Item): string[]
}

/** The largest number of items in one group. */
const maxGroupSize = 128

/**
 * Milliseconds after which a group counts as slow, perhaps blocked by a lock. Other groups do not wait for a slow
 * group.
 */
const slowAfterMs = 25

/** The largest number of groups of one kind that are under way at the same time. */
const maxGroups = 4

/**
 * While other groups are under way, a group waits for more items for this many turns of the event loop. The busy
 * database could not execute the group at once anyway, and one large group costs it less work than two small groups.
 */
const turnsWhileBusy = 3

/** The number of groups of all kinds that are under way and not slow. */
let busy = 0

interface Waiting<Item, Outcome> {
  item: Item
  keys: string[]
  resolve(outcome: Outcome): void
  reject(error: unknown): void
}

/**
 * Returns a function that adds an item to a group and resolves to the outcome of the item. Items form one group if they
 * arrive in the same turn of the event loop, or while the previous group is under way. While groups of other kinds are
 * under way, items that arrive within a few turns also form one group. If the database rejects the values of one item,
 * each item of the group is executed alone. After any other error, all items of the group are rejected with this error.
 *
 * @example
 * const find = writeBatch({ execute: async (ids: string[]) => rowsOf(await findAll(ids)) })
 * await Promise.all([find('a'), find('b')]) // one statement
 */
export function writeBatch<Item, Outcome>(kind: Kind<Item, Outcome>): (item: Item) => Promise<Outcome> {
  let waiting: Waiting<Item, Outcome>[] = []
  const underWay = new Set<{ isSlow: boolean }>()
  /** The conflict keys of all items that are under way. */
  const keysInUse = new Set<string>()
  let isScheduled = false

  function scheduleStart(): void {
    if (isScheduled) return
    isScheduled = true
    startWithin(turnsWhileBusy)
  }

  function startWithin(turns: number): void {
    setImmediate(() => (busy > 0 && turns > 1 ? startWithin(turns - 1) : startGroups()))
  }

  function startGroups(): void {
    isScheduled = false
    while (waiting.length > 0 && mayBegin()) {
      const group = takeGroup()
      if (group.length === 0) return
      void begin(group)
    }
  }

  const mayBegin = () => underWay.size < maxGroups && [...underWay].every(({ isSlow }) => isSlow)

  /** Takes items in order of arrival. An item stays in the queue while one of its conflict keys is in use. */
  function takeGroup(): Waiting<Item, Outcome>[] {
    const group: Waiting<Item, Outcome>[] = []
    waiting = waiting.filter((one) => {
      if (group.length >= maxGroupSize || one.keys.some((key) => keysInUse.has(key))) return true
      for (const key of one.keys) keysInUse.add(key)
      group.push(one)
      return false
    })
    return group
  }

  async function begin(group: Waiting<Item, Outcome>[]): Promise<void> {
    const one = { isSlow: false }
    underWay.add(one)
    busy += 1
    // This uses real time, not the injected clock, because it measures how busy the database is.
    const cancel = systemClock.after(slowAfterMs, () => {
      one.isSlow = true
      busy -= 1
      startGroups()
    })
    await execute(group)
    cancel()
    if (!one.isSlow) busy -= 1
    underWay.delete(one)
    for (const { keys } of group) for (const key of keys) keysInUse.delete(key)
    scheduleStart()
  }

  async function execute(group: Waiting<Item, Outcome>[]): Promise<void> {
    try {
      const outcomes = await kind.execute(group.map(({ item }) => item))
      for (const [index, { resolve }] of group.entries()) resolve(outcomes[index]!)
    } catch (error) {
      if (group.length > 1 && isAboutOne(error)) for (const one of group) await execute([one])
      else for (const { reject } of group) reject(error)
    }
  }

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, keys: kind.conflictKeys?.(item) ?? [], resolve, reject })
      scheduleStart()
    })
}

/**
 * Returns whether the error is about the values of one item, so that the other items would succeed if they were
 * executed without this item. Such errors are SQLSTATE classes 22 and 23, SQLITE_TOOBIG, SQLITE_CONSTRAINT and
 * SQLITE_MISMATCH.
 */
function isAboutOne(error: unknown): boolean {
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  return /^2[23]/.test(String(code)) || [18, 19, 20].includes(Number(errcode) & 0xff)
}
