/** Opens a connection to a SQLite file. */
import { closeSync, openSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { steadyTime, systemClock } from '../clock.ts'
import { claimFile, isBusy } from './sole-server.ts'

/**
 * When SQLite begins to overwrite the write-ahead log from its start, it shortens the file to this many bytes. In
 * normal operation, the overwriting begins after about 4 MB. While another process reads for a long time, the log grows
 * further.
 */
const mostLogBytes = 8 * 2 ** 20

/** At its start, a process waits at most this many milliseconds while another process uses the database. */
const startWithinMs = 60_000

/**
 * SQLite itself waits at most this many milliseconds for a lock of another process. Nothing else can run in this
 * process during that wait.
 */
const busyTimeoutMs = 5

/**
 * Opens a connection, and creates the file if it does not exist.
 *
 * @param serves whether a server opens the file. If so, the lock of the only server is taken (`sole-server.ts`), and
 *   `releaseFile` releases it
 */
export function connect(path: string, serves: boolean) {
  const isFile = path !== ':memory:'
  if (isFile) createPrivately(path)
  const sqlite = loadSqlite()
  const releaseFile = isFile && serves ? claimFile(path, sqlite) : () => {}
  try {
    const connection = new sqlite.DatabaseSync(path, { timeout: busyTimeoutMs })
    const settings = `synchronous = full; pragma foreign_keys = on; pragma journal_size_limit = ${mostLogBytes}`
    execWhenFree(connection, `pragma journal_mode = wal; pragma ${settings}`)
    return { connection, releaseFile }
  } catch (error) {
    releaseFile()
    throw error
  }
}

/** Creates the file with mode 0600. SQLite gives its side files (-wal, -shm) the mode of the database file. */
function createPrivately(path: string): void {
  try {
    closeSync(openSync(path, 'a', 0o600))
  } catch (error) {
    throw new Error(`cannot open the database file ${path}: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * Loads node:sqlite. When it is loaded, the first Node 24 releases print a warning that SQLite is experimental. This
 * warning is hidden, because every command would print it first.
 */
function loadSqlite(): typeof import('node:sqlite') {
  const { emitWarning } = process
  process.emitWarning = (...warning: unknown[]) => {
    if (!String(warning[0]).startsWith('SQLite is an experimental feature'))
      Reflect.apply(emitWarning, process, warning)
  }
  try {
    return process.getBuiltinModule('node:sqlite')
  } finally {
    process.emitWarning = emitWarning
  }
}

/**
 * Executes a statement, and retries while the database is busy. Used at the start, when another process may execute the
 * same statement. SQLite's own timeout is not enough: a migration may take longer, and a change of the journal mode
 * fails at once.
 */
export function execWhenFree(connection: DatabaseSync, sql: string): void {
  const deadline = steadyTime(systemClock) + startWithinMs
  while (true) {
    try {
      connection.exec(sql)
      return
    } catch (error) {
      if (!isBusy(error) || steadyTime(systemClock) > deadline) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
    }
  }
}
