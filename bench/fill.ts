/**
 * Adds many requests and notifications as rows, because sending each request would take too long. The rows of open
 * requests are like those that the server writes when it accepts a request.
 */
import { Client } from 'pg'
import { systemClock } from '../src/platform/clock.ts'
import { fingerprint, newId } from '../src/platform/crypto.ts'
import { createLog } from '../src/platform/log.ts'
import type { Database, SingleStatement } from '../src/platform/storage/database.ts'
import { migrate } from '../src/platform/storage/migrate.ts'
import { openDatabase } from '../src/platform/storage/open.ts'
import { authReqIdOf, lives, userOf } from './cast.ts'

export interface Filling {
  url: string
  clientId: string
  count: number
  /** Seconds. */
  interval: number
}

const batch = 10_000
/** The creation times of the requests are spread evenly over the last `span` milliseconds. */
const span = (lives.request * 1000) / 2

/**
 * Creates a database with the newest schema, and adds the requests with the numbers 0 to `count` - 1. Each request is
 * about a different user.
 */
export async function fill({ url, clientId, count, interval }: Filling): Promise<void> {
  await withDatabase(url, async (database) => {
    await migrate(database, systemClock)
    const now = Date.now()
    for (let from = 0; from < count; from += batch) {
      const rows = Array.from({ length: Math.min(batch, count - from) }, (_, index) => {
        const number = from + index
        return rowOf(number, now - Math.round(span * (1 - number / count)))
      })
      await database.step({
        sql: `insert into backchannel_auth_requests (id, auth_req_id_hash, client_id, user_id, scope, binding_message,
                delivery_mode, status, created_at, expires_at, interval_seconds)
              select substr(each.value, 1, 36), substr(each.value, 37, 43), $2, substr(each.value, 93), 'openid',
                'Coffee 4.20', 'poll', 'pending', cast(substr(each.value, 80, 13) as bigint),
                cast(substr(each.value, 80, 13) as bigint) + cast($3 as bigint), cast($4 as bigint)
              from each($1) where true returning id`,
        values: [JSON.stringify(rows), clientId, lives.request * 1000, interval],
      })
    }
    if (database.engine === 'sqlite') await database.read('pragma wal_checkpoint(truncate)')
  })
  if (url.startsWith('postgres')) await settleDown(url, 'backchannel_auth_requests')
}

/** Adds requests that were redeemed a day ago to the database of a running server. The schema is not changed. */
export async function fillRedeemed(url: string, clientId: string, count: number): Promise<void> {
  const at = Date.now() - 86_400_000
  await inBatches(url, count, 'backchannel_auth_requests', {
    sql: `insert into backchannel_auth_requests (id, auth_req_id_hash, client_id, user_id, scope, binding_message,
            delivery_mode, status, created_at, expires_at, interval_seconds, settled_by, settled_at, redeemed_at)
          select 'old-' || each.value, 'old-' || each.value, $2, 'user-' || each.value, 'openid', 'Coffee 4.20', 'poll',
            'redeemed', cast($3 as bigint) - cast(each.value as bigint), cast($3 as bigint) + 3600000, 5,
            'old-' || each.value, cast($3 as bigint), cast($3 as bigint)
          from each($1) where true returning id`,
    values: [clientId, at],
  })
}

/** Adds notifications that were delivered a day ago to the database of a running server. The schema is not changed. */
export async function fillDelivered(url: string, count: number): Promise<void> {
  const at = Date.now() - 86_400_000
  await inBatches(url, count, 'notifications', {
    sql: `insert into notifications (id, kind, subject, lane, state, created_at, due_at, give_up_at, attempts, settled_at)
          select 'old-' || each.value, 'email', 'old-' || each.value, 'email', 'delivered', cast($2 as bigint),
            cast($2 as bigint), cast($2 as bigint), 1, cast($2 as bigint)
          from each($1) where true returning id`,
    values: [at],
  })
}

/** Executes a statement for each batch of numbers. @param statement its first parameter is the list of numbers */
async function inBatches(url: string, count: number, table: string, statement: SingleStatement): Promise<void> {
  await withDatabase(url, async (database) => {
    for (let from = 0; from < count; from += batch) {
      const numbers = Array.from({ length: Math.min(batch, count - from) }, (_, index) => String(from + index))
      await database.step({ sql: statement.sql, values: [JSON.stringify(numbers), ...statement.values] })
    }
    if (database.engine === 'sqlite') await database.read('pragma wal_checkpoint(truncate)')
  })
  if (url.startsWith('postgres')) await settleDown(url, table)
}

/** Moves the deadline of the first `count` open requests into the past. */
export async function letRunOut(url: string, count: number): Promise<void> {
  await withDatabase(url, (database) =>
    database.step({
      sql: `update backchannel_auth_requests set expires_at = created_at + 1 where id in (
              select id from backchannel_auth_requests where status = 'pending' order by id limit $1) returning id`,
      values: [count],
    }),
  )
}

/** Returns the values of a row as one text: id, hash, time and user. The first three have a fixed length. */
function rowOf(number: number, createdAt: number): string {
  return newId(createdAt) + fingerprint(authReqIdOf(number)) + createdAt + userOf(number)
}

/**
 * Runs vacuum, analyze and a checkpoint, as Postgres does over time. They run outside `Database`, because Postgres
 * refuses vacuum inside a transaction.
 */
async function settleDown(url: string, table: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query(`vacuum analyze ${table}`)
  await client.query('checkpoint')
  await client.end()
}

async function withDatabase(url: string, work: (database: Database) => Promise<unknown>): Promise<void> {
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  try {
    await work(database)
  } finally {
    await database.close()
  }
}
