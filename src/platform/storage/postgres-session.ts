/**
 * Each session sets the Postgres settings that Doorbell relies on: a database or a role may have other defaults.
 *
 * Not set: `search_path`, by which an operator selects the schema of the tables; `default_transaction_read_only`, which says
 * that nothing is to be written now; `statement_timeout` and `lock_timeout`, after which a statement may be tried again.
 */
import type { ClientBase } from 'pg'

/**
 * The longest time between two statements of a transaction, in milliseconds; then Postgres rolls it back. A process that
 * pauses within a transaction, for example while its machine is moved, blocks others no longer than this.
 */
const longestPauseMs = 2_000

const settings = {
  idle_in_transaction_session_timeout: String(longestPauseMs),
  // Postgres reports by a warning that a commit did not reach the standby.
  client_min_messages: 'warning',
  // Each statement sees everything committed before it began: after waiting for a lock, it sees the holder's changes.
  default_transaction_isolation: 'read committed',
  // Statements are planned once on each connection. Postgres cannot estimate how many rows a parameter selects and assumes
  // many, so these settings force index scans: all our lookups have an index …
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_indexscan: 'on',
  enable_nestloop: 'on',
  // … and disable compilation and parallel workers, which would take longer than any of our statements.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
}

const listed = Object.entries(settings).map(([name, value]) => `set ${name} = '${value}'`)

/** If it is off, Postgres reports a commit before it is on disk. Every other value guarantees at least that. */
const durable = `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`

/** An idle connection is not closed. Postgres before 14 does not have this setting. */
const withoutIdleTimeout = `select set_config(name, '0', false) from pg_settings where name = 'idle_session_timeout'`

/** Applies the settings. To be called before the first statement of each connection: those of the pool, and the listener's. */
export async function prepareSession(client: ClientBase): Promise<void> {
  await client.query([...listed, durable, withoutIdleTimeout].join('; '))
}

/** Begins a transaction without time limits, for example for a migration that builds an index. */
export async function beginLong(client: ClientBase): Promise<void> {
  await client.query(`begin; select set_config(name, '0', true) from pg_settings
    where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout')`)
}
