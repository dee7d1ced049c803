/**
 * Finds out whether a connection leads through a pooler that does not keep one Postgres session for each connection.
 * PgBouncer in transaction mode executes each transaction of a connection in any session. With such a pooler,
 * notifications, session settings and prepared statements would be lost, most of them without an error.
 */
import { Client, type ClientBase } from 'pg'
import type { Route } from './postgres-routes.ts'
import { answered } from './postgres-session.ts'

/** Thrown if a connection does not keep its session. SQLSTATE 08004: the server rejected the connection. */
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

/**
 * How often the sessions of two connections are compared. The first comparison usually detects a pooler that does not
 * keep sessions.
 */
const comparisons = 20

/**
 * Rejects if this connection does not always have the same session. Without a pooler, this check costs one statement.
 *
 * @throws TransactionPoolingError
 */
export async function refuseTransactionPooling(client: Client, { config }: Route): Promise<void> {
  const own = new Set([await sessionOf(client)])
  // Without a pooler, the id that was sent when the connection was opened is the id of the session. A pooler sends an
  // id that belongs to no session, because it may use many sessions for one connection.
  if (own.has(numberOf(client))) return
  const other = new Client(config)
  other.on('error', () => {})
  try {
    await other.connect()
    for (let time = 0; time < comparisons; time++) {
      const one = await sessionOf(other)
      // If each connection keeps one session, no two connections have the same session, and `client` has only one.
      if (own.has(one) || own.size > 1) throw new TransactionPoolingError()
      // This query is sent twice in a row. If the two connections sent queries in strict alternation, and the pooler
      // also alternated between two sessions, each connection would always get the same session, and the pooler would
      // not be detected.
      own.add(await sessionOf(client))
      own.add(await sessionOf(client))
    }
  } finally {
    void other.end().catch(() => {})
  }
}

/** The id of the backend process, as Postgres or a pooler sent it when this connection was opened. */
const numberOf = (client: ClientBase) => (client as { processID?: number }).processID

async function sessionOf(client: ClientBase): Promise<number | undefined> {
  const { rows } = await answered<{ session: number }>(client, 'select pg_backend_pid() as session')
  return rows[0]?.session
}
