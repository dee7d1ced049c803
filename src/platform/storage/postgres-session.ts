/**
 * What our sessions on Postgres rely on, they set for themselves: a database or a role may have other defaults, and
 * whoever set them did not think of us.
 *
 * Left as it is: `search_path`, by which an operator places the tables; `default_transaction_read_only`, which says that
 * nothing is to be written now; `statement_timeout` and `lock_timeout`, after which a statement may be tried again.
 */
import type { ClientBase } from 'pg'

/**
 * A process that stands still in the middle of a transaction, its machine being moved, say, holds up the others no
 * longer than this: then Postgres rolls it back. Milliseconds between two statements.
 */
const longestPauseMs = 2_000

const settings = {
  idle_in_transaction_session_timeout: String(longestPauseMs),
  // A commit that did not reach the standby tells so by a warning.
  client_min_messages: 'warning',
  // Each statement sees what was committed when it began: one that waited for a lock sees what the holder did.
  default_transaction_isolation: 'read committed',
  // Statements are planned once on each connection. How many rows a parameter will bring Postgres does not know, and
  // takes for many: so it is told that whatever we look for has an index …
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_indexscan: 'on',
  enable_nestloop: 'on',
  // … and that none of it is worth compiling, or worth other processes: that takes longer than any statement of ours.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
}

const listed = Object.entries(settings).map(([name, value]) => `set ${name} = '${value}'`)

/** With it off, Postgres says that a commit is done before it is on the disk. Every other value promises that, or more. */
const durable = `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`

/** A connection may wait for work as long as it likes. Postgres before 14 has no such setting. */
const patient = `select set_config(name, '0', false) from pg_settings where name = 'idle_session_timeout'`

/** For every connection we open, before its first statement: those of the pool, and the one that listens. */
export async function prepareSession(client: ClientBase): Promise<void> {
  await client.query([...listed, durable, patient].join('; '))
}

/** Begins a transaction whose statements may take their time, as those of a migration do that builds an index. */
export async function beginLong(client: ClientBase): Promise<void> {
  await client.query(`begin; select set_config(name, '0', true) from pg_settings
    where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout')`)
}
