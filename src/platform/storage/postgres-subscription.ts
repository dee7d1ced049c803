/**
 * The connection on which this node receives the notifications of other nodes (`LISTEN`). If the connection is lost, it
 * is opened again. Then all listeners are called with the key '', because notifications may have been missed.
 */
import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import { type Clock, systemClock } from '../clock.ts'
import { newSecret } from '../crypto.ts'
import type { Log } from '../log.ts'
import { type ClockOffset, createClockOffset } from './clock-offset.ts'
import type { Change } from './database.ts'
import type { Listeners } from './listeners.ts'
import { refuseTransactionPooling } from './postgres-pooler.ts'
import type { Route, Routes } from './postgres-routes.ts'
import { prepareSession } from './postgres-session.ts'
import { listSessionsAtWork, type SilenceWatch } from './postgres-silence.ts'

/** The channel of LISTEN and NOTIFY. */
export const channel = 'doorbell'

const shortestPauseMs = 100
const longestPauseMs = 10_000

/**
 * Milliseconds between two checks of the connection. A connection can be lost without an error, for instance if a cable
 * is cut or a router has dropped the connection.
 */
const checkIntervalMs = 2_000

/**
 * Milliseconds for which the epoch (`Database.epoch`) is valid after a successful check. This is not longer than the
 * pause of a client between two polls.
 */
const trustMs = 4_000

/** Milliseconds to wait until Postgres confirms that a connection is closed. */
const longestCloseMs = 1_000

export interface Subscription {
  readonly listening: boolean
  /** See `Database.epoch`. */
  readonly epoch: number | undefined
  /** See `Database.clockOffset`. */
  readonly clockOffset: number
  end(): Promise<void>
}

interface Surroundings {
  routes: Routes
  log: Log
  clock: Clock
  listeners: Listeners
  publisher: Publisher
  silence: SilenceWatch
  /** For tests: replaces the clock of this machine, with which the database's clock is compared. */
  machine?: Clock | undefined
}

/**
 * Makes the notifications about the changes of this node. Postgres also sends each notification back to this node (the
 * echo). Listeners on this node are called only once: after the commit, or when the echo arrives, whichever is first.
 */
export interface Publisher {
  /**
   * Returns `payloads`, one text for each notification, and `tellHere`, which calls the listeners on this node.
   */
  publish(changes: Change[]): { payloads: string[]; tellHere(): void }
  /** Returns whether a received notification is an echo for which the listeners on this node were already called. */
  isOwnEcho(origin: string | undefined): boolean
  /** Forgets all earlier notifications, because their echoes may never arrive. Called when the connection was lost. */
  forget(): void
}

/**
 * Upper limit for the bytes of changes in a notification. Postgres allows less than 8000 bytes, and `origin` needs some
 * of them.
 */
const mostBytes = 7500
/** Upper limit for the notifications of which this node has seen only the commit or only the echo. */
const mostAwaited = 100_000

/** The changes in one notification. `origin` is unique among all notifications of all nodes. */
interface Announcement {
  origin: string
  changes: Change[]
}

/** A notification of this node. `texts` contains each change in the form in which it is sent. */
interface OwnAnnouncement extends Announcement {
  texts: string[]
}

/** Returns the publisher of this node. */
export function createPublisher(listeners: Listeners): Publisher {
  const node = newSecret(6)
  /**
   * The origins for which `isSecond` was called once. `isSecond` is called twice for each notification: before the
   * listeners on this node are called, and when the echo arrives.
   */
  const once = new Set<string>()

  function isSecond(origin: string): boolean {
    if (once.delete(origin)) return true
    // This limits the memory that another program can fill with notifications that look like those of this node. If an
    // origin is forgotten, the listeners are called twice, which does no harm.
    if (once.size >= mostAwaited) once.clear()
    once.add(origin)
    return false
  }

  return {
    publish(changes) {
      const announcements = splitChanges(changes).map(
        // The origin is random, so that no other program on the same database can send a notification with the same
        // origin before this node does.
        (piece): OwnAnnouncement => ({ origin: `${node}.${randomUUID()}`, ...piece }),
      )
      return {
        payloads: announcements.map(payloadOf),
        tellHere() {
          for (const { origin, changes } of announcements) if (!isSecond(origin)) changes.forEach(listeners.tell)
        },
      }
    },
    isOwnEcho: (origin) => origin?.startsWith(`${node}.`) === true && isSecond(origin),
    forget: () => once.clear(),
  }
}

/** Divides the changes into as few notifications as possible: for every node, one notification costs less than many. */
function splitChanges(changes: Change[]): Omit<OwnAnnouncement, 'origin'>[] {
  const pieces: Omit<OwnAnnouncement, 'origin'>[] = []
  let room = 0
  for (const change of changes) {
    const text = JSON.stringify([change.topic, change.key])
    const bytes = Buffer.byteLength(text) + 1
    if (bytes > room) {
      pieces.push({ changes: [], texts: [] })
      room = mostBytes
    }
    const piece = pieces.at(-1)!
    piece.changes.push(change)
    piece.texts.push(text)
    room -= bytes
  }
  return pieces
}

const payloadOf = ({ origin, texts }: OwnAnnouncement) => `[${JSON.stringify(origin)},${texts.join(',')}]`

