/**
 * Ends connections on which no answer of Postgres arrives any more, for instance because the machine of Postgres has no
 * power, or because a firewall has dropped the connection. TCP gives up such a connection only after about 15 minutes.
 * Until then the pool would lack the connection, and the step that uses it would keep its lock keys.
 *
 * An answer may also be late because Postgres is still executing the statement, for instance while it waits for a lock
 * or for a standby. Connections of such statements must not be ended: their sessions in Postgres would go on, and new
 * connections would add more and more sessions. So Postgres is first asked, on another connection, which sessions are
 * still executing a statement. If a pooler has no session left for this query, Postgres counts as not reachable.
 */
import type { Socket } from 'node:net'
import { type Client, type ClientBase, DatabaseError } from 'pg'
import { type Clock, steadyTime } from '../clock.ts'
import type { Log } from '../log.ts'

/** An answer is late if no byte of it has arrived for this many milliseconds. */
const lateAfterMs = 5_000

/**
 * Used instead of `lateAfterMs` while Postgres refuses to say which sessions are executing a statement, or refuses the
 * connection for this query. A connection whose answer is later than this many milliseconds is ended, although Postgres
 * may still be executing the statement.
 */
const lateWithoutReplyAfterMs = 30_000

/**
 * Milliseconds between two searches for late answers, while Postgres cannot be asked which sessions are executing a
 * statement.
 */
const searchIntervalMs = 1_000

export interface SilenceWatch {
  /** Watches a new connection until it ends. Must be called before the connection is opened. */
  add(client: Client): void
  /** Stores which session of Postgres serves this connection: a result of `identifySession`. */
  identify(client: ClientBase, session: string): void
  /** Must be called before each query on the connection. */
  asked(client: Client): void
  /**
   * Ends the connections on which an answer is late, except those whose statement Postgres is still executing. Must be
   * called every few seconds.
   *
   * @param listAtWork returns those of the sessions that are still executing a statement, by the query
   *   `listSessionsAtWork`. Called only if an answer is late. If Postgres refuses the query, a connection is ended only
   *   after `lateWithoutReplyAfterMs`
   */
  endSilent(listAtWork: (sessions: string[]) => Promise<string[]>): Promise<void>
  /**
   * Must be called if a query on another connection to Postgres has failed. If Postgres itself did not report the
   * error, all existing connections are suspect. Until Postgres can be reached again, connections on which an answer is
   * late are then ended, although Postgres may still be executing their statements.
   */
  lost(error: unknown): void
  /** Must be called after each attempt to reach Postgres again, with the error if it failed. */
  tried(failure?: unknown): void
  /** Returns whether the connection may be dead, and so must not be used again. */
  isSuspect(client: ClientBase): boolean
  /** Ends a connection at once. Data that Postgres has not received yet is not sent again. */
  end(client: ClientBase): void
}

interface Connection {
  socket: Socket
  session?: string
  isSuspect: boolean
  /**
   * Set while an answer is awaited. `bytes` is the number of bytes received on the connection, and `since` the steady
   * time at which this number last changed or the query was sent. Both are updated at each search for late answers.
   */
  awaiting?: { bytes: number; since: number } | undefined
}

