/**
 * The pool of connections for statements. Each new connection is opened by the current route (`postgres-routes.ts`). A
 * connection that may be dead (`SilenceWatch.isSuspect`), or that was replaced, is not used again.
 */
import { Client, type ClientBase, type CustomTypesConfig, Pool, type PoolClient, type PoolConfig } from 'pg'
import { longestWaitMs } from './lock-queue.ts'
import { countWarnings } from './postgres-commits.ts'
import type { Route, Routes } from './postgres-routes.ts'
import { prepareSession } from './postgres-session.ts'
import type { SilenceWatch } from './postgres-silence.ts'

export interface PoolOptions {
  /** The maximum number of open connections. */
  connections: number
  getTypeParser: CustomTypesConfig['getTypeParser']
  silence: SilenceWatch
}

export interface StatementPool extends Pool {
  /** Has each connection that is open now closed before it would be used again. */
  replaceConnections(): void
}

/** Opens the pool. Its connections are opened when they are needed. */
export function openPool(routes: Routes, { connections, getTypeParser, silence }: PoolOptions): StatementPool {
  /**
   * For each connection error, the route on which it occurred. The pool may throw another error instead, with the
   * connection error as its `cause`.
   */
  const failedOn = new WeakMap<Error, Route>()
  const routeOf = (error: Error) => failedOn.get(error) ?? failedOn.get(error.cause as Error)
  const takenBy = new WeakMap<ClientBase, Route>()
  let current = new WeakSet<ClientBase>()

  class RoutedClient extends Client {
    constructor(config: PoolConfig) {
      super({ ...config, ...routes.current.config })
      takenBy.set(this, routes.current)
      current.add(this)
      silence.add(this)
    }

    override query(...parameters: unknown[]): never {
      silence.asked(this)
      return super.query(...(parameters as [string])) as never
    }

    override connect(): Promise<Client>
    override connect(callback: (error: Error) => void): void
    override connect(callback?: (error: Error) => void): Promise<Client> | undefined {
      if (callback === undefined) return super.connect() as unknown as Promise<Client>
      super.connect((error: Error) => {
        if (error) failedOn.set(error, takenBy.get(this)!)
        callback(error)
      })
      return undefined
    }
  }

  /** The pool calls this for each new connection. */
  async function prepareConnection(client: ClientBase): Promise<void> {
    // At some moments the pool has no error listener on a connection. Without this listener, the process would end if
    // the connection were lost at such a moment.
    client.on('error', () => {})
    countWarnings(client)
    try {
      silence.identify(client, await prepareSession(client))
      await routes.checkServer(client)
    } catch (error) {
      failedOn.set(error as Error, takenBy.get(client)!)
      throw error
    }
  }

  const pool = new Pool({
    Client: RoutedClient as never,
    connectionTimeoutMillis: longestWaitMs,
    max: connections,
    types: { getTypeParser },
    onConnect: prepareConnection,
  })
  const connect = pool.connect.bind(pool) as () => Promise<PoolClient>
  const connectByRoute = routes.isOnly ? connect : () => routes.open(() => connect(), routeOf)
  pool.connect = (async () => {
    for (;;) {
      const client = await connectByRoute()
      const isSuspect = silence.isSuspect(client)
      if (!isSuspect && current.has(client)) return client
      if (isSuspect) silence.end(client)
      client.release(true)
    }
  }) as typeof pool.connect
  const replaceConnections = () => {
    current = new WeakSet()
  }
  return Object.assign(pool, { replaceConnections })
}
