/**
 * The end of a user or a client covers every table. All columns are classified by hand. The schema, and the content of
 * the tables after real flows, are compared with this list. The statements that end a user or a client must name every
 * table that the list requires.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { tablesOfClient, tablesOfUser, untouchedByClient, untouchedByUser } from '../../src/endings/ending-store.ts'
import { keptByTable } from '../../src/endings/user-data-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Columns, columnsByTable, namesIn } from '../support/columns.ts'
import { engines } from '../support/engines.ts'
import { allRows, furnished } from '../support/rows.ts'
import { clientIds, fillTables, openWithAllFeatures, userIds } from './filled-tables.ts'

const ofUser = new Set([...tablesOfUser.map(({ table }) => table), ...Object.keys(untouchedByUser)])
const ofClient = new Set([...tablesOfClient.map(({ table }) => table), ...Object.keys(untouchedByClient)])

describe('the tables of the endings', () => {
  test('are exactly those with a column that leads to a user, or to a client', () => {
    const leadingTo = (who: 'user' | 'client') =>
      Object.entries(columnsByTable)
        .filter(([, columns]) => columns[who] !== undefined || columns.linked !== undefined)
        .map(([table]) => table)
    assert.deepEqual([...ofUser].sort(), leadingTo('user').sort())
    assert.deepEqual([...ofClient].sort(), leadingTo('client').sort())
  })

  test('are also the tables of which an export has rows', () => {
    assert.deepEqual(Object.keys(keptByTable).sort(), [...new Set(tablesOfUser.map(({ table }) => table))].sort())
  })
})

for (const engine of engines) {
  describe(`the columns of all tables, on ${engine.name}`, () => {
    test('are classified, each of them, and no others', async (t) => {
      const { one } = await furnished(t, engine)
      assert.deepEqual(await schemaOf(one.database), classified)
      await one.database.exclusively((run) => run('alter table server_keys add column kept_for bigint'))
      assert.notDeepEqual(await schemaOf(one.database), classified)
    })

    test('contain ids of users and clients only where the classification says so', async (t) => {
      const stage = await openWithAllFeatures(t, engine)
      await fillTables(t, stage)
      const database = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
      t.after(() => database.close())
      const found = { user: new Set<string>(), client: new Set<string>(), empty: [] as string[] }
      for (const table of Object.keys(columnsByTable)) {
        const rows = await allRows(database, table)
        if (rows.length === 0) found.empty.push(table)
        for (const [column, value] of rows.flatMap((row) => Object.entries(row))) {
          const names = (ids: string[]) => ids.some((id) => String(value).includes(id))
          if (names(userIds)) found.user.add(`${table}.${column}`)
          if (names(clientIds)) found.client.add(`${table}.${column}`)
        }
      }
      assert.deepEqual(found.empty, unused[engine.name])
      const elsewhere = (who: 'user' | 'client') => [...found[who]].filter((column) => !columnsOf(who).includes(column))
      assert.deepEqual([elsewhere('user'), elsewhere('client')], [[], []])
      // A search that found no ids would prove nothing, so it must find enough columns.
      assert.ok(found.user.size >= 15 && found.client.size >= 10, `${[...found.user]} ${[...found.client]}`)
    })
  })
}

const classified = Object.entries(columnsByTable)
  .flatMap(([table, columns]) =>
    [...new Set(Object.values(columns).flatMap(namesIn))].map((name) => `${table}.${name}`),
  )
  .sort()

const columnsOf = (who: keyof Columns) =>
  Object.entries(columnsByTable).flatMap(([table, columns]) => namesIn(columns[who]).map((name) => `${table}.${name}`))

async function schemaOf(database: Database): Promise<string[]> {
  const sql =
    database.engine === 'sqlite'
      ? `select m.name || '.' || c.name as "column" from sqlite_master m join pragma_table_info(m.name) c
         where m.type = 'table' and m.name not like 'sqlite_%'`
      : `select table_name || '.' || column_name as "column"
         from information_schema.columns where table_schema = current_schema()`
  return (await database.read<{ column: string }>(sql)).map(({ column }) => column).sort()
}

/** Tables that stay empty. On SQLite, the answer to a commit is never lost. */
const unused = {
  sqlite: ['last_commits'],
  postgres: [] as string[],
}
