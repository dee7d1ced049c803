/** Reads tables. For tests of written rows and of the states of notifications. */
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { columnsByTable } from './columns.ts'
import type { Stage } from './stage.ts'

/** All tables except those about the database itself. */
export const tables = Object.keys(columnsByTable).filter(
  (table) => table !== 'doorbell_migrations' && table !== 'last_commits',
)

type Row = Record<string, string | number | null>

/** Executes a query on its own database connection, as another process would. */
export async function rowsOf(stage: Stage, sql: string, values: (string | number)[] = []): Promise<Row[]> {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
  try {
    return await database.read<Row>(sql, values)
  } finally {
    await database.close()
  }
}

export async function contentsOf(stage: Stage): Promise<Record<string, Row[]>> {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
  try {
    const contents: Record<string, Row[]> = {}
    for (const table of tables) contents[table] = await database.read<Row>(`select * from ${table} order by 1, 2`)
    return contents
  } finally {
    await database.close()
  }
}

/** Resolves to the number of rows of each table. */
export async function countRows(stage: Stage): Promise<Record<string, number>> {
  const contents = await contentsOf(stage)
  return Object.fromEntries(Object.entries(contents).map(([table, rows]) => [table, rows.length]))
}

/** Resolves to the pings and pushes with their states. The oldest is the first. */
export function callBacksOf(stage: Stage): Promise<Row[]> {
  return rowsOf(
    stage,
    `select id, kind, lane, state, attempts, last_outcome, due_at from notifications
     where kind in ('ping', 'push') order by id`,
  )
}