export function createSilenceWatch({ log, clock }: { log: Log; clock: Clock }): SilenceWatch {
  const connections = new Map<ClientBase, Connection>()
  let cancel = () => {}

  /**
   * Returns the connections on which an answer is awaited, and no byte of it has arrived for `afterMs` milliseconds.
   */
  function listLate(afterMs = lateAfterMs): [ClientBase, Connection][] {
    const now = steadyTime(clock)
    return [...connections].filter(([, connection]) => {
      const { awaiting, socket } = connection
      if (awaiting === undefined) return false
      if (socket.bytesRead !== awaiting.bytes) Object.assign(awaiting, { bytes: socket.bytesRead, since: now })
      return awaiting.since <= now - afterMs
    })
  }

  function endAll(silent: [ClientBase, Connection][]): void {
    if (silent.length === 0) return
    log.warn({ event: 'database.silent', connections: silent.length }, 'connections without an answer were ended')
    for (const [, { socket }] of silent) reset(socket)
    suspectAll()
  }

  function suspectAll(): void {
    for (const connection of connections.values()) connection.isSuspect = true
  }

  function endLate(afterMs: number): void {
    cancel()
    // `setImmediate` lets this process first read answers that have arrived, for instance while it was suspended.
    const search = setImmediate(() => endAll(listLate(afterMs)))
    cancel = () => clearImmediate(search)
  }

  function endLateUntilReached(): void {
    endLate(lateAfterMs)
    const cancelSearch = cancel
    const cancelNext = clock.after(searchIntervalMs, endLateUntilReached)
    cancel = () => {
      cancelSearch()
      cancelNext()
    }
  }

  return {
    add(client) {
      // With TLS, `client.connection.stream` is replaced later by a TLS socket that uses this one.
      const connection: Connection = { socket: client.connection.stream as Socket, isSuspect: false }
      connections.set(client, connection)
      client.on('drain', () => {
        connection.awaiting = undefined
      })
      client.once('end', () => connections.delete(client))
    },
    identify(client, session) {
      Object.assign(connections.get(client) ?? {}, { session })
    },
    asked(client) {
      const connection = connections.get(client)
      if (connection) connection.awaiting ??= { bytes: connection.socket.bytesRead, since: steadyTime(clock) }
    },
    async endSilent(listAtWork) {
      const late = listLate()
      if (late.length === 0) return
      const atWork = await listAtWork(late.flatMap(([, { session }]) => session ?? [])).catch((error: unknown) => {
        if (isRefusal(error)) return undefined
        throw error
      })
      if (atWork === undefined) return endAll(listLate(lateWithoutReplyAfterMs))
      const stillLate = new Set(listLate().map(([client]) => client))
      endAll(late.filter(([client, { session = '' }]) => stillLate.has(client) && !atWork.includes(session)))
    },
    lost(error) {
      if (isRefusal(error)) return
      suspectAll()
      endLateUntilReached()
    },
    tried(failure) {
      if (failure === undefined) cancel()
      // If Postgres itself has refused the connection, it is reachable, and may still be executing statements.
      else if (isRefusal(failure)) endLate(lateWithoutReplyAfterMs)
      else endLateUntilReached()
    },
    isSuspect: (client) => connections.get(client)?.isSuspect !== false,
    end(client) {
      const connection = connections.get(client)
      if (connection) reset(connection.socket)
    },
  }
}

function reset(socket: Socket): void {
  if (socket.destroyed) return
  // A connection by a unix socket has no TCP reset. It does not need one, because no data waits to be sent again.
  if (socket.remoteAddress === undefined) socket.destroy()
  else socket.resetAndDestroy()
}

/**
 * Returns whether Postgres itself has reported this error. If there are several hosts, the error of the last one is the
 * `cause`.
 */
const isRefusal = (error: unknown) =>
  error instanceof Error && [error, error.cause].some((each) => each instanceof DatabaseError)

/**
 * SQL: identifies a session by the id of its process and the start time of the server. The id alone is not enough:
 * after a failover, another server may have a process with the same id.
 */
const sessionOf = (process: string) => `${process} || ' ' || extract(epoch from pg_postmaster_start_time())`

/** A query for the session that serves the connection. */
export const identifySession = `select ${sessionOf('pg_backend_pid()')} as session`

/**
 * A query for those of the sessions in `$1` that are still executing a statement. A session that waits until the client
 * sends or receives a message is not executing a statement. But it is included if its state has changed within the last
 * second, because the answer may still be on its way. If `track_activities` is off, all sessions that do not wait for
 * the client are included.
 */
export const listSessionsAtWork = `
  select session from (
    select ${sessionOf('pid')} as session,
      state is null or state not like 'idle%' and wait_event_type is distinct from 'Client' as "isExecuting",
      state_change > clock_timestamp() - interval '1 second' as "hasChanged"
    from pg_stat_get_activity(null)
  ) as each
  where session = any($1) and ("isExecuting" or "hasChanged")`
