/**
 * Finds out whether a connection leads through a pooler that does not keep sessions. PgBouncer in transaction mode executes
 * each transaction of a connection in any session. Notifications, session settings and prepared statements would be lost
 * there, most of them without an error.
 */
import { Client, type ClientBase } from 'pg'
import type { Route } from './postgres-routes.ts'
import { answered } from './postgres-session.ts'

/** Thrown if sessions are not kept. SQLSTATE 08004: the server rejected the connection. */
export class TransactionPoolingError extends Error {
  override readonly name = 'TransactionPoolingError'
  readonly code = '08004'

  constructor() {
    super(
      'it is reached through a pooler in transaction or statement mode, but LISTEN, prepared statements and session ' +
        'settings need a session for each connection: set pool_mode = session for this database (PgBouncer), or connect to ' +
        'Postgres itself',
    )
  }
}

/** How often two connections are compared. A pooler that does not keep sessions usually shows it at the first time. */
const comparisons = 20

/**
 * Rejects if the sessions of this connection change. Without a pooler, this costs one statement.
 *
 * @throws TransactionPoolingError
 */
export async function refuseTransactionPooling(client: Client, { config }: Route): Promise<void> {
  const own = new Set([await sessionOf(client)])
  // A pooler tells each connection a different number than that of its session, because a connection can have many
  // sessions.
  if (own.has(numberOf(client))) return
  const other = new Client(config)
  other.on('error', () => {})
  try {
    await other.connect()
    for (let time = 0; time < comparisons; time++) {
      const one = await sessionOf(other)
      // If sessions are kept, each connection has one session, and no other connection has the same session.
      if (own.has(one) || own.size > 1) throw new TransactionPoolingError()
      // Asked twice in a row: if a pooler uses two sessions in turn, alternate questions would always find the same ones.
      own.add(await sessionOf(client))
      own.add(await sessionOf(client))
    }
  } finally {
    void other.end().catch(() => {})
  }
}

/** The session number that Postgres, or a pooler, told this connection when it was opened. */
const numberOf = (client: ClientBase) => (client as { processID?: number }).processID

async function sessionOf(client: ClientBase): Promise<number | undefined> {
  const { rows } = await answered<{ session: number }>(client, 'select pg_backend_pid() as session')
  return rows[0]?.session
}
