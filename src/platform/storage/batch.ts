/**
 * Doing together what comes at the same time: one statement and one commit for many. The more there is to do, the more
 * is done at once; alone, nothing waits for company.
 */
import { systemClock } from '../clock.ts'

export interface Kind<Item, Outcome> {
  /** Carries out all of them, or none. @returns an outcome for each, in their order */
  execute(items: Item[]): Promise<Outcome[]>
  /** Items that share one of these words are not carried out at once: each is to see what the one before has done. */
  conflictKeys?(item: Item): string[]
}

/** Items carried out at once. */
const most = 128

/** Milliseconds after which others do not wait any longer for those who are under way: somebody may hold them up. */
const patience = 25

/** Groups under way at most, of each kind. */
const mostGroups = 4

/**
 * Turns of the event loop within which others may come along while the database is busy with other kinds: it would not
 * begin at once anyway, and has less to do if more is done by one.
 */
const turnsWhileBusy = 3

/** Groups of all kinds that are under way, but for those that are held up. */
let busy = 0

interface Waiting<Item, Outcome> {
  item: Item
  words: string[]
  resolve(outcome: Outcome): void
  reject(error: unknown): void
}

/**
 * What comes in the same turn of the event loop, or while the group before is under way, is one group; and while those of
 * other kinds are, what comes within a few turns.
 *
 * @example
 * const find = together({ carryOut: async (ids: string[]) => rowsOf(await findAll(ids)) })
 * await Promise.all([find('a'), find('b')]) // one statement
 */
export function writeBatch<Item, Outcome>(kind: Kind<Item, Outcome>): (item: Item) => Promise<Outcome> {
  let waiting: Waiting<Item, Outcome>[] = []
  const underWay = new Set<{ isSlow: boolean }>()
  /** Of all items that are under way. */
  const taken = new Set<string>()
  let isAwaited = false

  function goOnSoon(): void {
    if (isAwaited) return
    isAwaited = true
    goOnWithin(turnsWhileBusy)
  }

  function goOnWithin(turns: number): void {
    setImmediate(() => (busy > 0 && turns > 1 ? goOnWithin(turns - 1) : goOn()))
  }

  function goOn(): void {
    isAwaited = false
    while (waiting.length > 0 && mayBegin()) {
      const group = takeGroup()
      if (group.length === 0) return
      void begin(group)
    }
  }

  const mayBegin = () => underWay.size < mostGroups && [...underWay].every(({ isSlow }) => isSlow)

  /** In the order they came; who has to stay apart from one of them waits. */
  function takeGroup(): Waiting<Item, Outcome>[] {
    const group: Waiting<Item, Outcome>[] = []
    waiting = waiting.filter((one) => {
      if (group.length >= most || one.words.some((word) => taken.has(word))) return true
      for (const word of one.words) taken.add(word)
      group.push(one)
      return false
    })
    return group
  }

  async function begin(group: Waiting<Item, Outcome>[]): Promise<void> {
    const one = { isSlow: false }
    underWay.add(one)
    busy += 1
    // Real time, whatever the clock: it is about how busy the database is.
    const cancel = systemClock.after(patience, () => {
      one.isSlow = true
      busy -= 1
      goOn()
    })
    await execute(group)
    cancel()
    if (!one.isSlow) busy -= 1
    underWay.delete(one)
    for (const { words } of group) for (const word of words) taken.delete(word)
    goOnSoon()
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
      waiting.push({ item, words: kind.conflictKeys?.(item) ?? [], resolve, reject })
      goOnSoon()
    })
}

/**
 * Whether one of several is to blame, and the others would have gone through: what the tables do not take (SQLSTATE
 * classes 22 and 23; of SQLite too big, constraint, mismatch). Whatever else fails, fails for all.
 */
function isAboutOne(error: unknown): boolean {
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  return /^2[23]/.test(String(code)) || [18, 19, 20].includes(Number(errcode) & 0xff)
}
