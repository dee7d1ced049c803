/**
 * Calls URLs that clients or browsers have chosen: notification endpoints, key sets and push services. All calls to
 * such URLs go through this file.
 *
 * An attacker could choose the URL of a service that only this server can reach (server-side request forgery).
 * Therefore the server resolves each name itself (`name-lookup.ts`), once for each connection, and checks all addresses
 * of the name. It connects only to these addresses, and before it sends a byte, it checks the address to which the
 * socket is connected. Redirects are not followed. Proxy settings in environment variables are ignored, and no cookies
 * are kept. The time and the memory for a call are limited.
 */
import { connect, isIP, type Socket } from 'node:net'
import { getCACertificates } from 'node:tls'
import type { Agent, buildConnector, Dispatcher } from 'undici'
import { type Clock, systemClock } from '../clock.ts'
import { isPublicAddress } from './address.ts'
import { createNameLookup } from './name-lookup.ts'
import { Places } from './places.ts'
import type { Address } from './system-names.ts'

export type { Address }

export interface OutgoingCall {
  url: string
  method: 'GET' | 'POST'
  headers?: Record<string, string>
  body?: string | Buffer
  /**
   * The client or user to whom the URL belongs, if known. A call waits if too many other calls to the same receiver are
   * under way (`mostToOneReceiver`).
   */
  receiver?: string | undefined
  /** If this signal is aborted, the call ends and fails with `stopped`. */
  signal?: AbortSignal
  /** If true, the call resolves as soon as the headers have arrived, and `body` is ''. */
  ignoreBody?: boolean
}

export interface OutgoingAnswer {
  /** Any status. A 3xx is returned like any other status: redirects are not followed. */
  status: number
  /** The headers, with names in lower case. */
  headers: Record<string, string>
  body: string
}

export type CallFailure =
  | 'address_forbidden'
  | 'not_https'
  | 'bad_url'
  | 'name_not_found'
  | 'refused'
  | 'timeout'
  | 'too_large'
  | 'tls_failed'
  | 'connection_lost'
  | 'stopped'

/**
 * Thrown if a call fails. The message contains the kind of failure, and perhaps an error code of the system. It
 * contains neither the address nor the content of the call.
 */
export class CallFailed extends Error {
  readonly word: CallFailure

  constructor(word: CallFailure, code?: string) {
    super(code ? `${word} (${code})` : word)
    this.name = 'CallFailed'
    this.word = word
  }
}

export interface GuardedCallerOptions {
  /** Milliseconds for the whole call, from the name lookup to the end of the response body. */
  timeout: number
  /** Upper limit for the body of a response, in bytes. */
  maxBytes: number
  /** Whether calls may go to private networks too. If not, only public addresses are called. */
  allowPrivateNetworks: boolean
  /** Whether http URLs are allowed besides https URLs. For development. */
  allowHttp: boolean
  /** PEM certificates that are trusted besides Node's own list. */
  ca?: string | undefined
  /** The clock for name lookups, and for the pauses after failed ones. By default, the system clock. */
  clock?: Clock
  /** For tests: name servers that are asked instead of the system's. */
  nameServers?: string[]
  /** For tests: resolves a name, instead of the name servers. */
  lookup?: (name: string) => Promise<Address[]>
  /** For tests: opens the connection. */
  dial?: (addresses: Address[], port: number) => Socket
}

export interface GuardedCaller {
  call(call: OutgoingCall): Promise<OutgoingAnswer>
  /** Ends the calls that are under way. These calls, and all later calls, fail with `stopped`. */
  close(): Promise<void>
}

/**
 * Upper limit for simultaneous calls to one receiver at one origin, or to one URL if the receiver is not known. All
 * receivers at one origin together have no limit: a gateway may serve many clients there, and one client that does not
 * respond must not delay the calls to the others. Code that uses this file must limit the total number of its calls.
 */
const mostToOneReceiver = 16

/** Idle connections are closed after this time, because their addresses are checked only when they are opened. */
const IDLE_MILLISECONDS = 30_000

