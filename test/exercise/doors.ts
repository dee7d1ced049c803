/** Databases with doors that are open or closed, visits and letters; and what is done to them. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { type Clock, systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database, Statement, Value } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Engine } from '../cast/engines.ts'

export const letters = [...'abcdefghijklmnopqrst']

export const sound = 'create table sound (a text);\n'

export function say(sql: string, ...values: Value[]): Statement {
  return { sql, values }
}

export function rest(...also: Statement[]) {
  return { also }
}

export function decide(name: string, by: string): Statement {
  return say("update doors set state = 'closed', by = $2 where name = $1 and state = 'open' returning by", name, by)
}

export function claim(by: string): Statement {
  return say(
    `update doors set by = $1 where name in (
       select name from doors where by is null order by name limit 5 /* for update skip locked */
     ) returning name`,
    by,
  )
}

/** `count` openings of one furnished database; all is put away after the test. */
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

export interface Openings {
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

export async function list(database: Database, sql: string, ...values: Value[]): Promise<string> {
  const rows = await database.read<{ item: Value }>(sql, values)
  return rows.map(({ item }) => item).join(' ')
}

/** What is heard on a topic, to be asked for one after the other. */
export function hearing(database: Database, topic: string) {
  const keys = flow<string>()
  const stop = database.listen(topic, keys.push)
  return { next: keys.next, waiting: keys.waiting, stop }
}

export function flow<Item>() {
  const items: Item[] = []
  const takers: ((item: Item) => void)[] = []
  return {
    push(item: Item): void {
      const taker = takers.shift()
      if (taker) taker(item)
      else items.push(item)
    },
    next: () => (items.length > 0 ? Promise.resolve(items.shift()!) : new Promise<Item>((take) => takers.push(take))),
    waiting: () => items,
  }
}

export function logbook() {
  const lines = flow<string>()
  return {
    log: createLog('info', { write: lines.push }),
    async line(part: string): Promise<void> {
      while (!(await lines.next()).includes(part));
    },
  }
}

/** A clock on which nothing happens until the test lets it. */
export function handClock(): Clock & { let(milliseconds: number): Promise<void> } {
  const timers = flow<{ milliseconds: number; callback: () => void; cancelled: boolean }>()
  return {
    now: () => 0,
    after(milliseconds, callback) {
      const timer = { milliseconds, callback, cancelled: false }
      timers.push(timer)
      return () => {
        timer.cancelled = true
      }
    },
    async let(milliseconds) {
      let timer = await timers.next()
      while (timer.cancelled) timer = await timers.next()
      assert.equal(timer.milliseconds, milliseconds)
      timer.callback()
    },
  }
}

export async function asAdministrator(url: string, work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

export function terminate(url: string, which: string): Promise<void> {
  return asAdministrator(url, async (client) => {
    const sql = `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'doorbell' and ${which}`
    const { rowCount } = await client.query(sql)
    assert.equal(rowCount, 1)
  })
}

export async function migrations(t: TestContext, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-migrations-'))
  t.after(() => rm(folder, { recursive: true }))
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(folder, `${name}.sql`), text)))
  return folder
}

export function migrating(url: string, folder: string) {
  const program = fileURLToPath(new URL('../cast/migrating.ts', import.meta.url))
  const child = spawn(process.execPath, [program, url, folder], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const ended = once(child, 'exit')
  return {
    async ready(): Promise<void> {
      assert.equal((await lines.next()).value, 'ready')
    },
    async go(): Promise<string[]> {
      child.stdin.end('go\n')
      const { value } = await lines.next()
      assert.deepEqual(await ended, [0, null])
      return JSON.parse(value ?? '[]')
    },
  }
}
