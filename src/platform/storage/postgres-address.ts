/**
 * Reads the URL of a Postgres database as libpq reads it: several hosts, unix sockets, and the parameters of libpq that
 * `pg` can fulfil. docs/decisions/0022-libraries-weighed.md says why no library does this.
 */
import { isIP } from 'node:net'
import { didYouMean, nearest } from '../validation.ts'

export interface PostgresAddress {
  /** The hosts, in the order in which they are tried. */
  hosts: [PostgresHost, ...PostgresHost[]]
  database?: string | undefined
  user?: string | undefined
  password?: string | undefined
  /** The other parameters of the URL, by name. */
  parameters: ReadonlyMap<string, string>
  sslMode: SslMode
  /** The kind of server to which a connection must lead, such as one that accepts writes (`target_session_attrs`). */
  sessions: TargetSession
  /** For messages: the URL without user, password and parameters. */
  name: string
}

export interface PostgresHost {
  /** A host name, an IP address, or the folder of a unix socket. */
  host: string
  /** If undefined, `pg` uses PGPORT or 5432. */
  port: number | undefined
}

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'] as const
/**
 * The values of libpq, and `no-verify`, which only `pg` has. It is like `require`, but the certificate is never
 * checked.
 */
export type SslMode = (typeof sslModes)[number]

const targetSessions = ['any', 'read-write', 'primary'] as const
export type TargetSession = (typeof targetSessions)[number]

/** The parameters that accept only certain values, with these values. */
const words: Record<string, readonly string[]> = {
  sslmode: sslModes,
  target_session_attrs: targetSessions,
  sslnegotiation: ['postgres', 'direct'],
  channel_binding: ['disable', 'prefer'],
  gssencmode: ['disable', 'prefer'],
  client_encoding: ['auto', 'utf8', 'utf-8', 'UTF8', 'UTF-8'],
  ssl: ['true', 'false', '1', '0'],
  keepalives: ['1'],
}

/** By parameter: the reason why Doorbell does not accept every value that libpq accepts. */
const reasons: Record<string, string> = {
  target_session_attrs: 'the server writes to the database, so a standby is of no use to it',
  channel_binding: '"require" cannot be enforced here; sslmode=verify-full proves the identity of the database, too',
  gssencmode: 'encryption by GSSAPI is not supported',
  client_encoding: 'all text is UTF-8',
  keepalives: 'they are always on',
}

const numbers = ['connect_timeout', 'keepalives_idle', 'statement_timeout', 'lock_timeout']

const parameterNames = [
  ...['host', 'port', 'user', 'password', 'dbname', 'options', 'application_name', 'fallback_application_name'],
  ...['sslrootcert', 'sslcert', 'sslkey', 'sslpassword', ...Object.keys(words), ...numbers],
  // These parameters are accepted, but have no effect. The first three are socket options of the operating system. The
  // last one asks for libpq's meaning of `sslmode`, which always applies here.
  ...['keepalives_interval', 'keepalives_count', 'tcp_user_timeout', 'uselibpqcompat'],
]

/** Thrown if a Postgres URL cannot be used. The message contains no secret. */
export class PostgresUrlError extends Error {
  override readonly name = 'PostgresUrlError'
  readonly problem: string

  /** @param problem the end of the sentence that begins "the database URL" */
  constructor(problem: string) {
    super(`the database URL ${problem}`)
    this.problem = problem
  }
}

const encodingHint = 'special characters in a user name or password must be percent-encoded'

/**
 * Reads a URL.
 *
 * @param env environment variables of libpq: PGHOST and PGSSLMODE are used if the URL has no such value. `pg` itself
 * reads some other variables
 * @throws PostgresUrlError
 */