export function createGuardedCaller(options: GuardedCallerOptions): GuardedCaller {
  const { timeout: timeoutMs, clock = systemClock } = options
  const names = createNameLookup({ timeoutMs, clock, servers: options.nameServers })
  const agent = createAgent({ lookup: names.resolve, ...options })
  // Limits the calls to one receiver. undici's own limit for connections is not used: calls that end while they wait
  // would stay in its queue, and undici would open and close an unused connection for each of them. This would delay
  // later calls.
  const places = new Places({ each: mostToOneReceiver })
  const underway = new Set<Ending>()
  let closed = false

  function begin(signal: AbortSignal | undefined): Ending {
    const ending = new Ending(options.timeout, signal, () => underway.delete(ending))
    underway.add(ending)
    return ending
  }

  async function exchange(url: URL, call: OutgoingCall, ending: Ending): Promise<OutgoingAnswer> {
    const place = await places.enter(lineOf(url, call), ending.signal)
    const requested = agent.request(requestOf(url, call, ending.signal))
    // The place is freed when undici can use the connection again or has closed it. This may be after the end of the
    // call.
    requested.then(({ body }) => body.once('close', place.leave), place.leave)
    const response = await ending.orEarlier(requested)
    response.body.once('close', () => ending.release())
    const body = call.ignoreBody
      ? drain(response.body, options.maxBytes)
      : await ending.orEarlier(read(response.body, options.maxBytes))
    return { status: response.statusCode, headers: flatten(response.headers), body }
  }

  return {
    async call(call) {
      const url = readUrl(call.url, options.allowHttp)
      if (closed || call.signal?.aborted) throw new CallFailed('stopped')
      const ending = begin(call.signal)
      try {
        return await exchange(url, call, ending)
      } catch (error) {
        ending.release()
        throw describe(error)
      }
    },
    async close() {
      closed = true
      for (const ending of underway) ending.stop()
      names.close()
      await agent.destroy()
    },
  }
}

/** undici is loaded only when a call is made or expected, because it is large and many servers never make a call. */
const undici = () => import('undici')

/** Loads undici, so that the first call does not have to wait for it. */
export async function prepareCalls(): Promise<void> {
  await undici()
}

type ConnectorOptions = GuardedCallerOptions & Required<Pick<GuardedCallerOptions, 'lookup'>>

function createAgent(options: ConnectorOptions) {
  let made: Promise<Agent> | undefined

  async function make(): Promise<Agent> {
    const { Agent, buildConnector } = await undici()
    return new Agent({
      connect: guardedConnector(options, buildConnector),
      keepAliveMaxTimeout: IDLE_MILLISECONDS,
      // One connection carries one call at a time, so that a cancelled call does not end another call.
      allowH2: false,
      // These time limits are off, because the deadline of the call covers headers and body.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  return {
    async request(request: Dispatcher.RequestOptions): Promise<Dispatcher.ResponseData> {
      made ??= make()
      return (await made).request(request)
    },
    async destroy(): Promise<void> {
      await (await made)?.destroy()
    },
  }
}

/** Aborts a call if its deadline has passed, if the signal of its caller is aborted, or on `close`. */
class Ending {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #caller: AbortSignal | undefined
  readonly #released: () => void

  constructor(timeout: number, caller: AbortSignal | undefined, released: () => void) {
    this.#timer = setTimeout(() => this.#controller.abort(new CallFailed('timeout')), timeout)
    this.#caller = caller
    this.#released = released
    caller?.addEventListener('abort', this.stop)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  readonly stop = () => this.#controller.abort(new CallFailed('stopped'))

  release() {
    clearTimeout(this.#timer)
    this.#caller?.removeEventListener('abort', this.stop)
    this.#released()
  }

  /**
   * Resolves to the result of `work`, or rejects as soon as the call is aborted. This is needed because undici ignores
   * the signal of a request while it opens a connection.
   */
  orEarlier<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = () => reject(this.signal.reason)
      if (this.signal.aborted) end()
      this.signal.addEventListener('abort', end, { once: true })
      work.then(resolve, reject)
    })
  }
}

function readUrl(text: string, allowHttp: boolean): URL {
  const url = URL.parse(text)
  if (!url || url.username || url.password || !url.hostname) throw new CallFailed('bad_url')
  if (url.protocol !== 'https:' && !(allowHttp && url.protocol === 'http:')) throw new CallFailed('not_https')
  return url
}

/**
 * Returns the key of a call. Calls with the same key share places. The key is the URL, or the origin and the receiver
 * with a space between them. A URL contains no space, so the two forms never collide.
 */
const lineOf = ({ origin, href }: URL, { receiver }: OutgoingCall) =>
  receiver === undefined ? href : `${origin} ${receiver}`

function requestOf(url: URL, call: OutgoingCall, signal: AbortSignal): Dispatcher.RequestOptions {
  return {
    origin: url.origin,
    path: url.pathname + url.search,
    method: call.method,
    headers: call.headers ?? {},
    body: call.body ?? null,
    signal,
  }
}

type Body = Dispatcher.ResponseData['body']

async function read(body: Body, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxBytes) throw new CallFailed('too_large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/**
 * Reads and discards the body, so that the connection can be used again. If the body is long or slow, the connection is
 * closed instead.
 */
function drain(body: Body, maxBytes: number): '' {
  body.dump({ limit: maxBytes }).catch(() => {})
  return ''
}

function flatten(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value = '']) => [name, [value].flat().join(', ')]))
}

