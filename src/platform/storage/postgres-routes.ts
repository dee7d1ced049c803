/**
 * The routes to a Postgres database: each host, and for `sslmode=prefer` or `allow` each host with and without TLS.
 * They are tried as libpq tries them, except that a connection first tries the route on which the last connection
 * succeeded. So if a host does not respond, only one connection waits for it.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, getCACertificates } from 'node:tls'
import { type ClientBase, type ClientConfig, DatabaseError } from 'pg'
import { longestWaitMs } from './lock-queue.ts'
import {
  isSocket,
  nameOfHost,
  type PostgresAddress,
  type PostgresHost,
  PostgresUrlError,
  type SslMode,
  type TargetSession,
} from './postgres-address.ts'
import { answered } from './postgres-session.ts'

/** One way to open a connection: a host, with or without TLS. */
export interface Route {
  host: PostgresHost
  /** The configuration of a new connection. The files with certificates and keys are read each time. */
  readonly config: ClientConfig
}

export interface Routes {
  /** The route that the next connection tries first. */
  readonly current: Route
  /** Whether there is only one route. */
  readonly isOnly: boolean
  /**
   * Opens a connection by the current route. If this fails, each of the other routes becomes the current route in turn
   * and is tried. `connect` must use the current route.
   *
   * @param routeOf returns the route on which this error occurred, or undefined if it was not an error of a route
   * @throws the last error, if only one host was tried, or if a server refused the user or the database. In all other
   *   cases, an error that lists the last error of each host
   */
  open<T>(
    connect: (route: Route) => Promise<T>,
    routeOf?: (error: Error, current: Route) => Route | undefined,
  ): Promise<T>
  /** Rejects if the connection leads to a server of another kind than the URL asks for, such as a standby. */
  checkServer(client: ClientBase): Promise<void>
}

/** Milliseconds to wait for one of several hosts, unless the URL contains `connect_timeout`. */
const waitForEachMs = 2_000

/** Thrown if no host accepts a connection. SQLSTATE 08001: unable to establish a connection. */
class NoHostError extends Error {
  override readonly name = 'NoHostError'
  readonly code = '08001'
}

/** Thrown for a server of another kind than the URL asks for, such as a standby. SQLSTATE 25006: read-only. */
class OtherServerError extends Error {
  override readonly name = 'OtherServerError'
  readonly code = '25006'
}

/**
 * Returns the routes to a database.
 *
 * @throws PostgresUrlError if a file with a certificate or a key cannot be used
 */
export function createRoutes(address: PostgresAddress): Routes {
  const routes = routesTo(address)
  let current = routes[0]!

  /**
   * Selects the route to try next. If another connection has meanwhile selected a route that this connection has not
   * tried, this route stays selected. Returns false if no untried route is left.
   */
  function proceed(failed: Route, untried: Route[]): boolean {
    const isLater = (route: Route) => routes.indexOf(route) > routes.indexOf(failed)
    const next = untried.includes(current) ? current : (untried.find(isLater) ?? untried[0])
    current = next ?? firstTo(failed.host)
    return next !== undefined
  }

  const firstTo = (host: PostgresHost) => routes.find((route) => route.host === host)!

  /**
   * Returns whether the next connection should also try this route first. Returns false if another route to the same
   * host has failed for any other reason than a refusal by the server. Such a failure may be temporary, for example a
   * failure of TLS with `sslmode=prefer`.
   */
  const isToStay = (route: Route, failures: Map<Route, Error>) =>
    [...failures].every(([{ host }, error]) => host !== route.host || isRefusal(error))

  return {
    get current() {
      return current
    },
    isOnly: routes.length === 1,
    async open(connect, routeOf = (_error, route) => route) {
      const failures = new Map<Route, Error>()
      let untried = routes
      for (;;) {
        const route = current
        try {
          const connection = await connect(route)
          if (failures.size > 0 && !isToStay(route, failures)) current = firstTo(route.host)
          return connection
        } catch (thrown) {
          const error = thrown as Error
          const failed = routeOf(error, route)
          if (failed === undefined || routes.length === 1) throw error
          failures.set(failed, error)
          untried = untried.filter((each) => each !== failed && isWorthTrying(each, failed, error))
          if (!proceed(failed, untried)) throw summary(failures, error)
        }
      }
    },
    checkServer: (client) => checkServer(client, address.sessions),
  }
}

/**
 * Returns whether to try a route after another one has failed. If a server refuses the user or the database, routes to
 * other hosts are not tried, because the other servers would refuse the user or the database too. But the other route
 * to the same host is tried: the server may accept with TLS what it refuses without TLS, or the reverse. If a host is
 * unreachable, its other route is not tried.
 */
function isWorthTrying(route: Route, failed: Route, error: Error): boolean {
  const isSameHost = route.host === failed.host
  if (isRefusal(error) && !isWithoutTls(error)) return isSameHost
  return !isSameHost || !isUnreachable(error)
}

/** Returns whether the server has refused the connection and would refuse it again. */
const isRefusal = (error: Error) =>
  isWithoutTls(error) || (error instanceof DatabaseError && /^(28|3D000|42)/.test(error.code ?? ''))

/** Whether the server does not support TLS. This error of `pg` has no code, so its message is compared. */
const isWithoutTls = (error: Error) => error.message === 'The server does not support SSL connections'

/**
 * Whether the host could not be reached. If a name has several addresses, Node throws an `AggregateError` with the
 * error of each address.
 */
const isUnreachable = (error: Error) =>
  error instanceof AggregateError ||
  /^(connect|getaddrinfo)$/.test((error as NodeJS.ErrnoException).syscall ?? '') ||
  /time(d )?out/.test(error.message)

