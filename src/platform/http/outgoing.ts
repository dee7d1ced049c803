/**
 * Calls to addresses that others gave us: notifications, key sets, push services. All of them go through here.
 *
 * A client or a browser chooses these addresses, so a call could be aimed at a service that only this server can reach.
 * Therefore the server resolves a name itself (`name-lookup.ts`), once for each connection; checks all its addresses;
 * connects to those and no others; and checks the address that the socket reached before a byte is sent. Redirects are not
 * followed, nothing is taken from the environment (proxies, cookies), and no target may take more time or memory than
 * allowed.
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
  /** Ends the call: it fails with `stopped`. */
  signal?: AbortSignal
  /** Completes the response with its headers; `body` is ''. The rest is not read. */
  ignoreBody?: boolean
}

export interface OutgoingAnswer {
  /** Any status. A 3xx is returned like any other: redirects are not followed. */
  status: number
  /** Names in lower case. */
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

/** A call without a response: the kind of failure, perhaps a system code, and nothing of what was called or sent. */
export class CallFailed extends Error {
  readonly word: CallFailure

  constructor(word: CallFailure, code?: string) {
    super(code ? `${word} (${code})` : word)
    this.name = 'CallFailed'
    this.word = word
  }
}

export interface GuardedCallerOptions {
  /** Milliseconds for the whole call, from resolving the name to the end of the body. */
  timeout: number
  /** Largest body of a response, in bytes. */
  maxBytes: number
  /** For development: calls may go to any address. */
  allowPrivateNetworks: boolean
  /** For development: http URLs too. */
  allowHttp: boolean
  /** PEM certificates that are trusted besides Node's own list. */
  ca?: string | undefined
  /** Measures the pauses after failed lookups; the system clock by default. */
  clock?: Clock
  /** For tests: the name servers to ask, instead of those of the system. */
  nameServers?: string[]
  /** For tests: what a name resolves to. */
  lookup?: (name: string) => Promise<Address[]>
  /** For tests: opens the connection. */
  dial?: (addresses: Address[], port: number) => Socket
}

export interface GuardedCaller {
  call(call: OutgoingCall): Promise<OutgoingAnswer>
  /** Stops the calls that are under way and refuses further ones. */
  close(): Promise<void>
}

/** For each origin, so that a slow target takes no connections from others. */
const CONNECTIONS_PER_ORIGIN = 16

/** Longest time an idle connection is kept, whatever the target proposes: its address was checked when it was opened. */
const IDLE_MILLISECONDS = 30_000

export function createGuardedCaller(options: GuardedCallerOptions): GuardedCaller {
  const { timeout: timeoutMs, clock = systemClock } = options
  const names = createNameLookup({ timeoutMs, clock, servers: options.nameServers })
  const agent = createAgent({ lookup: names.resolve, ...options })
  // undici keeps ended calls in its queue: each would still open a connection, only to drop it, and delay those behind it. So
  // calls wait here, and leave when they end.
  const places = new Places({ each: CONNECTIONS_PER_ORIGIN })
  const underway = new Set<Ending>()
  let closed = false

  function begin(signal: AbortSignal | undefined): Ending {
    const ending = new Ending(options.timeout, signal, () => underway.delete(ending))
    underway.add(ending)
    return ending
  }

  async function exchange(url: URL, call: OutgoingCall, ending: Ending): Promise<OutgoingAnswer> {
    const leave = await places.enter(url.origin, ending.signal)
    const requested = agent.request(requestOf(url, call, ending.signal))
    // When the connection is free or closed, which may be later than the end of the call.
    requested.then(({ body }) => body.once('close', leave), leave)
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

/** Loaded when a call is made or expected: it is large, and many servers never make one. */
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
      connections: CONNECTIONS_PER_ORIGIN,
      keepAliveMaxTimeout: IDLE_MILLISECONDS,
      // One connection carries one call at a time, so that a cancelled call ends no other.
      allowH2: false,
      // The deadline of the call covers these.
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

/** What can end a call early: its deadline, its caller, or `close`. */
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

  /** Resolves to the result of `work` unless the call ends before: a request that is still connecting ignores its signal. */
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

/** Reads the rest of the body so that the connection can be used again; a long or slow body closes the connection instead. */
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
  // A programming error, such as an invalid header: not a failure of the call.
  if (code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED') return error
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return new CallFailed('too_large', code)
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return new CallFailed('stopped')
  return new CallFailed('connection_lost', code)
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}

/** Opens connections, to checked addresses only. All connections of the pool are opened here. */
function guardedConnector(options: ConnectorOptions, build: typeof buildConnector): buildConnector.connector {
  const { timeout, lookup, dial = dialPinned } = options
  const permits = (ip: string | undefined) => options.allowPrivateNetworks || isPublicAddress(ip ?? '')
  // Certificates of our own replace Node's list, so that list is added too.
  const trusted = options.ca === undefined ? {} : { ca: [...getCACertificates('default'), options.ca] }
  const secure = build({ timeout, allowH2: false, ...trusted })

  async function open(target: buildConnector.Options): Promise<Socket> {
    const addresses = await find(target.hostname, lookup)
    // One forbidden address excludes the name: DNS rebinding begins with a mixed answer.
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
    throw new CallFailed(code === 'ETIMEOUT' ? 'timeout' : 'name_not_found', code)
  }
}

/** Connects to one of `addresses`, the first that answers: the name is not resolved a second time. */
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
    // Never removed: until the next owner of the socket listens, an error must not be unhandled.
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
