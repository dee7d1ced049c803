/**
 * The database on SQLite, for one process on one machine. All steps run one after the other, so `lockKeys` are not
 * needed.
 *
 * Steps that arrive in the same turn of the event loop are committed together, with one sync to disk. Nothing else runs
 * between `begin` and `commit`, so a read never sees half a step.
 *
 * Another process (a command, a backup program) may hold the write lock. While SQLite itself waits for the lock,
 * nothing else can run in this process. So SQLite waits only for a moment, and steps that did not get the lock are
 * tried again later.
 */
import { constants, type Stats, statSync } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { setTimeout as pause } from 'node:timers/promises'
import { type Clock, steadyTime, systemClock } from '../clock.ts'
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
import { longestWaitMs } from './lock-queue.ts'
import { isBusy } from './sole-server.ts'
import { toSqliteDialect } from './sql-dialect.ts'
import { connect, execWhenFree } from './sqlite-connection.ts'

type Rows = Record<string, Value>[]

/** A step in the queue, and its outcome. */
interface QueuedStep extends StepOptions<Record<string, Value>> {
  first: Statement
  /** When the step was added to the queue, in the steady time of this process. */
  since: number
  outcome: { rows: Rows } | { error: unknown }
  resolve(rows: Rows): void
  reject(error: unknown): void
}

/**
 * Milliseconds after which a statement is tried again, if another process holds the lock that it needs. The timer keeps
 * the process alive, because a command may have nothing else to do.
 */
const retryAfterMs = 25

/**
 * Opens the database.
 *
 * @param path a file, which is created if it does not exist, or `:memory:`
 * @param options.serves whether a server opens the file; only one server may use a file at a time
 * @param options.clock measures how long statements wait for a lock of another process; replaced in tests
 */
