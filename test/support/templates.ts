/** Template databases with all tables, which are copied for tests. A test run creates one template for each engine. */
import { join } from 'node:path'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { freshPostgres } from './postgres.ts'

/** The templates: the path of the SQLite file, and the name of the Postgres database. Undefined outside a test run. */
export const templates = {
  sqlite: process.env.DOORBELL_TEST_SQLITE_TEMPLATE,
  postgres: process.env.DOORBELL_TEST_POSTGRES_TEMPLATE,
}

/**
 * Creates both templates: the SQLite file in `folder`, and the Postgres database on the server at
 * DOORBELL_TEST_POSTGRES. Resolves to the environment variables that name the templates, and a function that drops the
 * Postgres database.
 */
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
