/** Postgres, for one process or many. Announcements travel by LISTEN and NOTIFY. */
import { Pool, type PoolClient, type PoolConfig, types } from 'pg'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Database, Run, Statement, Value } from './database.ts'
import { createListeners } from './listeners.ts'
import { codeOf, createSteps, exclusiveLock, prepared } from './postgres-steps.ts'
import { createOwnVoice, subscribe } from './postgres-subscription.ts'
import { wordsOfPostgres } from './words.ts'

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
  const voice = createOwnVoice(listeners)
  const subscription = await subscribe(settings, { log, clock, listeners, voice }).catch((error: unknown) => {
    throw new Error(`cannot reach the database ${withoutPassword(url)}: ${reasonOf(error)}`, { cause: error })
  })
  const pool = new Pool({ ...settings, max: 10, types: { getTypeParser: parserOf }, pipeline: true } as PoolConfig)
  const step = createSteps(pool, voice)
  pool.on('error', (error) => log.warn({ error }, 'an idle database connection was lost'))

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
    get stretch() {
      return subscription.stretch
    },
    read: (sql, values = []) => track(() => query(pool, { sql, values })),
    step: (first, options) => track(() => step(first, options)),
    listen: listeners.add,
    exclusively: (work) => track(() => exclusively(pool, work)),
    close() {
      closing ??= letGo()
      return closing
    },
  }
}

/** A connection whose rollback fails is in an unknown state, so it is thrown away. */
async function inTransaction<T>(pool: Pool, begin: string, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  // Between a connection's loss and our noticing, the loss is an event, and without a listener it would end the process.
  const lost = (error: Error) => {
    broken = error
  }
  client.on('error', lost)
  try {
    await client.query(begin)
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch(lost)
    throw error
  } finally {
    client.off('error', lost)
    client.release(broken)
  }
}

/** Once a lock is held to the end of the transaction, whoever waited for it sees all that was committed before. */
function exclusively<T>(pool: Pool, work: (run: Run) => Promise<T>): Promise<T> {
  return inTransaction(pool, 'begin', async (client) => {
    await client.query('select pg_advisory_xact_lock($1)', [exclusiveLock])
    return work(async <Row>(sql: string, values: Value[] = []) => {
      const { rows } = await client.query(wordsOfPostgres(sql), values)
      return rows as Row[]
    })
  })
}

async function query<Row>(runner: Runner, { sql, values }: Statement): Promise<Row[]> {
  const { rows } = await runner.query({ ...prepared(sql), values })
  return rows as Row[]
}

const { BOOL, INT8, NUMERIC, JSON: JSON_TEXT, JSONB } = types.builtins

/** Rows hold strings, numbers and nulls, as on SQLite: counts and sums are numbers, comparisons 1 or 0, JSON its text. */
function parserOf(type: number, format?: string): (text: string) => unknown {
  if (type === INT8 || type === NUMERIC) return Number
  if (type === BOOL) return (text) => (text === 't' ? 1 : 0)
  if (type === JSON_TEXT || type === JSONB) return String
  return types.getTypeParser(type, format as 'text')
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