export function readPostgresUrl(url: string, env: NodeJS.ProcessEnv = process.env): PostgresAddress {
  const parts = /^postgres(?:ql)?:\/\/([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url)
  if (!parts) throw new PostgresUrlError('must begin with postgres:// or postgresql://')
  const [, authority = '', path = '', query = ''] = parts
  // An @ in the path means that the user name or password contains a slash that is not percent-encoded.
  if (path.includes('@')) throw new PostgresUrlError(`cannot be read; ${encodingHint}`)
  const { user, password, hostTexts } = readAuthority(authority)
  const parameters = readParameters(query)
  const hosts = readHosts(hostTexts, parameters, env)
  const database = takeFrom(parameters, 'dbname') ?? (decode(path) || undefined)
  const address = {
    hosts,
    database,
    user: takeFrom(parameters, 'user') ?? user,
    password: takeFrom(parameters, 'password') ?? password,
    sslMode: readSslMode(hosts, parameters, env),
    sessions: readSessions(hosts, parameters),
    name: nameOf(hosts, database),
    parameters,
  }
  refuseContradictions(address)
  return address
}

/** Returns whether `host` is the folder of a unix socket. */
export function isSocket({ host }: PostgresHost): boolean {
  return host.startsWith('/')
}

/** Returns whether connections to this host stay within this machine. */
export function isOnThisMachine(host: PostgresHost): boolean {
  return isSocket(host) || /^(localhost|::1|127(\.\d{1,3}){3})$/.test(host.host)
}

/** Returns why the URL cannot be used, or undefined if it can. */
export function problemWithPostgresUrl(url: string): string | undefined {
  try {
    readPostgresUrl(url)
    return undefined
  } catch (error) {
    return (error as PostgresUrlError).problem
  }
}

function readAuthority(authority: string) {
  const at = authority.lastIndexOf('@')
  const [, user = '', , password] = /^([^:]*)(:(.*))?$/s.exec(authority.slice(0, Math.max(at, 0))) ?? []
  return {
    user: decode(user) || undefined,
    password: password === undefined ? undefined : decode(password),
    hostTexts: authority.slice(at + 1),
  }
}

function readParameters(query: string): Map<string, string> {
  const parameters = new Map<string, string>()
  for (const pair of query.split('&').filter(Boolean)) {
    const [name = '', ...value] = pair.split('=')
    refuseUnknown(name, value.length)
    parameters.set(name, decode(value.join('=')))
  }
  for (const [name, value] of parameters) refuseWrongValue(name, value)
  return parameters
}

function refuseUnknown(name: string, values: number): void {
  if (parameterNames.includes(name) && values > 0) return
  // The error contains the name of the parameter only if the name cannot be a part of a password.
  if (!/^[a-z_]{1,30}$/i.test(name)) throw new PostgresUrlError(`has a parameter that cannot be read; ${encodingHint}`)
  if (values === 0) throw new PostgresUrlError(`has a parameter without a value: ${name}`)
  const advice = name === 'hostaddr' ? '; an address may stand in "host"' : didYouMean(nearest(name, parameterNames))
  throw new PostgresUrlError(`has a parameter that is not supported: ${name}${advice}`)
}

function refuseWrongValue(name: string, value: string): void {
  const allowed = words[name]
  if (allowed !== undefined && !allowed.includes(value)) {
    const reason = reasons[name] === undefined ? '' : `; ${reasons[name]}`
    throw new PostgresUrlError(`has a wrong ${name}: it must be one of ${allowed.join(', ')}${reason}`)
  }
  if (numbers.includes(name) && !/^\d{1,9}$/.test(value)) {
    throw new PostgresUrlError(`has a wrong ${name}: it must be a whole number`)
  }
}

function readHosts(inAuthority: string, parameters: Map<string, string>, env: NodeJS.ProcessEnv) {
  const named = takeFrom(parameters, 'host')
    ?.split(',')
    .map((host) => ({ host, port: '' }))
  const texts = named ?? inAuthority.split(',').map(splitPort)
  const ports = takeFrom(parameters, 'port')?.split(',')
  if (ports !== undefined && ports.length > 1 && ports.length !== texts.length) {
    throw new PostgresUrlError(`has ${ports.length} ports for ${texts.length} hosts`)
  }
  const fallback = (texts.length === 1 && env.PGHOST?.split(',')) || ['localhost']
  const hosts = texts.flatMap(({ host, port }, index) => {
    const portText = ports === undefined ? port : (ports[index] ?? ports[0]!)
    return (host === '' ? fallback : [host]).map((each) => ({ host: each, port: readPort(portText) }))
  })
  return hosts as [PostgresHost, ...PostgresHost[]]
}

function splitPort(text: string): { host: string; port: string } {
  const [, bracketed, plain, port = ''] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/.exec(text) ?? []
  const host = bracketed ?? decode(plain ?? '[')
  const isWrong = bracketed === undefined ? /[[\]@]/.test(host) : isIP(bracketed) !== 6
  if (isWrong) throw new PostgresUrlError(`has a host that cannot be read; ${encodingHint}`)
  return { host, port }
}

function readPort(text: string): number | undefined {
  if (text === '') return undefined
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port > 0 && port < 65_536) return port
  throw new PostgresUrlError(`has a port that is not a number from 1 to 65535; ${encodingHint}`)
}

