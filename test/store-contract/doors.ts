/** Test databases with tables of doors (open or closed), visits and letters, and operations on these tables. */
import type { TestContext } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database, Statement, Value } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Engine } from '../support/engines.ts'
import { inTime } from '../support/until.ts'

export const letters = [...'abcdefghijklmnopqrst']

export function say(sql: string, ...values: Value[]): Statement {
  return { sql, values }
}

export function rest(...also: Statement[]) {
  return { also }
}

export function claim(by: string): Statement {
  return say(
    `update doors set by = $1 where name in (
       select name from doors where by is null order by name limit 5 /* for update skip locked */
     ) returning name`,
    by,
  )
}

/**
 * Opens the same test database `count` times. After the test, all connections are closed and the database is dropped.
 */
export async function stage<Count extends 1 | 2 = 1>(
  t: TestContext,
  engine: Engine,
  count?: Count,
): Promise<Openings[Count]> {
  const { url, drop } = await engine.fresh()
  const databases: Database[] = []
  t.after(async () => {
    await Promise.all(databases.map((database) => database.close()))
    await drop()
  })
  for (let number = 0; number < (count ?? 1); number++) {
    databases.push(await openDatabase(url, { log: logbook().log, clock: systemClock }))
  }
  await furnish(databases[0]!)
  return databases as Openings[Count]
}

interface Openings {
  1: [Database]
  2: [Database, Database]
}

export async function furnish(database: Database): Promise<void> {
  const tables = [
    "create table doors (name text primary key, state text not null check (state in ('open', 'closed')), by text)",
    'create table visits (door text not null references doors (name), number bigint not null)',
    'create table visits_without_door (text text, number bigint)',
  ]
  for (const table of tables) await database.step(say(table))
}

/** Returns the announcements on a topic, to be read one after the other. */
export function hearing(database: Database, topic: string) {
  const keys = flow<string>()
  const stop = database.listen(topic, keys.push)
  return { next: () => keys.next(`an announcement on ${topic}`), waiting: keys.waiting, stop }
}

/** Returns a queue of items. `next` waits for the next item, at most 20 seconds. */
export function flow<Item>() {
  const items: Item[] = []
  const takers: ((item: Item) => void)[] = []
  return {
    push(item: Item): void {
      const taker = takers.shift()
      if (taker) taker(item)
      else items.push(item)
    },
    /** @param awaited a description of the item, for the error message if no item arrives */
    next(awaited: string): Promise<Item> {
      if (items.length > 0) return Promise.resolve(items.shift()!)
      return inTime(new Promise<Item>((take) => takers.push(take)), () => awaited)
    },
    waiting: () => items,
  }
}

export function logbook() {
  const lines = flow<string>()
  return {
    log: createLog('info', { write: lines.push }),
    async line(part: string): Promise<void> {
      while (!(await lines.next(`a log line with “${part}”`)).includes(part));
    },
  }
}
