/** Both database engines, for tests that must pass on both. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freshPostgres } from './postgres.ts'
import { templates } from './templates.ts'

export interface Engine {
  name: 'sqlite' | 'postgres'
  /** Creates a database, which is empty unless `mayHaveTables` is set. */
  fresh(options?: FreshOptions): Promise<NewDatabase>
}

interface FreshOptions {
  /**
   * If true, the database may already have all tables. For tests of a server that migrates at its start. In a test run,
   * such a database is a copy of a template, because the creation of the tables takes longer than the rest of the
   * start.
   */
  mayHaveTables?: boolean
}

interface NewDatabase {
  url: string
  drop(): Promise<void>
}

export const engines: Engine[] = [
  { name: 'sqlite', fresh: ({ mayHaveTables } = {}) => freshSqlite(mayHaveTables ? templates.sqlite : undefined) },
  {
    name: 'postgres',
    fresh: ({ mayHaveTables } = {}) => freshPostgres(mayHaveTables ? templates.postgres : undefined),
  },
]

async function freshSqlite(template?: string): Promise<NewDatabase> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-sqlite-'))
  const file = join(folder, 'doorbell.db')
  if (template !== undefined) await copyFile(template, file)
  return { url: `sqlite:${file}`, drop: () => rm(folder, { recursive: true, force: true }) }
}
