/**
 * The database on SQLite, for one process on one machine. All steps run one after the other, so `lockKeys` are not needed.
 *
 * Steps that arrive in the same turn of the event loop are committed together, with one sync to disk. Nothing else runs
 * between `begin` and `commit`, so a read never sees half a step.
 */
import { closeSync, constants, openSync, type Stats, statSync } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { steadyTime, systemClock } from '../clock.ts'
import {
  type Database,
  type Run,
  resolveFollowUps,
  type Statement,
  type StepOptions,
  type Value,
  valuesOf,
} from './database.ts'
import { createListeners, type Listeners } from './listeners.ts'
import { claimFile, isBusy } from './sole-server.ts'
import { toSqliteDialect } from './sql-dialect.ts'

type Rows = Record<string, Value>[]

/** A step in the queue, and its outcome. */
interface QueuedStep extends StepOptions<Record<string, Value>> {
  first: Statement
  outcome: { rows: Rows } | { error: unknown }
  resolve(rows: Rows): void
  reject(error: unknown): void
}

/**
 * When SQLite begins to overwrite the write-ahead log from its start, it shortens the file to this many bytes. In
 * normal operation, the overwriting begins after about 4 MB. While another process reads for a long time, the log grows
 * further.
 */
const mostLogBytes = 8 * 2 ** 20

/** A process that starts waits at most this many milliseconds for another process that uses the database. */
const startWithinMs = 60_000

/**
 * Opens the database.
 *
 * @param path a file, which is created if it does not exist, or `:memory:`
 * @param options.serves whether a server opens the file; only one server may use a file at a time
 */
export function openSqlite(path: string, { serves = false } = {}): Database {
  const { connection, releaseFile } = connect(path, serves)
  const file = path === ':memory:' ? undefined : statSync(path)
  const { run, prepare, commitTogether } = committing(connection, path, file)
  const listeners = createListeners()
  const epochNow = countingForeignChanges(prepare)
  let queue: QueuedStep[] = []
  let exclusive: Promise<void> | undefined
  let closing: Promise<void> | undefined

  function enqueue(first: Statement, options: StepOptions<Record<string, Value>>): Promise<Rows> {
    return new Promise((resolve, reject) => {
      queue.push({ ...options, first, outcome: { rows: [] }, resolve, reject })
      if (queue.length === 1) setImmediate(flush)
    })
  }

  function flush(): void {
    if (exclusive || queue.length === 0) return
    const steps = queue
    queue = []
    try {
      commitTogether(steps)
    } catch (error) {
      if (connection.isTransaction) connection.exec('rollback')
      for (const step of steps) step.reject(error)
      return
    }
    for (const step of steps) settle(step, listeners)
  }

  async function exclusively<T>(work: (run: Run) => Promise<T>): Promise<T> {
    while (exclusive) await exclusive
    refuseIfClosing()
    const end = Promise.withResolvers<void>()
    exclusive = end.promise
    try {
      return await inTransaction(connection, work)
    } finally {
      exclusive = undefined
      end.resolve()
      flush()
    }
  }

  async function closeAll(): Promise<void> {
    while (exclusive) await exclusive
    flush()
    connection.close()
    releaseFile()
  }

  function refuseIfClosing(): void {
    if (closing) throw new Error('the database is closed')
  }

  const database: Database = {
    engine: 'sqlite',
    listening: true,
    get epoch() {
      return exclusive || closing ? undefined : epochNow()
    },
    clockOffset: 0,
    async read<Row>(sql: string, values: Value[] = []) {
      while (exclusive) await exclusive
      refuseIfClosing()
      return run({ sql, values }) as Row[]
    },
    async step<Row>(first: Statement, options: StepOptions<Row> = {}) {
      refuseIfClosing()
      return (await enqueue(first, options as StepOptions<Record<string, Value>>)) as Row[]
    },
    async writable() {
      refuseIfClosing()
      return path === ':memory:' || (await isStillThere(path, file))
    },
    inLockOrder: (_lockKeys, work) => work(),
    listen: listeners.add,
    exclusively,
    close() {
      closing ??= closeAll()
      return closing
    },
  }
  return database
}

/** Executes `work` in a transaction of its own. */
async function inTransaction<T>(connection: DatabaseSync, work: (run: Run) => Promise<T>): Promise<T> {
  try {
    execWhenFree(connection, 'begin immediate')
    const result = await work(async <Row>(sql: string, values: Value[] = []) => {
      return rowsOf(connection.prepare(toSqliteDialect(sql)), values) as Row[]
    })
    connection.exec('commit')
    return result
  } catch (error) {
    if (connection.isTransaction) connection.exec('rollback')
    throw error
  }
}

