/** Postgres, for one process or many. Announcements travel by LISTEN and NOTIFY. */
import { hash } from 'node:crypto'
import { type ClientBase, Pool, type PoolClient, types } from 'pg'
import { type Clock, systemClock } from '../clock.ts'
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
import { type CommitMark, countWarnings, createCommits, marking } from './postgres-commits.ts'
import { sendTogether } from './postgres-pipeline.ts'
import { beginLong, prepareSession } from './postgres-session.ts'
import { channel, createPublisher, type Publisher, subscribe } from './postgres-subscription.ts'
import { wordsOfPostgres } from './sql-dialect.ts'

/** Why a transaction is worth another try: nothing of it happened, and it was not its own fault. */
const retriable = new Set(['40001', '40P01', '25P03'])
const attempts = 3

/**
 * Plans are as good as what was known of the tables when they were made, and on the first day they are empty. So they are
 * made anew after a second, and then ever later: in between no table grows by more than it has grown before.
 */
const firstPlansHoldFor = 1_000
const plansHoldFor = 600_000

/** Any number, as long as no other program on the same database means something else by it. */
const exclusiveLock = 0x646f6f72

export async function openPostgres(url: string, { log, clock }: { log: Log; clock: Clock }): Promise<Database> {
  const settings = {
    connectionString: url,
    application_name: 'doorbell',
    connectionTimeoutMillis: 5000,
    keepAlive: true,
  }
  const listeners = createListeners()
  const publisher = createPublisher(listeners)
  const subscription = await subscribe(settings, { log, clock, listeners, publisher }).catch((error: unknown) => {
    throw new Error(`cannot reach the database ${withoutPassword(url)}: ${reasonOf(error)}`, { cause: error })
  })
  const pool = new Pool({ ...settings, max: 10, types: { getTypeParser: parserOf }, onConnect: prepareConnection })
  pool.on('error', (error) => log.warn({ error }, 'an idle database connection was lost'))
  const surroundings: Surroundings = { pool, publisher, commits: createCommits(pool, send) }

  const running = new Set<Promise<unknown>>()
  let closing: Promise<void> | undefined

  /** Everything goes through here, so that closing can wait for it. */
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

  async function letGo(): Promise<void> {
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
    read: (sql, values = []) => track(() => query(pool, { sql, values })),
    step: (first, options = {}) => track(() => persistently(() => step(surroundings, first, options))),
    async writable() {
      const [row] = await track(() => query<{ readOnly: string }>(pool, readOnly))
      return row!.readOnly === 'off'
    },
    listen: listeners.add,
    exclusively: (work) => track(() => exclusively(pool, work)),
    close() {
      closing ??= letGo()
      return closing
    },
  }
}

async function prepareConnection(client: ClientBase): Promise<void> {
  // On its way from one user to the next nobody listens to a connection, and its loss would end the process.
  client.on('error', () => {})
  countWarnings(client)
  await prepareSession(client)
}

interface Surroundings {
  pool: Pool
  publisher: Publisher
  commits: ReturnType<typeof createCommits>
}

/** `on` on a standby too. */
const readOnly: Statement = { sql: `select current_setting('transaction_read_only') as "readOnly"`, values: [] }

/** What it announces is heard here at once; the others hear it by the wire. */
function step<Row>(around: Surroundings, first: Statement, options: StepOptions<Row>): Promise<Row[]> {
  const { also = [], announce = [], lockKeys } = options
  const isSingle = Array.isArray(also) && also.length === 0 && lockKeys === undefined
  if (isSingle && Array.isArray(announce)) {
    if (announce.length === 0) return singleStep(around, first)
    if (canBeWrapped(first)) return announcingStep(around, first, announce)
  }
  return inTransaction(around, first, options)
}

/** One round trip. If the connection breaks meanwhile, it fails, although it may have been carried out. */
function singleStep<Row>({ pool, commits }: Surroundings, statement: Statement): Promise<Row[]> {
  return withClient(pool, async (client) => {
    const [rows] = await commits.confirmed(client, () => send(client, [statement]))
    return rows as Row[]
  })
}

async function announcingStep<Row>(around: Surroundings, first: Statement, announce: Change[]): Promise<Row[]> {
  const count = around.publisher.publish(announce)
  const rows = await singleStep<Row>(around, announcing(first, count.payloads))
  if (rows.length > 0) count.tellHere()
  return rows
}

/**
 * Two round trips, however much there is to do: up to what the first statement says, and all that follows from it. A
 * connection on which anything failed is thrown away, and Postgres rolls back what it had begun.
 */