export function openSqlite(
  path: string,
  { serves = false, clock = systemClock }: { serves?: boolean; clock?: Clock } = {},
): Database {
  const { connection, releaseFile } = connect(path, serves)
  const file = path === ':memory:' ? undefined : statSync(path)
  const { run, prepare, commitTogether } = committing(connection, path, file)
  const listeners = createListeners()
  const epochNow = countingForeignChanges(prepare)
  let exclusive: Promise<void> | undefined
  let closing: Promise<void> | undefined
  const queue = createQueue({ connection, commitTogether, listeners, clock, isPaused: () => exclusive !== undefined })

  async function whenOpen(): Promise<void> {
    while (exclusive) await exclusive
    refuseIfClosing()
  }

  async function exclusively<T>(work: (run: Run) => Promise<T>): Promise<T> {
    await whenOpen()
    const end = Promise.withResolvers<void>()
    exclusive = end.promise
    try {
      return await inTransaction(connection, work)
    } finally {
      exclusive = undefined
      end.resolve()
      queue.flush()
    }
  }

  async function closeAll(): Promise<void> {
    while (exclusive) await exclusive
    await queue.flushAll()
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
      return readWhenFree(clock, async () => {
        await whenOpen()
        return run({ sql, values }) as Row[]
      })
    },
    async step<Row>(first: Statement, options: StepOptions<Row> = {}) {
      refuseIfClosing()
      return (await queue.add(first, options as StepOptions<Record<string, Value>>)) as Row[]
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

interface QueueNeeds {
  connection: DatabaseSync
  commitTogether(steps: QueuedStep[]): void
  listeners: Listeners
  clock: Clock
  /** Whether the steps must wait, because `exclusively` is running. */
  isPaused(): boolean
}

/** Returns the queue of the steps. All steps in the queue are executed in one transaction. */
function createQueue({ connection, commitTogether, listeners, clock, isPaused }: QueueNeeds) {
  let queue: QueuedStep[] = []

  function flush(): void {
    if (isPaused() || queue.length === 0) return
    const steps = queue
    queue = []
    try {
      commitTogether(steps)
    } catch (error) {
      const hasBegun = connection.isTransaction
      if (hasBegun) connection.exec('rollback')
      const mayRetry = isBusy(error) && !hasBegun
      // The steps that may be retried go back into the queue, together with steps that arrive until the retry.
      queue = steps.filter(({ since }) => mayRetry && !hasWaitedTooLong(since, clock))
      if (queue.length > 0) setTimeout(flush, retryAfterMs)
      const waiting = new Set(queue)
      for (const step of steps) if (!waiting.has(step)) step.reject(error)
      return
    }
    for (const step of steps) settle(step, listeners)
  }

  return {
    add: (first: Statement, options: StepOptions<Record<string, Value>>): Promise<Rows> =>
      new Promise((resolve, reject) => {
        queue.push({ ...options, first, since: steadyTime(clock), outcome: { rows: [] }, resolve, reject })
        if (queue.length === 1) setImmediate(flush)
      }),
    flush,
    async flushAll(): Promise<void> {
      for (flush(); queue.length > 0; flush()) await pause(retryAfterMs)
    },
  }
}

/**
 * Retries a read while another process holds a lock that the read needs. This is rare in WAL mode: another process
 * holds such a lock only while it recovers the log, or while it closes the file as the last process.
 */
async function readWhenFree<Row>(clock: Clock, read: () => Promise<Row[]>): Promise<Row[]> {
  const since = steadyTime(clock)
  while (true) {
    try {
      return await read()
    } catch (error) {
      if (!isBusy(error) || hasWaitedTooLong(since, clock)) throw error
      await pause(retryAfterMs)
    }
  }
}

const hasWaitedTooLong = (since: number, clock: Clock) => steadyTime(clock) - since >= longestWaitMs

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

/**
 * Reports the outcome of a step. Listeners are called first, so that caches are up to date when the caller continues.
 */
function settle({ outcome, announce, resolve, reject }: QueuedStep, listeners: Listeners): void {
  if ('error' in outcome) {
    reject(outcome.error)
    return
  }
  if (outcome.rows.length > 0) for (const change of resolveFollowUps(announce, outcome.rows)) listeners.tell(change)
  resolve(outcome.rows)
}

/**
 * Returns a function whose result is a number. The number changes when another process (a command) has written to the
 * database. The number is read from SQLite once in each turn of the event loop. The function returns undefined if the
 * number cannot be read now.
 */
function countingForeignChanges(prepare: (sql: string) => StatementSync): () => number | undefined {
  let known: number | undefined
  return () => {
    if (known === undefined) {
      known = dataVersion(prepare)
      setImmediate(() => {
        known = undefined
      })
    }
    return known
  }
}

/** Returns SQLite's `data_version`, or undefined if a lock of another process prevents this. */
function dataVersion(prepare: (sql: string) => StatementSync): number | undefined {
  try {
    return Number(prepare('pragma data_version').get()!.data_version)
  } catch (error) {
    if (isBusy(error)) return undefined
    throw error
  }
}

/**
 * Returns the functions that execute steps on a connection.
 *
 * @param file the inode and device of the opened file, to notice if it is moved; undefined for `:memory:`
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

  /**
   * Throws if the file was renamed or deleted. SQLite does not detect this in WAL mode, and the written rows would be
   * lost.
   */
  function refuseIfMoved(): void {
    if (file === undefined) return
    const present = statSync(path, { throwIfNoEntry: false })
    if (present?.ino === file.ino && present.dev === file.dev) return
    // SQLITE_READONLY_DBMOVED
    throw Object.assign(new Error('the database file was moved away'), { code: 'ERR_SQLITE_ERROR', errcode: 1032 })
  }

  /**
   * Executes a step, and records its outcome. If the step fails, the other steps of the transaction are usually not
   * affected. But if SQLite has rolled back the whole transaction, as on a full disk, all of them fail.
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

function hasMore({ also = [] }: QueuedStep): boolean {
  return typeof also === 'function' || also.length > 0
}

/** Returns rows as plain objects, as with Postgres. */
function rowsOf(statement: StatementSync, values: Value[]): Rows {
  const rows = statement.all(...values.map(bindable)) as Rows
  return rows.map((row) => ({ ...row }))
}

/**
 * Returns integers as bigint. node:sqlite would bind a number as floating point: 7 would become '7.0' in a text column.
 */
function bindable(value: Value): Value | bigint {
  return Number.isSafeInteger(value) ? BigInt(value as number) : value
}