/** Opens the subscription. Resolves when it receives notifications; rejects if the first connection fails. */
export async function subscribe(surroundings: Surroundings): Promise<Subscription> {
  const { routes, log, clock, listeners, publisher, silence, machine } = surroundings
  const clockOffset = createClockOffset(machine)
  let current: Client | undefined
  let epoch = 0
  let aliveAt = 0
  let pause = shortestPauseMs
  let cancel = () => {}
  let ended = false

  async function connect(): Promise<void> {
    const client = await routes.open((route) => openListener(route, { lose, tell, routes, clockOffset }))
    if (ended) return client.end()
    current = client
    epoch += 1
    aliveAt = clock.now()
    pause = shortestPauseMs
    cancel = clock.after(checkIntervalMs, () => void checkConnection(client))
  }

  /**
   * Checks this connection, and uses it to find and end connections of the pool that no longer work
   * (`SilenceWatch.endSilent`).
   */
  async function checkConnection(client: Client): Promise<void> {
    cancel()
    try {
      await measureClock(client, clockOffset)
      if (client === current) aliveAt = clock.now()
      await silence.endSilent((sessions) => sessionsAtWork(client, sessions))
    } catch (error) {
      if (client === current && !ended) silence.lost(error)
      return lose(client)
    }
    if (client === current && !ended) cancel = clock.after(checkIntervalMs, () => void checkConnection(client))
  }

  function lose(client: Client): void {
    if (client !== current || ended) return
    current = undefined
    void client.end().catch(() => {})
    log.warn(
      { event: 'database.listen_lost' },
      'announcements of other nodes are not received: the database connection was lost',
    )
    reconnectLater()
  }

  function reconnectLater(): void {
    cancel()
    cancel = clock.after(pause, () => void reconnect())
    pause = Math.min(pause * 2, longestPauseMs)
  }

  async function reconnect(): Promise<void> {
    const failure = await failureOf(connect())
    if (ended) return
    silence.tried(failure)
    if (failure !== undefined) return reconnectLater()
    log.info({ event: 'database.listening' }, 'announcements of other nodes are received again')
    publisher.forget()
    listeners.tellAll()
    if (current !== undefined) await checkConnection(current)
  }

  function tell(payload: string): void {
    if (!publisher.isOwnEcho(originOf(payload))) changesIn(payload).forEach(listeners.tell)
  }

  await connect()
  return {
    get listening() {
      return current !== undefined
    },
    get epoch() {
      return current !== undefined && isRecent(clock.now() - aliveAt) ? epoch : undefined
    },
    get clockOffset() {
      return clockOffset.milliseconds
    },
    async end() {
      ended = true
      cancel()
      silence.tried()
      if (current !== undefined) await endInTime(current)
      current = undefined
    },
  }
}

/**
 * Returns whether the last check of the connection is recent enough for the epoch to be valid. `age` is the time since
 * that check, in milliseconds of the wall clock. An old check is not enough: a process that was suspended may have
 * missed notifications, and may not have noticed yet that the connection was lost. The steady time is not used, because
 * it may stand still while the machine is suspended. If the age is negative, the wall clock was set back, and the true
 * age is unknown.
 */
const isRecent = (age: number) => age >= 0 && age <= trustMs

function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  )
}

/**
 * Closes a connection. If Postgres does not confirm this within `longestCloseMs`, the connection is closed without the
 * confirmation.
 */
async function endInTime(client: Client): Promise<void> {
  const cancel = systemClock.after(longestCloseMs, () => client.connection.stream.destroy())
  await client.end()
  cancel()
}

interface Listening {
  lose(client: Client): void
  tell(payload: string): void
  routes: Routes
  clockOffset: ClockOffset
}

/** Opens a connection that receives notifications. `lose` is called when the connection ends, for any reason. */
async function openListener(route: Route, { lose, tell, routes, clockOffset }: Listening): Promise<Client> {
  const client = new Client({ ...route.config, query_timeout: trustMs })
  client.on('error', () => lose(client))
  client.on('end', () => lose(client))
  client.on('notification', ({ payload = '' }) => tell(payload))
  try {
    await client.connect()
    await refuseTransactionPooling(client, route)
    await prepareSession(client)
    await routes.checkServer(client)
    await measureClock(client, clockOffset)
    await client.query(`listen ${channel}`)
  } catch (error) {
    void client.end().catch(() => {})
    throw error
  }
  return client
}

function measureClock(client: Client, clockOffset: ClockOffset): Promise<void> {
  return clockOffset.measure(async () => {
    const { rows } = await client.query<{ now: string }>(databaseTime)
    return Number(rows[0]!.now)
  })
}

async function sessionsAtWork(client: Client, sessions: string[]): Promise<string[]> {
  const { rows } = await client.query<{ session: string }>(listSessionsAtWork, [sessions])
  return rows.map(({ session }) => session)
}

const databaseTime = 'select (extract(epoch from clock_timestamp()) * 1000)::bigint as now'

/**
 * Returns the origin of a notification. Most notifications that a node receives are echoes of its own, which need not
 * be parsed.
 */
const originOf = (payload: string) => /^\["([^"\\]+)",/.exec(payload)?.[1]

/**
 * Parses a notification. Any program on the same database can write to the channel, so notifications in another form
 * are ignored.
 */
function changesIn(payload: string): Change[] {
  try {
    const [, ...changes] = JSON.parse(payload)
    return changes.filter(isChange).map(([topic, key]: string[]) => ({ topic, key }))
  } catch {
    return []
  }
}

function isChange(change: unknown): boolean {
  return Array.isArray(change) && typeof change[0] === 'string' && typeof change[1] === 'string'
}
