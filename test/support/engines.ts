/** Both engines, for tests that must pass on both. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freshPostgres } from './postgres.ts'

export interface Engine {
  name: 'sqlite' | 'postgres'
  /** Resolves to the URL of a new, empty database. */
  fresh(): Promise<{ url: string; drop(): Promise<void> }>
}

export const engines: Engine[] = [
  { name: 'sqlite', fresh: freshSqlite },
  { name: 'postgres', fresh: freshPostgres },
]

async function freshSqlite() {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-sqlite-'))
  return { url: `sqlite:${join(folder, 'doorbell.db')}`, drop: () => rm(folder, { recursive: true, force: true }) }
}
