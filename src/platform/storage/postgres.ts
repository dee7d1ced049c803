/** The database on Postgres, for one process or many. All nodes are notified of changes with NOTIFY and LISTEN. */
import { hash } from 'node:crypto'
import { type Pool, type PoolClient, types } from 'pg'
import { type Clock, steadyTime, systemClock } from '../clock.ts'
import type { Log } from '../log.ts'
import {
  type Change,
  type Database,
  type Run,
  resolveFollowUps,
  type Statement,
  type StepOptions,
  type Value,
  valuesOf,
} from './database.ts'
import { createListeners } from './listeners.ts'
import { createLockQueue, type LockQueue } from './lock-queue.ts'
import { readPostgresUrl } from './postgres-address.ts'
import { type CommitMark, createCommits, marking } from './postgres-commits.ts'
import { sendTogether } from './postgres-pipeline.ts'
import { openPool, type StatementPool } from './postgres-pool.ts'
import { codeOf, withRetries } from './postgres-retries.ts'
import { createRoutes } from './postgres-routes.ts'
import { beginLong } from './postgres-session.ts'
import { createSilenceWatch } from './postgres-silence.ts'
import { channel, createPublisher, type Publisher, subscribe } from './postgres-subscription.ts'
import { wordsOfPostgres } from './sql-dialect.ts'

/**
 * Postgres makes the plan of a statement from the current table statistics, and at first the tables are empty. So each
 * connection plans its statements again after `firstPlansHoldMs`, and then after pauses that double, up to
 * `plansHoldMs`. With such pauses, a table that grows steadily at most doubles between two plannings, so that no plan
 * is far from the true size.
 */
const firstPlansHoldMs = 1_000
const plansHoldMs = 600_000

/** The key of Doorbell's advisory locks: an arbitrary number that no other program on the same database should use. */
const exclusiveLock = 0x646f6f72

/** How many connections a process opens for statements by default. */
const usualConnections = 10

interface Surroundings {
  log: Log
  clock: Clock
  machine?: Clock | undefined
  connections?: number | undefined
}

/**
 * Opens the database.
 *
 * @throws if the database cannot be reached; the message contains the URL without the password
 */
export async function openPostgres(
  url: string,
  { log, clock, machine, connections = usualConnections }: Surroundings,
): Promise<Database> {
  const address = readPostgresUrl(url)
  const routes = createRoutes(address)
  const listeners = createListeners()
  const publisher = createPublisher(listeners)
  const silence = createSilenceWatch({ log, clock })
  const subscription = await subscribe({ routes, log, clock, listeners, publisher, silence, machine }).catch(
    (error: unknown) => {
      throw new Error(`cannot reach the database ${address.name}: ${reasonOf(error)}`, { cause: error })
    },
  )
  const pool = openPool(routes, { connections, getTypeParser: parserOf, silence })
  pool.on('error', (error) =>
    log.warn({ event: 'database.connection_lost', error }, 'an idle database connection was lost'),
  )
  const commits = createCommits(pool, send)
  const opened: Opened = {
    pool,
    publisher,
    commits,
    locks: createLockQueue({ now: () => steadyTime(clock), after: systemClock.after }),
  }

  const running = new Set<Promise<unknown>>()
  let closing: Promise<void> | undefined

  /** Runs `work`. All operations run through this function, so that `close` can wait for them. */
  async function track<T>(work: () => Promise<T>): Promise<T> {
    if (closing) throw new Error('the database is closed')
    const promise = work()
    running.add(promise)
    try {
      return await promise
    } finally {
      running.delete(promise)
    }
  }

  async function closeAll(): Promise<void> {
    await Promise.allSettled(running)
    await subscription.end()
    await pool.end()
  }

  return {
    engine: 'postgres',
    get listening() {
      return subscription.listening
    },
    get epoch() {
      return subscription.epoch
    },
    get clockOffset() {
      return subscription.clockOffset
    },
    read: (sql, values = []) => track(() => withRetries(pool, () => query(pool, { sql, values }))),
    step: (first, options = {}) => track(() => inLockOrder(opened, first, options)),
    inLockOrder: opened.locks.withKeys,
    async writable() {
      const [row] = await track(() => query<{ readOnly: string }>(pool, readOnly))
      return row!.readOnly === 'off'
    },
    listen: listeners.add,
    exclusively: (work) => track(() => exclusively(pool, work)),
    close() {
      closing ??= closeAll()
      return closing
    },
  }
}

interface Opened {
  pool: StatementPool
  publisher: Publisher
  commits: ReturnType<typeof createCommits>
  locks: LockQueue
}

/** Reads whether the session is read-only. On a standby, `transaction_read_only` is always `on`. */
const readOnly: Statement = { sql: `select current_setting('transaction_read_only') as "readOnly"`, values: [] }

/**
 * Executes a step after all earlier steps of this process that share a lock key or a row key with it. A step keeps its
 * keys while it is retried, and while it is unknown whether it was committed.
 */
