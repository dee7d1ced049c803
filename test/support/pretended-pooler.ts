/**
 * A simulated pooler in front of Postgres. Many connections share a few sessions, as with PgBouncer. The pooler
 * forwards the bytes of the protocol. It sends each connection a process id that is not the process id of a session.
 */
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { closeAfter } from './teardown.ts'

export interface PoolerOptions {
  /** Whether a connection keeps its session until the connection ends, or only for a transaction. */
  mode: 'session' | 'transaction'
  /** The maximum number of open sessions. */
  sessions: number
  /**
   * Returns the idle session that is used next. `idle` begins with sessions that were never used, and ends with the
   * session that was used last. Default: the session that was used last.
   */
  next?(idle: readonly Session[]): Session
  /** Returns the process id that the pooler sends to a connection, or undefined if it sends none. */
  numberFor?(connection: number): number | undefined
}

/** A session of Postgres. */
export interface Session {
  /** The number of the session, counted from 0. */
  index: number
}

export interface PretendedPooler {
  /** The URL of the pooler, to use instead of the URL of the database. */
  url: string
  /** Returns the number of connections that wait for a session. */
  waiting(): number
}

/** The process id that the first connection gets. It is larger than any process id of Linux. */
const firstNumber = 2_000_000_000

export async function openPretendedPooler(
  t: TestContext,
  database: string,
  options: PoolerOptions,
): Promise<PretendedPooler> {
  const { numberFor = (each) => firstNumber + each } = options
  const { hostname, port } = new URL(database)
  const sockets = new Set<Socket>()
  const track = (socket: Socket) => {
    sockets.add(socket)
    return socket.on('error', () => {}).once('close', () => sockets.delete(socket))
  }
  const sessions = createSessions(options, () => track(connect(Number(port), hostname)))
  let connections = 0

  const server = createServer((near) => {
    const read = createMessageReader({ hasStartup: true })
    let connection: Connection | undefined
    track(near).on('data', (chunk) => {
      for (const message of read(chunk)) {
        if (connection !== undefined) sessions.send(connection, message)
        else {
          connection = { near, startup: message, session: undefined, unsent: [], expected: 0 }
          near.write(greeting(numberFor(connections++)))
        }
      }
    })
    near.once('close', () => connection && sessions.leave(connection))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closeAfter(t, () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const url = new URL(database)
  url.port = String((server.address() as { port: number }).port)
  return { url: url.href, waiting: sessions.waiting }
}

/** A connection to the pooler. */
interface Connection {
  near: Socket
  /** The first message, which names the user and the database. */
  startup: Buffer
  session: OpenSession | undefined
  /** Messages that wait for a session. */
  unsent: Buffer[]
  /** The number of `ReadyForQuery` messages that Postgres has still to send. */
  expected: number
}

interface OpenSession extends Session {
  /** The connection to Postgres. Undefined until the session is used for the first time. */
  far?: Socket
  isReady?: boolean
  user?: Connection | undefined
}

/** Returns the sessions, and the connections that wait for them. */
function createSessions({ mode, sessions, next = (idle) => idle.at(-1)! }: PoolerOptions, open: () => Socket) {
  const idle = Array.from({ length: sessions }, (_, index): OpenSession => ({ index }))
  const queue: Connection[] = []

  /** Gives idle sessions to connections that wait. */
  function assign(): void {
    while (queue.length > 0 && idle.length > 0) {
      const connection = queue.shift()!
      const session = next(idle) as OpenSession
      idle.splice(idle.indexOf(session), 1)
      connection.session = session
      session.user = connection
      if (session.far === undefined) begin(session, connection.startup)
      flush(session)
    }
  }

  /** Opens a session. The first `ReadyForQuery` of the session is not passed on. */
  function begin(session: OpenSession, startup: Buffer): void {
    const read = createMessageReader({ hasStartup: false })
    session.far = open()
    session.far.write(startup)
    session.far.on('data', (chunk) => {
      for (const message of read(chunk)) {
        if (session.isReady) answer(session, message)
        else if (isReadyForQuery(message)) {
          session.isReady = true
          flush(session)
        }
      }
    })
    session.far.once('close', () => session.user?.near.destroy())
  }

  function flush({ user, far, isReady }: OpenSession): void {
    if (user && isReady) for (const message of user.unsent.splice(0)) far!.write(message)
  }

  function answer(session: OpenSession, message: Buffer): void {
    const { user } = session
    if (user === undefined) return
    user.near.write(message)
    if (!isReadyForQuery(message)) return
    user.expected -= 1
    if (mode === 'session' || user.expected > 0 || !message.equals(readyForQuery)) return
    user.session = undefined
    session.user = undefined
    idle.push(session)
    assign()
  }

  return {
    waiting: () => queue.length,
    send(connection: Connection, message: Buffer): void {
      const type = String.fromCharCode(message[0]!)
      if (type === 'X') {
        connection.near.end()
        return
      }
      if (type === 'Q' || type === 'S') connection.expected += 1
      connection.unsent.push(message)
      if (connection.session) flush(connection.session)
      else if (!queue.includes(connection)) queue.push(connection)
      assign()
    },
    /**
     * Must be called when a connection ends. Closes the session of the connection, so that another session can be
     * opened.
     */
    leave(connection: Connection): void {
      if (queue.includes(connection)) queue.splice(queue.indexOf(connection), 1)
      const { session } = connection
      if (session === undefined) return
      session.user = undefined
      session.far?.destroy()
      idle.push({ index: session.index })
      assign()
    },
  }
}

/** The message `ReadyForQuery` outside a transaction. */
const readyForQuery = Buffer.from('Z\0\0\0\x05I')

const isReadyForQuery = (message: Buffer) => message[0] === readyForQuery[0]

/** Returns the first response to a connection: no password is needed, and the process id is `number`. */
function greeting(number: number | undefined): Buffer {
  const keyData = number === undefined ? [] : [numbersAs('K', number, 0)]
  return Buffer.concat([numbersAs('R', 0), ...keyData, readyForQuery])
}

/** Returns a message whose content is numbers of 32 bits. */
function numbersAs(type: string, ...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(5 + 4 * numbers.length)
  bytes.write(type)
  for (const [index, number] of [bytes.length - 1, ...numbers].entries()) bytes.writeInt32BE(number, 1 + 4 * index)
  return bytes
}

/**
 * Returns a function that splits received bytes into messages. The first message of a client has no type byte
 * (`hasStartup`).
 */
function createMessageReader({ hasStartup }: { hasStartup: boolean }): (chunk: Buffer) => Buffer[] {
  let rest: Buffer = Buffer.alloc(0)
  let typeBytes = hasStartup ? 0 : 1
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    const messages: Buffer[] = []
    while (rest.length >= typeBytes + 4) {
      const end = typeBytes + rest.readInt32BE(typeBytes)
      if (rest.length < end) break
      messages.push(rest.subarray(0, end))
      rest = rest.subarray(end)
      typeBytes = 1
    }
    return messages
  }
}