/** Reports the outcome of a step. Listeners are called first, so that caches are up to date when the caller continues. */
function settle({ outcome, announce, resolve, reject }: QueuedStep, listeners: Listeners): void {
  if ('error' in outcome) {
    reject(outcome.error)
    return
  }
  if (outcome.rows.length > 0) for (const change of resolveFollowUps(announce, outcome.rows)) listeners.tell(change)
  resolve(outcome.rows)
}

/**
 * Returns a function that returns a number. The number changes when another process (a command) has written to the
 * database. The number is read from SQLite once in each turn of the event loop.
 */
function countingForeignChanges(prepare: (sql: string) => StatementSync): () => number {
  let known: number | undefined
  return () => {
    if (known === undefined) {
      known = Number(prepare('pragma data_version').get()!.data_version)
      setImmediate(() => {
        known = undefined
      })
    }
    return known
  }
}

/**
 * Returns the functions that execute steps on a connection.
 *
 * @param file the state of the opened file; undefined for `:memory:`
 */
function committing(connection: DatabaseSync, path: string, file: Stats | undefined) {
  const prepared = new Map<string, StatementSync>()

  const run = (statement: Statement): Rows => rowsOf(prepare(statement.sql), valuesOf(statement))

  function prepare(sql: string): StatementSync {
    const known = prepared.get(sql)
    if (known) return known
    const statement = connection.prepare(toSqliteDialect(sql))
    prepared.set(sql, statement)
    return statement
  }

  function commitTogether(steps: QueuedStep[]): void {
    refuseIfMoved()
    connection.exec('begin immediate')
    for (const step of steps) execute(step)
    connection.exec('commit')
  }

  /** Throws if the file was renamed or deleted. SQLite does not detect this in WAL mode, and the written rows would be lost. */
  function refuseIfMoved(): void {
    if (file === undefined) return
    const present = statSync(path, { throwIfNoEntry: false })
    if (present?.ino === file.ino && present.dev === file.dev) return
    // SQLITE_READONLY_DBMOVED
    throw Object.assign(new Error('the database file was moved away'), { code: 'ERR_SQLITE_ERROR', errcode: 1032 })
  }

  /**
   * Executes a step, and records its outcome. If the step fails, other steps are not affected, unless SQLite has rolled
   * back the whole transaction (as on a full disk).
   */
  function execute(step: QueuedStep): void {
    try {
      step.outcome = { rows: hasMore(step) ? runAll(step) : run(step.first) }
    } catch (error) {
      if (!connection.isTransaction) throw error
      step.outcome = { error }
    }
  }

  function runAll({ first, also }: QueuedStep): Rows {
    connection.exec('savepoint step')
    try {
      const rows = run(first)
      if (rows.length > 0) resolveFollowUps(also, rows).forEach(run)
      connection.exec('release step')
      return rows
    } catch (error) {
      if (connection.isTransaction) connection.exec('rollback to step; release step')
      throw error
    }
  }

  return { run, prepare, commitTogether }
}

function connect(path: string, serves: boolean) {
  const isFile = path !== ':memory:'
  if (isFile) createPrivately(path)
  const sqlite = loadSqlite()
  const releaseFile = isFile && serves ? claimFile(path, sqlite) : () => {}
  try {
    const connection = new sqlite.DatabaseSync(path, { timeout: 5000 })
    execWhenFree(connection, 'pragma journal_mode = wal')
    connection.exec(`pragma synchronous = full; pragma foreign_keys = on; pragma journal_size_limit = ${mostLogBytes}`)
    return { connection, releaseFile }
  } catch (error) {
    releaseFile()
    throw error
  }
}

/**
 * Resolves to whether the path still leads to the opened file, and the file is writable: a file system may have become
 * read-only.
 */
async function isStillThere(path: string, opened: Stats | undefined): Promise<boolean> {
  try {
    await access(path, constants.W_OK)
    const { dev, ino } = await stat(path)
    return dev === opened?.dev && ino === opened.ino
  } catch {
    return false
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

function hasMore({ also = [] }: QueuedStep): boolean {
  return typeof also === 'function' || also.length > 0
}

/** Returns rows as plain objects, as with Postgres. */
function rowsOf(statement: StatementSync, values: Value[]): Rows {
  const rows = statement.all(...values.map(bindable)) as Rows
  return rows.map((row) => ({ ...row }))
}

/** Returns integers as bigint. node:sqlite would bind a number as floating point: 7 would become '7.0' in a text column. */
function bindable(value: Value): Value | bigint {
  return Number.isSafeInteger(value) ? BigInt(value as number) : value
}

/**
 * Executes a statement, and retries while the database is busy. Used at the start, when another process may execute the
 * same statement. SQLite's own timeout of five seconds is not enough: a migration may take longer, and a change of the
 * journal mode fails at once.
 */
function execWhenFree(connection: DatabaseSync, sql: string): void {
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
