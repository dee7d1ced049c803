/**
 * The erasure of parked notifications reads only rows whose content is still stored, even if many other rows are
 * stored.
 */
import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { createOutboxStore } from '../../src/outbox/outbox-store.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { toSqliteDialect, wordsOfPostgres } from '../../src/platform/storage/sql-dialect.ts'
import { type Engine, engines } from '../support/engines.ts'
import { furnished } from '../support/rows.ts'
import { collectStatements } from '../support/statements.ts'

const settled = 20_000

/** What the table contains in addition to delivered notifications. */
const contents: [name: string, change: string][] = [
  ['nothing parked', "update notifications set state = 'delivered', sealed = null"],
  ['many parked, all erased', "update notifications set state = 'parked', sealed = null where settled_at % 2 = 0"],
  ['few with content', "update notifications set sealed = 'x' where state = 'parked' and settled_at > 19900"],
  ['half with content', "update notifications set sealed = 'x' where state = 'parked'"],
  ['all parked with content', "update notifications set state = 'parked', sealed = 'x'"],
]

for (const engine of engines) {
  test(`parked notifications are erased by the index of those with content, on ${engine.name}`, async (t) => {
    const { one, url, sql } = await erasing(t, engine)
    const plan = engine.name === 'sqlite' ? planOfSqlite : planOfPostgres
    for (const [name, change] of contents) {
      await one.database.step({ sql: change, values: [] })
      for (const isAnalyzed of [false, true]) {
        const text = await plan(url, sql, isAnalyzed)
        assert.match(text, /notifications_parked_with_content/, `${name}: ${text}`)
        assert.doesNotMatch(text, /notifications_settled|Seq Scan|SCAN notifications/, `${name}: ${text}`)
      }
    }
  })
}

async function erasing(t: TestContext, engine: Engine) {
  const statements = collectStatements()
  const stage = await furnished(t, engine, { open: statements.openDatabase })
  await createOutboxStore(stage.one.database).eraseParked(0, 500)
  const sql = [...statements.collected.keys()].find((text) => text.includes("state = 'parked' and sealed is not null"))
  await addDelivered(stage.one.database)
  return { ...stage, sql: sql! }
}

async function addDelivered(database: Database): Promise<void> {
  const rows = JSON.stringify(Array.from({ length: settled }, (_, number) => number))
  await database.step({
    sql: `insert into notifications (id, kind, subject, lane, address, state, attempts, created_at, due_at, give_up_at, settled_at)
          select 'n' || each.value, 'tea', 's', 'l', 'a', 'delivered', 1, 1, 1, 2, cast(each.value as bigint) from each($1)`,
    values: [rows],
  })
}

async function planOfSqlite(url: string, sql: string, isAnalyzed: boolean): Promise<string> {
  const database = new DatabaseSync(url.slice('sqlite:'.length))
  if (isAnalyzed) database.exec('analyze')
  const steps = database.prepare(`explain query plan ${toSqliteDialect(sql)}`).all('0')
  database.close()
  return steps.map(({ detail }) => String(detail)).join('; ')
}

/** Resolves to the plan of a statement, with the settings of the server's connections (`postgres-session.ts`). */
async function planOfPostgres(url: string, sql: string, isAnalyzed: boolean): Promise<string> {
  const client = new Client(url)
  await client.connect()
  try {
    if (isAnalyzed) await client.query('analyze notifications')
    await client.query("set plan_cache_mode = 'force_generic_plan'; set enable_seqscan = off")
    await client.query(`prepare erasing as ${wordsOfPostgres(sql)}`)
    const { rows } = await client.query('explain execute erasing (0)')
    return rows.map((row) => row['QUERY PLAN']).join('; ')
  } finally {
    await client.end()
  }
}
