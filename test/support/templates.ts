/** Databases with all tables, which are copied for tests. A test run makes one for each engine. */
import { join } from 'node:path'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { freshPostgres } from './postgres.ts'

/** The path of the SQLite file and the name of the Postgres database; undefined if no test run has made them. */
export const templates = {
  sqlite: process.env.DOORBELL_TEST_SQLITE_TEMPLATE,
  postgres: process.env.DOORBELL_TEST_POSTGRES_TEMPLATE,
}

/** Makes both, the file in `folder` and the other on the server in DOORBELL_TEST_POSTGRES. Resolves to what names them. */
export async function makeTemplates(folder: string): Promise<{ env: NodeJS.ProcessEnv; drop(): Promise<void> }> {
  const file = join(folder, 'template.db')
  const { url, drop } = await freshPostgres()
  await Promise.all([`sqlite:${file}`, url].map(addTables))
  const env = { DOORBELL_TEST_SQLITE_TEMPLATE: file, DOORBELL_TEST_POSTGRES_TEMPLATE: new URL(url).pathname.slice(1) }
  return { env, drop }
}

async function addTables(url: string): Promise<void> {
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  try {
    await migrate(database, systemClock)
  } finally {
    await database.close()
  }
}
