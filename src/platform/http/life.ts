/**
 * Tracks the calls in progress, and limits them for each connection. For a graceful shutdown, the server first
 * announces the shutdown, then finishes the calls in progress, and then refuses further calls.
 */
import { IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { type Clock, systemClock } from '../clock.ts'

export interface Life {
  /**
   * Whether the shutdown was announced. If so, load balancers should use other nodes, and each response closes its
   * connection.
   */
  readonly isEnding: boolean
  /** Whether calls can no longer be answered, because the database and other resources are closed. */
  readonly isShuttingDown: boolean
  announceEnd(): void
  /**
   * Must be called at the beginning of each call. Returns false if the call must not be processed: if its caller has
   * hung up already, or if its connection has too many calls whose responses have not been read. In the second case,
   * the connection is closed.
   */
  begin(request: IncomingMessage, response: ServerResponse): boolean
  /**
   * Resolves as soon as no call is in progress, or after `atMostMs` milliseconds of real time. It also waits for calls
   * that arrive during the wait.
   */
  quiet(atMostMs: number): Promise<void>
  over(): void
}

declare module 'fastify' {
  interface FastifyInstance {
    life: Life
  }
}

/**
 * Maximum number of calls of one connection whose responses have not been read. Clients and proxies usually send one
 * call after the other. Without this limit, a caller that sends thousands of calls at once and reads no response would
 * keep the memory of all of them in use.
 */
export const mostUnfinished = 16

const unfinished = Symbol('unfinished')

type CountedSocket = Socket & { [unfinished]?: number }

/** Tracks the calls of `app`, and adds the property `app.life`. */
export function trackConnections(app: FastifyInstance): void {
  const inWork = createUnorderedList<ServerResponse>()
  const waiting: (() => void)[] = []
  let stage: 'serving' | 'ending' | 'over' = 'serving'

  /** The same function is used for all calls: `this` is the response that has ended. */
  function leave(this: ServerResponse): void {
    inWork.remove(this)
    const socket = this.req.socket as CountedSocket
    socket[unfinished]! -= 1
    ;(this as Followed)[onOver]?.(this)
    if (inWork.members.length === 0) for (const resolve of waiting.splice(0)) resolve()
  }
  const life: Life = {
    get isEnding() {
      return stage !== 'serving'
    },
    get isShuttingDown() {
      return stage === 'over'
    },
    announceEnd() {
      if (stage !== 'serving') return
      stage = 'ending'
      for (const response of inWork.members) closeAfter(response)
    },
    begin(request, response) {
      const socket = request.socket as CountedSocket
      // If another server runs its own code first, the caller may hang up during that time. Then `close` was emitted
      // before, and a call that waits for it would never end.
      if (response.destroyed || socket.destroyed) return false
      // With HTTP/2, the other server limits the calls of a connection (`maxConcurrentStreams`).
      if (request.httpVersionMajor < 2 && (socket[unfinished] ?? 0) >= mostUnfinished) {
        if (!socket.destroyed) abort(socket)
        return false
      }
      if (life.isEnding) closeAfter(response)
      socket[unfinished] = (socket[unfinished] ?? 0) + 1
      inWork.add(response)
      response.on('close', leave)
      return true
    },
    quiet: (atMostMs) =>
      new Promise((resolve) => {
        if (inWork.members.length === 0) return resolve()
        systemClock.after(atMostMs, resolve)
        waiting.push(resolve)
      }),
    over() {
      stage = 'over'
    },
  }
  app.decorate('life', life)
  app.addHook('preClose', (done) => {
    life.announceEnd()
    done()
  })
}

/**
 * Closes a connection with many calls. Node has parsed all the calls that had arrived, which may be thousands. When the
 * connection closes, Node emits an error for each of them. The stack traces of these errors are switched off: they would
 * take most of the time, and nobody reads them.
 */
function abort(socket: Socket): void {
  let usual = Error.stackTraceLimit
  socket.prependOnceListener('close', () => {
    usual = Error.stackTraceLimit
    Error.stackTraceLimit = 0
  })
  socket.once('close', () => {
    Error.stackTraceLimit = usual
  })
  socket.destroy()
}

const onOver = Symbol('onOver')

type Followed = ServerResponse & { [onOver]?: (response: ServerResponse) => void }

/**
 * Calls `callback` when the response has ended or its connection was closed. A response has only one callback: a second
 * one replaces the first.
 */
export function onResponseEnd(response: ServerResponse, callback: (response: ServerResponse) => void): void {
  ;(response as Followed)[onOver] = callback
}

const place = Symbol('place')

/**
 * Returns a list without a particular order, for the calls in progress. A `Set` is not used: if thousands of members
 * are added and removed each second, the garbage collector keeps members of earlier hash tables of the `Set` alive.
 * With a `Set`, this work took a tenth of the time of a poll.
 */
function createUnorderedList<T extends object>() {
  type Placed = T & { [place]?: number }
  const members: Placed[] = []
  return {
    members: members as readonly T[],
    add(member: Placed): void {
      member[place] = members.push(member) - 1
    },
    /** Must be called once for each member that was added. */
    remove(member: Placed): void {
      const last = members.pop()!
      if (last === member) return
      members[member[place]!] = last
      last[place] = member[place]!
    },
  }
}

/**
 * Returns whether a call has arrived over the network. If not, this server has injected it itself, as a part of another
 * call that is already counted.
 */
export function isFromNetwork(request: IncomingMessage): boolean {
  // Calls by HTTP/2 have another class. It is not named here, because Node would then load its whole HTTP/2 part.
  return request.httpVersionMajor === 2 || request instanceof IncomingMessage
}

/** Closes the connection after this response. */
function closeAfter(response: ServerResponse): void {
  // HTTP/2 has no header `Connection`.
  if (!response.headersSent && response.req.httpVersionMajor < 2) response.setHeader('connection', 'close')
}

export interface EndingNeeds {
  clock: Clock
  announce(): void
  end(): Promise<void>
}

/**
 * Returns a function that calls `announce`, waits `delay` seconds and then calls `end`. If the function is called again
 * without a delay, the wait ends at once.
 */
export function createEnding({ clock, announce, end }: EndingNeeds) {
  let ended: Promise<void> | undefined
  let cutShort = () => {}

  const wait = (seconds: number) =>
    new Promise<void>((resolve) => {
      const cancel = clock.after(seconds * 1000, resolve)
      cutShort = () => {
        cancel()
        resolve()
      }
    })

  return ({ delay = 0 }: { delay?: number } = {}): Promise<void> => {
    if (ended === undefined) {
      announce()
      ended = delay > 0 ? wait(delay).then(end) : end()
    } else if (delay === 0) cutShort()
    return ended
  }
}
