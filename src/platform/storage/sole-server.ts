/**
 * A SQLite file is served by one process: what another server on it does, the first one does not hear of. So a server
 * holds a lock for as long as it lives. Commands take none: they work beside a server.
 *
 * The lock is SQLite's own, on an empty file beside the database. The operating system lets it go when the process ends,
 * in whatever way; the file stays, and means nothing by itself.
 */
import { closeSync, openSync, realpathSync, statSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'

/** How long a server that is about to end may still hold the lock. */
const patienceMs = 2_000

/**
 * @param path of the database file, which is there; by whatever name: it is known by its real path
 * @returns lets the lock go
 * @throws if another server holds it
 */
export function claimFile(path: string, { DatabaseSync }: typeof import('node:sqlite')): () => void {
  const database = realpathSync(path)
  if (statSync(database).nlink > 1) throw new SeveralNamesError(database)
  const file = `${database}-serving`
  createPrivately(file)
  const connection: DatabaseSync = new DatabaseSync(file, { timeout: patienceMs })
  try {
    connection.exec('begin exclusive')
  } catch (error) {
    connection.close()
    throw isBusy(error) ? new SoleServerError(database) : error
  }
  return () => connection.close()
}

/** Whether SQLite refused because somebody else holds a lock. */
export function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === 5
}

/** Another server has the file. The message says what to do. */
export class SoleServerError extends Error {
  override readonly name = 'SoleServerError'

  constructor(database: string) {
    super(
      `another Doorbell server uses ${database}, and only one server may use a SQLite file: stop the other server, use ` +
        'another file, or use Postgres for several servers',
    )
  }
}

/**
 * Another name of the same file has a lock and a write-ahead log of its own: servers by two of them would overwrite each
 * other's pages.
 */
export class SeveralNamesError extends Error {
  override readonly name = 'SeveralNamesError'

  constructor(database: string) {
    super(
      `${database} has several names (hard links), so that two servers could use it without noticing each other: remove ` +
        'the other names, or serve a copy of the file',
    )
  }
}

/** Opened only if it is not there: to close a file lets go of every lock that this process has on it. */
function createPrivately(file: string): void {
  try {
    closeSync(openSync(file, 'ax', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}