function inLockOrder<Row>(around: Opened, first: Statement, options: StepOptions<Row>): Promise<Row[]> {
  const { lockKeys = [], rowKeys = [], hasTurn = false } = options
  const work = () => withRetries(around.pool, () => step<Row>(around, first, options))
  return hasTurn ? work() : around.locks.withKeys([lockKeys, rowKeys].flat(), work)
}

/** Executes a step. After the commit, listeners on this node are called, and other nodes receive a notification. */
function step<Row>(around: Opened, first: Statement, options: StepOptions<Row>): Promise<Row[]> {
  const { also = [], announce = [], lockKeys, sharedLockKeys } = options
  const isLocked = lockKeys !== undefined || sharedLockKeys !== undefined
  const isSingle = Array.isArray(also) && also.length === 0 && !isLocked
  if (isSingle && Array.isArray(announce)) {
    if (announce.length === 0) return singleStep(around, first)
    if (canBeWrapped(first)) return announcingStep(around, first, announce)
  }
  return inTransaction(around, first, options)
}

/**
 * Executes a step in one round trip. If the connection breaks, the promise rejects, although the step may have been
 * committed.
 */
function singleStep<Row>({ pool, commits }: Opened, statement: Statement): Promise<Row[]> {
  return withClient(pool, async (client) => {
    const [rows] = await commits.confirmed(client, () => send(client, [statement]))
    return rows as Row[]
  })
}

async function announcingStep<Row>(around: Opened, first: Statement, announce: Change[]): Promise<Row[]> {
  const announcement = around.publisher.publish(announce)
  const rows = await singleStep<Row>(around, announcing(first, announcement.payloads))
  if (rows.length > 0) announcement.tellHere()
  return rows
}

/**
 * Executes a step in two round trips: one for all statements up to `first`, and one for the statements that depend on
 * the rows of `first`. If anything fails, the connection is discarded, and Postgres rolls the transaction back.
 */
async function inTransaction<Row>(
  { pool, publisher, commits }: Opened,
  first: Statement,
  { also, announce, lockKeys = [], sharedLockKeys = [] }: StepOptions<Row>,
): Promise<Row[]> {
  const client = await pool.connect()
  let announcement: ReturnType<Publisher['publish']> | undefined
  let mark: CommitMark | undefined
  let rows: Row[]
  try {
    mark = await commits.nextMark(client)
    const opening = [begin, ...(mark ? [marking(mark)] : []), ...locksFor([lockKeys].flat(), sharedLockKeys), first]
    rows = (await send(client, opening)).at(-1) as Row[]
    if (rows.length === 0) {
      await send(client, [rollback])
      client.release()
      return rows
    }
    const consequences = resolveFollowUps(also, rows)
    announcement = publisher.publish(resolveFollowUps(announce, rows))
    const closing = [...consequences, ...notifying(announcement.payloads), commit]
    await commits.confirmed(client, () => send(client, closing))
    client.release()
  } catch (error) {
    commits.giveUp(client)
    client.release(error as Error)
    // The connection is released before `commits.happened` asks the database, because this query needs a connection
    // from the pool.
    if (announcement === undefined || !(await commits.happened(mark, error))) throw error
  }
  announcement.tellHere()
  return rows!
}

/**
 * Returns the statement that takes the locks, or an empty list if there are no keys. This is a separate statement
 * before `first`, in the same round trip, because a statement sees only changes that were committed before the
 * statement began. If two keys have the same hash, the only effect is an unnecessary wait. All steps take their locks
 * in the same order, which prevents deadlocks. If a step needs both the shared and the exclusive lock of a key, it
 * takes only the exclusive one. If two steps took the shared lock first, they would wait for each other.
 */
function locksFor(keys: string[], sharedKeys: string[]): Statement[] {
  if (keys.length + sharedKeys.length === 0) return []
  // Each lock is taken only once, even if many items of a batch need it.
  const exclusive = new Set([...new Set(keys)].map(numberOf))
  const shared = [...new Set(sharedKeys)].map(numberOf)
  const numbers = [...new Set([...exclusive, ...shared])].sort((one, other) => one - other)
  const areShared = numbers.map((number) => !exclusive.has(number))
  return [{ sql: takingLocks, values: [`{${numbers}}`, `{${areShared}}`] }]
}

/** `$1`: the numbers of the locks, as an array literal; `$2`: whether each of them is shared. */
const takingLocks = `select count(case when is_shared
    then pg_advisory_xact_lock_shared(${exclusiveLock}, number)
    else pg_advisory_xact_lock(${exclusiveLock}, number) end)
  from unnest($1::int[], $2::boolean[]) as lock (number, is_shared)`

/** Returns the first 32 bits of the hash of a key. */
const numberOf = (key: string) => Number.parseInt(hash('sha256', key).slice(0, 8), 16) | 0