/**
 * Returns how connections are encrypted. Unlike with libpq, a connection within this machine is not encrypted by
 * default, because it cannot be intercepted on the network.
 */
function readSslMode(hosts: PostgresHost[], parameters: Map<string, string>, env: NodeJS.ProcessEnv): SslMode {
  const given = takeFrom(parameters, 'sslmode')
  const ssl = takeFrom(parameters, 'ssl')
  if (given !== undefined) return given as SslMode
  if (ssl !== undefined) return ssl === 'true' || ssl === '1' ? 'require' : 'disable'
  const named = sslModes.find((mode) => mode === env.PGSSLMODE)
  if (named !== undefined) return named
  if (parameters.get('sslrootcert') === 'system') return 'verify-full'
  return hosts.every(isOnThisMachine) && !parameters.has('sslrootcert') ? 'disable' : 'prefer'
}

/**
 * Returns the kind of server to which a connection must lead. If the URL has several hosts and no
 * `target_session_attrs`, the server must accept writes.
 */
function readSessions(hosts: PostgresHost[], parameters: Map<string, string>): TargetSession {
  const given = takeFrom(parameters, 'target_session_attrs')
  return (given as TargetSession) ?? (hosts.length > 1 ? 'read-write' : 'any')
}

function refuseContradictions({ sslMode, parameters }: PostgresAddress): void {
  const isStrict = sslMode === 'verify-full'
  if (parameters.get('sslrootcert') === 'system' && !isStrict) {
    throw new PostgresUrlError('has sslrootcert=system, which needs sslmode=verify-full')
  }
  if (parameters.get('sslnegotiation') === 'direct' && !isStrict && !/^(require|verify-ca|no-verify)$/.test(sslMode)) {
    throw new PostgresUrlError('has sslnegotiation=direct, which needs sslmode=require or stricter')
  }
  if (parameters.has('sslcert') !== parameters.has('sslkey')) {
    throw new PostgresUrlError('must have both sslcert and sslkey, or neither')
  }
}

function nameOf(hosts: PostgresHost[], database = ''): string {
  const sockets = hosts.filter(isSocket)
  const named = hosts.filter((each) => !isSocket(each)).map(nameOfHost)
  const folders = sockets.map(({ host }) => host).join(',')
  return `postgres://${named.join(',')}/${database}${folders && `?host=${folders}`}`
}

/** Returns the name of one server for messages. */
export function nameOfHost({ host, port }: PostgresHost): string {
  const name = isIP(host) === 6 ? `[${host}]` : host
  return port === undefined ? name : `${name}:${port}`
}

function takeFrom(parameters: Map<string, string>, name: string): string | undefined {
  const value = parameters.get(name)
  parameters.delete(name)
  return value
}

/** Decodes percent-encoding. A plus sign stays, as in libpq. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new PostgresUrlError(`cannot be read; ${encodingHint}`)
  }
}
