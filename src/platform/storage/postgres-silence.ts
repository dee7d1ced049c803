/**
 * Ends connections on which Postgres no longer answers, although they are open: the machine of Postgres has no power or is
 * frozen, or a firewall has forgotten the connection. TCP gives up such a connection only after about 15 minutes. Until
 * then the pool would lack the connection, and the step that uses it would keep its lock keys.
 *
 * A statement may also take long while Postgres executes it: it waits for a lock, or its commit waits for a standby. If such
 * connections were ended, the sessions in Postgres would go on, and new connections would open more and more of them. So
 * Postgres is first asked, on another connection, which sessions are at work.
 */
import type { Client, ClientBase } from 'pg'
import { type Clock, steadyTime } from '../clock.ts'
import type { Log } from '../log.ts'

/** Milliseconds after which an answer is late. */
const lateAfterMs = 5_000

/**
 * Thrown for a statement on a connection that was ended because Postgres does not answer on it. SQLSTATE 08006: connection
 * failure.
 */
export class SilentConnectionError extends Error {
  override readonly name = 'SilentConnectionError'
  readonly code = '08006'

  constructor() {
    super(`the database has not answered on this connection for ${lateAfterMs / 1000} s`)
  }
}

export interface SilenceWatch {
  /** Watches a new connection until it ends. */
  add(client: Client): void
  /** Stores which session of Postgres serves this connection: a result of `identifySession`. */
  identify(client: ClientBase, session: string): void
  /** Must be called before each query on the connection. */
  asked(client: Client): void
  /**
   * Ends the connections on which an answer is late, unless Postgres is at work on it.
   *
   * @param listAtWork returns the sessions that are at work, of those given: the result of `listSessionsAtWork`. Not called
   * if no answer is late. If it rejects, no connection is ended
   */
  endSilent(listAtWork: (sessions: string[]) => Promise<string[]>): Promise<void>
  /** Ends all connections on which an answer is late. Called if Postgres cannot be asked. */
  endLate(): void
  /** Marks all present connections as suspect: another connection to Postgres has become silent. */
  suspectAll(): void
  /** Returns whether the connection must not be used again. */
  isSuspect(client: ClientBase): boolean
}

interface Connection {
  session?: string
  isSuspect: boolean
  /** The steady time of the first query that is not answered yet. */
  askedAt?: number | undefined
}

export function createSilenceWatch({ log, clock }: { log: Log; clock: Clock }): SilenceWatch {
  const connections = new Map<ClientBase, Connection>()

  function late(): [ClientBase, Connection][] {
    const before = steadyTime(clock) - lateAfterMs
    return [...connections].filter(([, { askedAt }]) => askedAt !== undefined && askedAt <= before)
  }

  function end(silent: [ClientBase, Connection][]): void {
    if (silent.length === 0) return
    log.warn({ connections: silent.length }, 'the database does not answer on some connections: they were ended')
    for (const [client] of silent) destroy(client)
    suspectAll()
  }

  function suspectAll(): void {
    for (const connection of connections.values()) connection.isSuspect = true
  }

  return {
    add(client) {
      const connection: Connection = { isSuspect: false }
      connections.set(client, connection)
      client.on('drain', () => {
        connection.askedAt = undefined
      })
      client.once('end', () => connections.delete(client))
    },
    identify(client, session) {
      const connection = connections.get(client)
      if (connection) connection.session = session
    },
    asked(client) {
      const connection = connections.get(client)
      if (connection) connection.askedAt ??= steadyTime(clock)
    },
    async endSilent(listAtWork) {
      const asked = late()
      if (asked.length === 0) return
      const atWork = await listAtWork(asked.flatMap(([, { session }]) => session ?? []))
      const stillLate = new Set(late().map(([client]) => client))
      end(asked.filter(([client, { session = '' }]) => stillLate.has(client) && !atWork.includes(session)))
    },
    endLate: () => end(late()),
    suspectAll,
    isSuspect: (client) => connections.get(client)?.isSuspect !== false,
  }
}

/** Ends a connection at once, without a message to Postgres, which would not be delivered. */
export function destroy(client: ClientBase): void {
  ;(client as Client).connection.stream.destroy(new SilentConnectionError())
}

/**
 * A query for the session that serves the connection. Process ids alone are not enough: after a failover, another server
 * may have a process with the same id.
 */
export const identifySession = `select pid || ' ' || extract(epoch from backend_start) as session
  from pg_stat_get_activity(pg_backend_pid())`

/**
 * A query for the sessions that are at work, of those in `$1`. A session is not at work if it waits for a message of the
 * client. If its state has changed only a second ago, the answer may still be on its way. If `track_activities` is off, the
 * state is unknown, and the session counts as at work.
 */
export const listSessionsAtWork = `
  select session from (
    select pid || ' ' || extract(epoch from backend_start) as session,
      state is null or state not like 'idle%' and wait_event_type is distinct from 'Client' as "isExecuting",
      state_change > clock_timestamp() - interval '1 second' as "hasChanged"
    from pg_stat_activity
  ) as each
  where session = any($1) and ("isExecuting" or "hasChanged")`