function summary(failures: Map<Route, Error>, last: Error): Error {
  const hosts = new Set([...failures.keys()].map(({ host }) => host))
  if (hosts.size === 1 || (isRefusal(last) && !isWithoutTls(last))) return last
  const each = [...hosts].map((host) => {
    const [, error] = [...failures].findLast(([route]) => route.host === host)!
    return `${isSocket(host) ? host.host : nameOfHost(host)}: ${error.message || (error as NodeJS.ErrnoException).code}`
  })
  return new NoHostError(each.join('; '), { cause: last })
}

function routesTo(address: PostgresAddress): Route[] {
  const { hosts, database, user, password, parameters } = address
  const waitMs =
    Number(parameters.get('connect_timeout') ?? 0) * 1000 || (hosts.length > 1 ? waitForEachMs : longestWaitMs)
  const idle = parameters.get('keepalives_idle')
  const config: ClientConfig = {
    ...definedOnly({ database, user, password, options: parameters.get('options') }),
    ...definedOnly({ fallback_application_name: parameters.get('fallback_application_name') }),
    ...definedOnly({ statement_timeout: numberIn(parameters, 'statement_timeout') }),
    ...definedOnly({ lock_timeout: numberIn(parameters, 'lock_timeout') }),
    application_name: parameters.get('application_name') ?? 'doorbell',
    connectionTimeoutMillis: Math.min(waitMs, longestWaitMs),
    keepAlive: true,
    ...(idle !== undefined && { keepAliveInitialDelayMillis: Number(idle) * 1000 }),
    enableChannelBinding: parameters.get('channel_binding') === 'prefer',
  }
  const read = createFileReader()
  const encryptions = () => encryptionsOf(address.sslMode, parameters, read)
  const numbers = [...encryptions().keys()]
  const isDirect = parameters.get('sslnegotiation') === 'direct'
  const routeTo = (host: PostgresHost, sslNow: () => ConnectionOptions | false): Route => ({
    host,
    get config() {
      const ssl = sslNow()
      const negotiation = ssl !== false && isDirect && { sslnegotiation: 'direct' as const }
      return { ...config, host: host.host, ...definedOnly({ port: host.port }), ssl, ...negotiation }
    },
  })
  return hosts.flatMap((host) =>
    isSocket(host)
      ? [routeTo(host, () => false)]
      : numbers.map((number) => routeTo(host, () => encryptions()[number]!)),
  )
}

function numberIn(parameters: ReadonlyMap<string, string>, name: string): number | undefined {
  const text = parameters.get(name)
  return text === undefined ? undefined : Number(text)
}

function definedOnly<Values extends object>(values: Values): { [Name in keyof Values]?: NonNullable<Values[Name]> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never
}

/** Reads `file`. `name` is the parameter of the URL that contains the name of the file, for error messages. */
type ReadFile = (name: string, file: string) => string

/**
 * Returns the TLS options to try, in order; `false` is a connection without TLS. The certificate files are read again
 * at each call. The number of options must never change, because there is one route for each option, and routes are
 * created only once.
 */
function encryptionsOf(
  mode: SslMode,
  parameters: ReadonlyMap<string, string>,
  read: ReadFile,
): (ConnectionOptions | false)[] {
  if (mode === 'disable') return [false]
  const ca = mode === 'no-verify' ? undefined : authorities(parameters.get('sslrootcert'), read)
  const fileIn = (name: string) => {
    const file = parameters.get(name)
    return file === undefined ? undefined : read(name, file)
  }
  const own = definedOnly({
    cert: fileIn('sslcert'),
    key: fileIn('sslkey'),
    passphrase: parameters.get('sslpassword'),
  })
  const unverified = { ...own, rejectUnauthorized: false }
  if (mode === 'allow') return [false, unverified]
  if (mode === 'prefer') return [unverified, false]
  if (mode === 'verify-full') return [{ ...own, ...definedOnly({ ca }) }]
  if (ca !== undefined) return [{ ...own, ca, checkServerIdentity: () => undefined }]
  if (mode !== 'verify-ca') return [unverified]
  throw new PostgresUrlError(
    'has sslmode=verify-ca, which needs sslrootcert: a file with the authority of the database',
  )
}

/**
 * Returns the trusted certificate authorities. Like libpq, uses `~/.postgresql/root.crt` if this file exists and the
 * URL has no `sslrootcert`.
 */
function authorities(file: string | undefined, read: ReadFile): string | string[] | undefined {
  if (file === 'system') return getCACertificates('system')
  if (file !== undefined) return read('sslrootcert', file)
  try {
    return read('sslrootcert', join(homedir(), '.postgresql', 'root.crt'))
  } catch {
    return undefined
  }
}

/**
 * Returns a function that reads a file each time it is called, as libpq does for each connection. A file that can no
 * longer be read counts as unchanged, for two reasons: a program that renews the file may remove it first, and a
 * missing `sslrootcert` must not turn off the check of the server's certificate.
 */
function createFileReader(): ReadFile {
  const last = new Map<string, string>()
  return (name, file) => {
    try {
      last.set(file, readFileSync(file, 'utf8'))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (!last.has(file)) throw new PostgresUrlError(`has ${name} ${file}, which cannot be read: ${code}`)
    }
    return last.get(file)!
  }
}

async function checkServer(client: ClientBase, sessions: TargetSession): Promise<void> {
  if (sessions === 'any') return
  const { rows } = await answered<{ isStandby: boolean; readOnly: string }>(
    client,
    `select pg_is_in_recovery() as "isStandby", current_setting('transaction_read_only') as "readOnly"`,
  )
  const { isStandby, readOnly } = rows[0]!
  if (isStandby) throw new OtherServerError('this server is a standby')
  if (sessions === 'read-write' && readOnly !== 'off') throw new OtherServerError('this server is read-only')
}
