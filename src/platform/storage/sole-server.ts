/**
 * Only one server may use a SQLite file, because a server is not notified of the changes of another server. So a server
 * holds a lock until its process ends. Commands take no lock: they may run beside a server.
 *
 * The lock is a SQLite lock on an empty file beside the database. The operating system releases the lock when the
 * process ends, for any reason. The file stays, but only the lock on it has a meaning.
 */
import { closeSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'

/** Milliseconds to wait for the lock while another server, which holds the lock, may be shutting down. */
const lockTimeoutMs = 2_000

/**
 * Takes the lock of a server.
 *
 * @param path a path of the database file, which must exist. The lock file is named after the real path
 * @returns a function that releases the lock
 * @throws {SoleServerError} if another server holds the lock
 * @throws {SeveralNamesError} if the file has hard links, or is mounted by itself
 */
export function claimFile(
  path: string,
  { DatabaseSync }: typeof import('node:sqlite'),
  mountPoints: () => readonly string[] = mountPointsOfLinux,
): () => void {
  const database = realpathSync(path)
  if (statSync(database).nlink > 1) throw new SeveralNamesError(database, 'hard links')
  if (mountPoints().includes(database)) throw new SeveralNamesError(database, 'a mount')
  const file = `${database}-serving`
  createPrivately(file)
  const connection: DatabaseSync = new DatabaseSync(file, { timeout: lockTimeoutMs })
  try {
    connection.exec('begin exclusive')
  } catch (error) {
    connection.close()
    throw isBusy(error) ? new SoleServerError(database) : error
  }
  return () => connection.close()
}

/** Returns whether the error is SQLITE_BUSY: another connection holds a lock. */
export function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === 5
}

/** Thrown if another server uses the file. The message says what to do. */
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
 * Thrown if the file has several names: hard links, or a mount of the single file, as by `docker run --volume
 * ./doorbell.db:/data/doorbell.db`. Each name has its own lock and write-ahead log, so servers that use different names
 * would overwrite each other's pages.
 */
export class SeveralNamesError extends Error {
  override readonly name = 'SeveralNamesError'

  constructor(database: string, why: 'hard links' | 'a mount') {
    const advice =
      why === 'a mount' ? 'mount its folder, not the file' : 'remove the other names, or serve a copy of the file'
    super(
      `${database} has several names (${why}), so that two servers could use it without noticing each other: ${advice}`,
    )
  }
}

/** Returns the mount points of this process; none on other systems than Linux. */
function mountPointsOfLinux(): string[] {
  try {
    return readMountPoints(readFileSync('/proc/self/mountinfo', 'utf8'))
  } catch {
    return []
  }
}

/** Reads the fifth field of each line of `mountinfo`. In it, a space is written as a backslash and `040`. */
export function readMountPoints(mountinfo: string): string[] {
  const decode = (field: string) =>
    field.replace(/\\(\d{3})/g, (_all, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
  return mountinfo.split('\n').flatMap((line) => (line === '' ? [] : [decode(line.split(' ')[4] ?? '')]))
}

/**
 * Creates the file if it does not exist. An existing file is not opened here: when a process closes a file, the
 * operating system releases all locks that the process holds on this file.
 */
function createPrivately(file: string): void {
  try {
    closeSync(openSync(file, 'ax', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}