function describe(error: unknown): unknown {
  if (error instanceof CallFailed) return error
  const code = codeOf(error)
  // These codes mean a programming error, such as an invalid header, and not a failure of the call.
  if (code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED') return error
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return new CallFailed('too_large', code)
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return new CallFailed('stopped')
  return new CallFailed('connection_lost', code)
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}

/** Returns the function that opens all connections of the pool, to checked addresses only. */
function guardedConnector(options: ConnectorOptions, build: typeof buildConnector): buildConnector.connector {
  const { timeout, lookup, dial = dialPinned } = options
  const permits = (ip: string | undefined) => options.allowPrivateNetworks || isPublicAddress(ip ?? '')
  // The option `ca` replaces Node's list of certificates, so Node's list is added to it.
  const trusted = options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] }
  const secure = build({ timeout, allowH2: false, ...trusted })

  async function open(target: buildConnector.Options): Promise<Socket> {
    const addresses = await find(target.hostname, lookup)
    // If one address is forbidden, the whole name is forbidden: a mix of public and private addresses is a sign of DNS
    // rebinding.
    if (!addresses.every(({ address }) => permits(address))) throw new CallFailed('address_forbidden')
    const socket = dial(addresses, Number(target.port || (target.protocol === 'https:' ? 443 : 80)))
    await connected(socket, timeout)
    if (permits(socket.remoteAddress)) return socket
    socket.destroy()
    throw new CallFailed('address_forbidden')
  }

  function encrypt(target: buildConnector.Options, httpSocket: Socket): Promise<Socket> {
    return new Promise((resolve, reject) => {
      secure({ ...target, httpSocket }, (error, socket) => (error ? reject(handshakeFailure(error)) : resolve(socket!)))
    })
  }

  async function openFor(target: buildConnector.Options): Promise<Socket> {
    const socket = await open(target)
    return target.protocol === 'https:' ? encrypt(target, socket) : socket
  }

  return (target, callback) => {
    openFor(target).then(
      (socket) => callback(null, socket),
      (error) => callback(error, null),
    )
  }
}

async function find(host: string, lookup: (name: string) => Promise<Address[]>): Promise<Address[]> {
  const family = isIP(host)
  const addresses = family ? [{ address: host, family }] : await ask(host, lookup)
  if (addresses.length === 0) throw new CallFailed('name_not_found')
  return addresses
}

async function ask(name: string, lookup: (name: string) => Promise<Address[]>): Promise<Address[]> {
  try {
    return await lookup(name)
  } catch (error) {
    const code = codeOf(error)
    throw new CallFailed(code === 'ETIMEOUT' || code === 'ECANCELLED' ? 'timeout' : 'name_not_found', code)
  }
}

/** Connects to the first of `addresses` that responds. The name is not resolved a second time. */
function dialPinned(addresses: Address[], port: number): Socket {
  return connect({
    host: 'pinned.invalid',
    port,
    autoSelectFamily: true,
    lookup: (_name, _options, callback) => callback(null, addresses),
  })
}

function connected(socket: Socket, timeout: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (failure: CallFailed) => {
      clearTimeout(timer)
      socket.destroy()
      reject(failure)
    }
    const timer = setTimeout(() => fail(new CallFailed('timeout')), timeout)
    // This listener is never removed. Without it, an error would be unhandled until the next owner of the socket adds a
    // listener.
    socket.on('error', (error) => fail(connectFailure(error)))
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

function connectFailure(error: Error): CallFailed {
  const code = codeOf(error)
  return new CallFailed(code === 'ETIMEDOUT' ? 'timeout' : 'refused', code)
}

function handshakeFailure(error: Error): CallFailed {
  const code = codeOf(error)
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT') return new CallFailed('timeout', code)
  if (code === 'ECONNRESET' || code === 'EPIPE') return new CallFailed('connection_lost', code)
  return new CallFailed('tls_failed', code)
}
