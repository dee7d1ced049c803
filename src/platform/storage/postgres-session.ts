/**
 * Sets in each session the Postgres settings that Doorbell relies on: a database or a role may have other defaults.
 *
 * Some settings stay as the operator has set them. `search_path` selects the schema of the tables.
 * `default_transaction_read_only` forbids writes. `statement_timeout` and `lock_timeout` limit the time of a statement.
 * A statement that exceeds this time may be tried again.
 */
import type { ClientBase, QueryResult, QueryResultRow } from 'pg'
import { identifySession } from './postgres-silence.ts'

/**
 * The longest time between two statements of a transaction, in milliseconds. After that, Postgres rolls the transaction
 * back. A process may pause within a transaction, for example while its virtual machine is migrated. It then blocks
 * other processes for this time at most.
 */
const longestPauseMs = 2_000

const settings = {
  idle_in_transaction_session_timeout: String(longestPauseMs),
  // The level `warning` is needed, because Postgres reports by a warning that a commit did not reach the standby.
  client_min_messages: 'warning',
  // Each statement sees all changes that were committed before the statement began. So a statement that follows a wait
  // for a lock sees the changes of the transaction that held the lock before.
  default_transaction_isolation: 'read committed',
  // For each statement, each connection uses one plan for all values of the parameters. When the plan is made, Postgres
  // does not know how many rows a value selects, and expects many. All lookups of Doorbell have an index, so these
  // settings force index scans.
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_indexscan: 'on',
  enable_indexonlyscan: 'on',
  enable_bitmapscan: 'on',
  enable_sort: 'on',
  enable_nestloop: 'on',
  // Compilation and parallel workers are disabled: to start them would take longer than any statement of Doorbell.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  // Statements rely on these settings: they define what a backslash in a string literal means, and what `= null` means.
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
}

const listed = Object.entries(settings).map(([name, value]) => `set ${name} = '${value}'`)

/**
 * Sets `synchronous_commit` to on if it is off. If it stayed off, Postgres would confirm commits that are not on disk
 * yet. With all other values, confirmed commits are on disk.
 */
const durable = `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`

/** Prevents Postgres from closing an idle connection. Postgres before 14 does not have this setting. */
const withoutIdleTimeout = `select set_config(name, '0', false) from pg_settings where name = 'idle_session_timeout'`

/**
 * Applies the settings. Must be called before the first statement of each connection, including the listening
 * connection. Resolves to the session that serves the connection (see `identifySession`).
 */
export async function prepareSession(client: ClientBase): Promise<string> {
  const results = await answered(client, [...listed, durable, withoutIdleTimeout, identifySession].join('; '))
  const [{ session }] = (results as unknown as QueryResult<{ session: string }>[]).at(-1)!.rows as [{ session: string }]
  return session
}

/**
 * Postgres must answer on a new connection within this many milliseconds. A caller waits longer than this for a
 * connection from the pool, so the error that the caller gets can contain the reason.
 */
const longestSilenceMs = 4_000

/** Thrown if no session of Postgres answers on a new connection. SQLSTATE 08001: unable to establish a connection. */
export class NoSessionError extends Error {
  override readonly name = 'NoSessionError'
  readonly code = '08001'

  constructor(cause: unknown) {
    super(
      `the database has accepted a connection, but does not answer it for ${longestSilenceMs / 1000} s. A pooler does so if ` +
        'it has too few sessions: each server needs as many as the setting postgres.connections says, and one more',
      { cause },
    )
  }
}

/**
 * Executes a statement on a new connection, with a time limit. The limit is needed because a pooler accepts more
 * connections than it has sessions, and lets the other connections wait.
 *
 * @throws NoSessionError if there is no answer in time
 */
export async function answered<Row extends QueryResultRow>(
  client: ClientBase,
  text: string,
): Promise<QueryResult<Row>> {
  const query = { text, query_timeout: longestSilenceMs }
  return client.query<Row>(query).catch((error: Error) => {
    throw error.message === 'Query read timeout' ? new NoSessionError(error) : error
  })
}

/** Begins a transaction without time limits, for example for a migration that builds an index. */
export async function beginLong(client: ClientBase): Promise<void> {
  await client.query(`begin; select set_config(name, '0', true) from pg_settings
    where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout')`)
}