async function inTransaction<Row>(
  { pool, publisher, commits }: Surroundings,
  first: Statement,
  { also, announce, lockKeys = [] }: StepOptions<Row>,
): Promise<Row[]> {
  const client = await pool.connect()
  let count: ReturnType<Publisher['publish']> | undefined
  let mark: CommitMark | undefined
  let rows: Row[]
  try {
    mark = await commits.nextMark(client)
    const opening = [begin, ...(mark ? [marking(mark)] : []), ...locksFor([lockKeys].flat()), first]
    rows = (await send(client, opening)).at(-1) as Row[]
    if (rows.length === 0) {
      await send(client, [rollback])
      client.release()
      return rows
    }
    const consequences = resolveFollowUps(also, rows)
    count = publisher.publish(resolveFollowUps(announce, rows))
    const closing = [...consequences, ...notifying(count.payloads), commit]
    await commits.confirmed(client, () => send(client, closing))
    client.release()
  } catch (error) {
    commits.giveUp(client)
    client.release(error as Error)
    // Only now: the inquiry needs a connection, too.
    if (count === undefined || !(await commits.happened(mark, error))) throw error
  }
  count.tellHere()
  return rows!
}

/**
 * A statement sees what was committed when it began, so the lock is taken by one before it. Both travel together. Of
 * two words with the same hash one waits for nothing; that is all. Everybody takes several in the same order, so that
 * no two wait for each other.
 */
function locksFor(words: string[]): Statement[] {
  if (words.length === 0) return []
  const hashes = words.map(numberOf).sort((a, b) => a - b)
  return [
    {
      sql: `select count(pg_advisory_xact_lock(${exclusiveLock}, cast(each.value as int))) from each($1)`,
      values: [JSON.stringify(hashes)],
    },
  ]
}

/** The first 32 bits of its hash. */
const numberOf = (word: string) => Number.parseInt(hash('sha256', word).slice(0, 8), 16) | 0

/** Postgres allows no changing statement in a `with` within a `with`. */
function canBeWrapped({ sql }: Statement): boolean {
  return !/^\s*with\b[\s\S]*\(\s*(insert|update|delete|merge)\b/i.test(sql)
}

/**
 * The change and its announcements in one round trip. `said` has exactly one row whatever happens, being a count,
 * and it counts nothing, and so says nothing, when the change returned no row.
 */
function announcing(statement: Statement, payloads: string): Statement {
  const { sql } = statement
  const values = valuesOf(statement)
  return {
    sql: `with step as (${sql}
), said as materialized (
  select count(pg_notify('${channel}', each.value)) from each($${values.length + 1}) where exists (select 1 from step)
) select step.* from step cross join said`,
    values: [...values, payloads],
  }
}

function notifying(payloads: string): Statement[] {
  if (payloads === '[]') return []
  return [{ sql: `select count(pg_notify('${channel}', each.value)) from each($1)`, values: [payloads] }]
}

const begin: Statement = { sql: 'begin', values: [] }
const commit: Statement = { sql: 'commit', values: [] }
const rollback: Statement = { sql: 'rollback', values: [] }

/** Once a lock is held to the end of the transaction, whoever waited for it sees all that was committed before. */
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

async function persistently<T>(work: () => Promise<T>, left = attempts): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (left <= 1 || !retriable.has(codeOf(error))) throw error
    return persistently(work, left - 1)
  }
}

function query<Row>(pool: Pool, statement: Statement): Promise<Row[]> {
  return withClient(pool, async (client) => {
    const [rows] = await send(client, [statement])
    return rows as Row[]
  })
}

/** A connection on which anything failed is thrown away. */
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

/** When each connection plans anew, and milliseconds from then to the next time. */
const plans = new WeakMap<PoolClient, { dueAt: number; hold: number }>()

function isPlanningDue(client: PoolClient): boolean {
  const now = systemClock.now()
  const known = plans.get(client)
  if (known && now < known.dueAt) return false
  const hold = known?.hold ?? firstPlansHoldFor
  plans.set(client, { dueAt: now + hold, hold: Math.min(hold * 2, plansHoldFor) })
  return known !== undefined
}

function ready(statement: Statement) {
  return { ...prepared(statement.sql), values: valuesOf(statement) }
}

const known = new Map<string, { name: string; text: string }>()

/** A named statement is planned once on each connection. Statements are constants of the program, so the map stays small. */
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

/** Rows hold strings, numbers and nulls, as on SQLite: counts and sums are numbers, comparisons 1 or 0, JSON its text. */
function parserOf(type: number, format?: string): (text: string) => unknown {
  if (type === INT8 || type === NUMERIC) return Number
  if (type === BOOL) return (text) => (text === 't' ? 1 : 0)
  if (type === JSON_TEXT || type === JSONB) return String
  return types.getTypeParser(type, format as 'text')
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** When a name stands for several addresses, Node reports all attempts together and says nothing itself. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(', ')
  return error instanceof Error ? error.message || codeOf(error) : String(error)
}

function withoutPassword(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}
