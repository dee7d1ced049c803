/** Opens the database that the configuration names. */
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Database } from './database.ts'
import { watchingForFullDisk } from './full-disk.ts'
import { openSqlite } from './sqlite.ts'

const forms = 'sqlite:./doorbell.db, sqlite::memory: or postgres://user@host/name'

interface Surroundings {
  log: Log
  clock: Clock
  /** Whether a server opens the database; false for a command. Only one server may use a SQLite file at a time. */
  serves?: boolean
  /** How many connections to Postgres may be open for statements, besides the one for LISTEN. Default: 10. */
  connections?: number
  /** For tests: replaces the clock of this machine, with which the clock of the database is compared. */
  machine?: Clock
}

/**
 * Opens the database. No error contains the password in the URL.
 *
 * @param url `sqlite:` and a path, `sqlite::memory:`, or a Postgres URL
 */
export async function openDatabase(url: string, surroundings: Surroundings): Promise<Database> {
  return watchingForFullDisk(await openEngine(url, surroundings), surroundings.clock)
}

async function openEngine(url: string, surroundings: Surroundings): Promise<Database> {
  const scheme = url.slice(0, url.indexOf(':') + 1)
  if (scheme === 'sqlite:') return openSqlite(pathIn(url), { serves: surroundings.serves ?? false })
  if (scheme !== 'postgres:' && scheme !== 'postgresql:') {
    throw new Error(`the database URL must be like ${forms}`)
  }
  const { openPostgres } = await import('./postgres.ts')
  return openPostgres(url, surroundings)
}

/**
 * Returns the path in the URL. `sqlite:///var/doorbell.db` is also accepted, because other programs write absolute
 * paths in this form.
 */
function pathIn(url: string): string {
  const path = url.slice('sqlite:'.length).replace(/^\/\/(?=\/)/, '')
  if (path === '' || path.startsWith('//')) throw new Error(`a SQLite database URL must name a file: ${forms}`)
  return path
}
