/** Postgres, for one process or many. Announcements travel by LISTEN and NOTIFY. */
import { createHash } from 'node:crypto'
import { Pool, type PoolClient, types } from 'pg'
import { type Clock, systemClock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Change, Database, Run, Statement, StepOptions, Value } from './database.ts'
import { createListeners } from './listeners.ts'
import { channel, payloadOf, subscribe } from './postgres-subscription.ts'
import { wordsOfPostgres } from './words.ts'

/** Why a transaction is worth another try: nothing of it happened, and it was not its own fault. */
const retriable = new Set(['40001', '40P01', '25P03'])
const attempts = 3

/** Any number, as long as no other program on the same database means something else by it. */
const exclusiveLock = 0x646f6f72

/** What runs a query: the pool, or one connection of it within a transaction. */
type Runner = Pick<PoolClient, 'query'>

export async function openPostgres(url: string, { log, clock }: { log: Log; clock: Clock }): Promise<Database> {
  const settings = {
    connectionString: url,
    application_name: 'doorbell',
    connectionTimeoutMillis: 5000,
    keepAlive: true,
  }
  const listeners = createListeners()
  const subscription = await subscribe(settings, { log, clock, listeners }).catch((error: unknown) => {
    throw new Error(`cannot reach the database ${withoutPassword(url)}: ${reasonOf(error)}`, { cause: error })
  })
  const pool = new Pool({ ...settings, max: 10, types: { getTypeParser: parserOf } })
  pool.on('error', (error) => log.warn({ error }, 'an idle database connection was lost'))
  // On its way from one user to the next nobody listens to a connection, and its loss would end the process.
  pool.on('connect', (client) => client.on('error', () => {}))

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
    read: (sql, values = []) => track(() => query(pool, { sql, values })),
    step: (first, options = {}) => track(() => persistently(() => step(pool, first, options))),
    listen: listeners.add,
    exclusively: (work) => track(() => exclusively(pool, work)),
    close() {
      closing ??= letGo()
      return closing
    },
  }
}

function step<Row>(pool: Pool, first: Statement, { also = [], announce = [], alone }: StepOptions): Promise<Row[]> {
  if (also.length === 0 && alone === undefined) {
    if (announce.length === 0) return query(pool, first)
    if (canBeWrapped(first)) return query(pool, announcing(first, announce))
  }
  return inTransaction(pool, alone === undefined ? [] : locksFor([alone].flat()), async (client) => {
    const rows = await query<Row>(client, first)
    if (rows.length === 0) return rows
    for (const statement of also) await query(client, statement)
    if (announce.length > 0) await query(client, notifying(announce))
    return rows
  })
}

/**
 * A statement sees what was committed when it began, so the lock is taken by one before it. Both travel together. Of
 * two words with the same hash one waits for nothing; that is all. Everybody takes several in the same order, so that
 * no two wait for each other.
 */
function locksFor(words: string[]): string[] {
  const hashes = words.map((word) => createHash('sha256').update(word).digest().readInt32BE()).sort((a, b) => a - b)
  return hashes.map((hash) => `select pg_advisory_xact_lock(${exclusiveLock}, ${hash})`)
}

/** Postgres allows no changing statement in a `with` within a `with`. */
function canBeWrapped({ sql }: Statement): boolean {
  return !/^\s*with\b[\s\S]*\(\s*(insert|update|delete|merge)\b/i.test(sql)
}

/**
 * The change and its announcements in one round trip. `said` has exactly one row whatever happens, being a count,
 * and it counts nothing, and so says nothing, when the change returned no row.
 */
function announcing({ sql, values }: Statement, announce: Change[]): Statement {
  return {
    sql: `with step as (${sql}
), said as materialized (
  select count(pg_notify('${channel}', each.value)) from each($${values.length + 1}) where exists (select 1 from step)
) select step.* from step cross join said`,
    values: [...values, payloadsOf(announce)],
  }
}

function notifying(announce: Change[]): Statement {
  return { sql: `select pg_notify('${channel}', each.value) from each($1)`, values: [payloadsOf(announce)] }
}

function payloadsOf(announce: Change[]): string {
  return JSON.stringify(announce.map(payloadOf))
}

/** A connection whose rollback fails is in an unknown state, so it is thrown away. */
async function inTransaction<T>(pool: Pool, locks: string[], work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  // Between a connection's loss and our noticing, the loss is an event.
  const lost = (error: Error) => {
    broken ??= error
  }
  client.on('error', lost)
  try {
    const id = await begin(client, locks)
    const result = await work(client)
    await commit(client, id, pool, lost)
    return result
  } catch (error) {
    // That a connection is gone says less than why.
    const reason = broken ?? error
    await client.query('rollback').catch(lost)
    throw reason
  } finally {
    client.off('error', lost)
    client.release(broken)
  }
}

/**
 * A process that stands still in the middle of a transaction, its machine being moved, say, holds up the others no
 * longer than this: then Postgres rolls it back. Milliseconds between two statements.
 */
const longestPause = 2000

/** All in one round trip. @returns the id of the transaction */
async function begin(client: PoolClient, locks: string[]): Promise<string> {
  const settings = `set local idle_in_transaction_session_timeout = ${longestPause}`
  const text = ['begin', settings, ...locks, 'select cast(txid_current() as text) as id'].join('; ')
  const results = (await client.query(text)) as unknown as { rows: { id: string }[] }[]
  return results.at(-1)!.rows[0]!.id
}

/** If the connection breaks just now, the transaction may have been committed all the same: another connection knows. */
async function commit(client: PoolClient, id: string, pool: Pool, lost: (error: Error) => void): Promise<void> {
  try {
    await client.query('commit')
  } catch (error) {
    lost(error as Error)
    if (!(await wasCommitted(id, pool))) throw error
  }
}

/** How often it is asked, and milliseconds in between: as long as a restart takes, and somebody waits for an answer. */
const inquiries = 40
const betweenInquiries = 100

async function wasCommitted(id: string, pool: Pool): Promise<boolean> {
  for (let left = inquiries; left > 0; left--) {
    const found = await pool.query('select txid_status(cast($1 as bigint)) as status', [id]).catch(() => undefined)
    const status = found?.rows[0]?.status
    if (status === 'committed') return true
    if (found && status !== 'in progress') return false
    await new Promise<void>((resolve) => systemClock.after(betweenInquiries, resolve))
  }
  return false
}

/** Once a lock is held to the end of the transaction, whoever waited for it sees all that was committed before. */
function exclusively<T>(pool: Pool, work: (run: Run) => Promise<T>): Promise<T> {
  return inTransaction(pool, [], async (client) => {
    await client.query('select pg_advisory_xact_lock($1)', [exclusiveLock])
    return work(async <Row>(sql: string, values: Value[] = []) => {
      const { rows } = await client.query(wordsOfPostgres(sql), values)
      return rows as Row[]
    })
  })
}

async function persistently<T>(work: () => Promise<T>, left = attempts): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (left <= 1 || !retriable.has(codeOf(error))) throw error
    return persistently(work, left - 1)
  }
}

async function query<Row>(runner: Runner, { sql, values }: Statement): Promise<Row[]> {
  const { rows } = await runner.query({ ...prepared(sql), values })
  return rows as Row[]
}

const known = new Map<string, { name: string; text: string }>()

/** A named statement is planned once on each connection. Statements are constants of the program, so the map stays small. */
function prepared(sql: string): { name: string; text: string } {
  const found = known.get(sql)
  if (found) return found
  const statement = {
    name: createHash('sha256').update(sql).digest('base64url').slice(0, 16),
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
