/** Both engines, for tests that must pass on both. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freshPostgres } from './postgres.ts'
import { templates } from './templates.ts'

export interface Engine {
  name: 'sqlite' | 'postgres'
  /** Resolves to the URL of a new database. It is empty, unless `options` allow tables. */
  fresh(options?: FreshOptions): Promise<NewDatabase>
}

interface FreshOptions {
  /**
   * For a server that migrates when it starts. Within a test run, the tables that `migrate` creates are already there: to
   * create them takes longer than all the rest of a start.
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