/**
 * Returns whether a statement may be put into a `with` clause: Postgres allows no data-modifying statement in a nested
 * `with`.
 */
function canBeWrapped({ sql }: Statement): boolean {
  return !/^\s*with\b[\s\S]*\(\s*(insert|update|delete|merge)\b/i.test(sql)
}

/**
 * Returns one statement that executes the change and sends the notifications. `said` always has exactly one row: the
 * number of calls of `pg_notify`. If the change returned no row, `pg_notify` is not called.
 */
function announcing(statement: Statement, payloads: string[]): Statement {
  const { sql } = statement
  const values = valuesOf(statement)
  return {
    sql: `with step as (${sql}
), said as materialized (
  select count(pg_notify('${channel}', each.value)) from each($${values.length + 1}) where exists (select 1 from step)
) select step.* from step cross join said`,
    values: [...values, JSON.stringify(payloads)],
  }
}

function notifying(payloads: string[]): Statement[] {
  if (payloads.length === 0) return []
  if (payloads.length === 1) return [{ sql: notifyingOnce, values: payloads }]
  return [{ sql: notifyingOften, values: [JSON.stringify(payloads)] }]
}

const notifyingOnce = `select pg_notify('${channel}', $1)`
const notifyingOften = `select count(pg_notify('${channel}', each.value)) from each($1)`

const begin: Statement = { sql: 'begin', values: [] }
const commit: Statement = { sql: 'commit', values: [] }
const rollback: Statement = { sql: 'rollback', values: [] }

/**
 * Executes `work` in a transaction that holds a lock until its commit. So the next transaction that takes the lock sees
 * all changes of `work`.
 */
async function exclusively<T>(pool: Pool, work: (run: Run) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  try {
    await beginLong(client)
    await client.query('select pg_advisory_xact_lock($1)', [exclusiveLock])
    const result = await work(async <Row>(sql: string, values: Value[] = []) => {
      const { rows } = await client.query(wordsOfPostgres(sql), values)
      return rows as Row[]
    })
    await client.query('commit')
    client.release()
    return result
  } catch (error) {
    client.release(error as Error)
    throw error
  }
}

function query<Row>(pool: Pool, statement: Statement): Promise<Row[]> {
  return withClient(pool, async (client) => {
    const [rows] = await send(client, [statement])
    return rows as Row[]
  })
}

/** Runs `work` with a connection. If `work` fails, the connection is discarded. */
async function withClient<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  try {
    const result = await work(client)
    client.release()
    return result
  } catch (error) {
    client.release(error as Error)
    throw error
  }
}

async function send(client: PoolClient, statements: Statement[]) {
  const replans = isPlanningDue(client)
  const all = replans ? [discardPlans, ...statements] : statements
  const answers = await sendTogether(client, all.map(ready), parserOf)
  return replans ? answers.slice(1) : answers
}

const discardPlans: Statement = { sql: 'discard plans', values: [] }

/**
 * For each connection: `dueAt` is the time at which it plans its statements again, and `hold` is the next pause in
 * milliseconds.
 */
const plans = new WeakMap<PoolClient, { dueAt: number; hold: number }>()

function isPlanningDue(client: PoolClient): boolean {
  const now = steadyTime(systemClock)
  const known = plans.get(client)
  if (known && now < known.dueAt) return false
  const hold = known?.hold ?? firstPlansHoldMs
  plans.set(client, { dueAt: now + hold, hold: Math.min(hold * 2, plansHoldMs) })
  return known !== undefined
}

function ready(statement: Statement) {
  return { ...prepared(statement.sql), values: valuesOf(statement) }
}

const known = new Map<string, { name: string; text: string }>()

/** Returns the name and the text of a statement. All SQL is constant in the program, so the map `known` stays small. */
function prepared(sql: string): { name: string; text: string } {
  const found = known.get(sql)
  if (found) return found
  const statement = {
    name: /^[\w ]{1,63}$/.test(sql) ? sql : hash('sha256', sql, 'base64url').slice(0, 16),
    text: wordsOfPostgres(sql),
  }
  known.set(sql, statement)
  return statement
}

const { BOOL, INT8, NUMERIC, JSON: JSON_TEXT, JSONB } = types.builtins

/**
 * Returns the parser for the values of a type. As on SQLite, rows contain strings, numbers and nulls: counts and sums
 * are numbers, booleans are 1 or 0, and JSON is text.
 */
function parserOf(type: number, format?: string): (text: string) => unknown {
  if (type === INT8 || type === NUMERIC) return Number
  if (type === BOOL) return (text) => (text === 't' ? 1 : 0)
  if (type === JSON_TEXT || type === JSONB) return String
  return types.getTypeParser(type, format as 'text')
}

/** Returns the message of an error. If a host has several addresses, Node's AggregateError has no message. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(', ')
  return error instanceof Error ? error.message || codeOf(error) : String(error)
}
