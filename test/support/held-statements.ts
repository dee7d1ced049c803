/** Holds statements on Postgres inside their transactions. For this, a trigger waits for a lock that the test holds. */
import type { TestContext } from 'node:test'
import { Client } from 'pg'
import { closeAfter } from './teardown.ts'

export interface HeldStatements {
  /** Resolves to the number of transactions that are held. */
  waiting(): Promise<number>
  /** Resolves to the number of transactions that wait for a row that another transaction has changed or locked. */
  waitingForRows(): Promise<number>
  /** Resolves to the number of steps that wait for the lock key of another step. */
  waitingForKeys(): Promise<number>
  /** Lets all held and later statements continue. */
  release(): Promise<void>
}

/** The key of the lock: an arbitrary number. */
const key = 424242

/** From now on, holds each statement that inserts into the table or deletes from it. */
export async function holdStatements(
  t: TestContext,
  url: string,
  kind: 'insert' | 'delete',
  table: string,
): Promise<HeldStatements> {
  const client = new Client({ connectionString: url })
  // The database may be dropped before this connection is closed. Then the connection ends with an error, which is
  // ignored.
  client.on('error', () => {})
  await client.connect()
  closeAfter(t, () => client.end())
  await client.query(`create function hold() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock(${key}); return null; end $$;
    create trigger hold before ${kind} on ${table} for each statement execute function hold()`)
  await client.query(`select pg_advisory_lock(${key})`)

  async function count(which: string): Promise<number> {
    const { rows } = await client.query(
      `select count(distinct pid)::int as count from pg_locks join pg_stat_activity using (pid)
       where not granted and datname = current_database() and ${which}`,
    )
    return rows[0].count
  }

  return {
    waiting: () => count(`locktype = 'advisory' and classid = 0 and objid = ${key}`),
    waitingForRows: () => count(`locktype in ('transactionid', 'tuple')`),
    waitingForKeys: () => count(`locktype = 'advisory' and classid <> 0`),
    async release() {
      await client.query(`select pg_advisory_unlock(${key})`)
    },
  }
}
