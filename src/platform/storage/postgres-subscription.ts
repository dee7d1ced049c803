/**
 * The one connection that hears what other nodes announce. When it is lost it comes back by itself, and then everybody
 * who listens is told that something may have been missed.
 */
import { Client, type ClientConfig } from 'pg'
import type { Clock } from '../clock.ts'
import { newSecret } from '../crypto.ts'
import type { Log } from '../log.ts'
import type { Change } from './database.ts'
import type { Listeners } from './listeners.ts'
import { prepareSession } from './postgres-session.ts'

export const channel = 'doorbell'

const shortestPauseMs = 100
const longestPauseMs = 10_000

/** A connection can be gone without a word (a cut cable, a forgetful router), so it has to answer now and then. */
const pulseMs = 2_000

/** How long after a sign of life we go on to believe that nothing was missed: no longer than between two polls. */
const trustMs = 4_000

export interface Subscription {
  readonly listening: boolean
  /** As `Database` has it. */
  readonly epoch: number | undefined
  end(): Promise<void>
}

interface Surroundings {
  log: Log
  clock: Clock
  listeners: Listeners
  publisher: Publisher
}

/** What this node says itself it hears at once, and once: not again when it comes back by the wire. */
export interface Publisher {
  /** The changes as they go over the wire, a JSON array of texts, and how to tell them here once they are committed. */
  publish(changes: Change[]): { payloads: string; tellHere(): void }
  /** Whether what came by the wire was told here already. */
  isOwnEcho(origin: unknown): boolean
  /** What was said up to now may never come back. */
  forget(): void
}

/** Bytes that fit into one notification: Postgres takes less than 8000, and the rest is ours. */
const mostBytes = 7500

/** Changes that travel in one notification. `origin` says which it is, of all that any node has said. */
interface Announcement {
  origin: string
  changes: Change[]
}

/** One of our own, each change also as it travels. */
interface OwnAnnouncement extends Announcement {
  texts: string[]
}

export function createPublisher(listeners: Listeners): Publisher {
  const node = newSecret(6)
  /** Heard on one of the two ways, and not yet on the other. */
  const once = new Set<string>()
  let count = 0

  function isSecond(origin: string): boolean {
    if (once.delete(origin)) return true
    once.add(origin)
    return false
  }

  return {
    publish(changes) {
      const announcements = inPieces(changes).map(
        (piece): OwnAnnouncement => ({ origin: `${node}.${++count}`, ...piece }),
      )
      return {
        payloads: JSON.stringify(announcements.map(payloadOf)),
        tellHere() {
          for (const { origin, changes } of announcements) if (!isSecond(origin)) changes.forEach(listeners.tell)
        },
      }
    },
    isOwnEcho: (origin) => typeof origin === 'string' && origin.startsWith(`${node}.`) && isSecond(origin),
    forget: () => once.clear(),
  }
}

/** One notification for many changes costs everybody less than many. */
function inPieces(changes: Change[]): Omit<OwnAnnouncement, 'origin'>[] {
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

/** Resolves when announcements reach us for the first time; rejects if that fails. */
export async function subscribe(
  settings: ClientConfig,
  { log, clock, listeners, publisher }: Surroundings,
): Promise<Subscription> {
  let current: Client | undefined
  let epoch = 0
  let aliveAt = 0
  let pause = shortestPauseMs
  let cancel = () => {}
  let ended = false

  async function connect(): Promise<void> {
    const client = await openListener(settings, { lose, tell })
    if (ended) return client.end()
    current = client
    epoch += 1
    aliveAt = clock.now()
    pause = shortestPauseMs
    cancel = clock.after(pulseMs, () => feelPulse(client))
  }

  function feelPulse(client: Client): void {
    client.query('select 1').then(
      () => {
        if (client !== current) return
        aliveAt = clock.now()
        cancel = clock.after(pulseMs, () => feelPulse(client))
      },
      () => lose(client),
    )
  }

  function lose(client: Client): void {
    if (client !== current || ended) return
    current = undefined
    void client.end().catch(() => {})
    log.warn('announcements of other nodes are not received: the database connection was lost')
    reconnectLater()
  }

  function reconnectLater(): void {
    cancel()
    cancel = clock.after(pause, () => void reconnect())
    pause = Math.min(pause * 2, longestPauseMs)
  }

  async function reconnect(): Promise<void> {
    const isBack = await connect().then(
      () => true,
      () => false,
    )
    if (ended) return
    if (!isBack) return reconnectLater()
    log.info('announcements of other nodes are received again')
    publisher.forget()
    listeners.tellAll()
  }

  function tell(payload: string): void {
    const { origin, changes } = read(payload)
    if (changes.length > 0 && !publisher.isOwnEcho(origin)) changes.forEach(listeners.tell)
  }

  await connect()
  return {
    get listening() {
      return current !== undefined
    },
    // A process that was stopped for a while wakes up with what it believed before.
    get epoch() {
      return current !== undefined && clock.now() - aliveAt <= trustMs ? epoch : undefined
    },
    async end() {
      ended = true
      cancel()
      await current?.end()
      current = undefined
    },
  }
}

/** A connection on which announcements arrive. `lose` hears when it ends, whatever ended it. */
async function openListener(
  settings: ClientConfig,
  { lose, tell }: { lose(client: Client): void; tell(payload: string): void },
): Promise<Client> {
  const client = new Client({ ...settings, query_timeout: trustMs })
  client.on('error', () => lose(client))
  client.on('end', () => lose(client))
  client.on('notification', ({ payload = '' }) => tell(payload))
  try {
    await client.connect()
    await prepareSession(client)
    await client.query(`listen ${channel}`)
  } catch (error) {
    void client.end().catch(() => {})
    throw error
  }
  return client
}

/** Anybody on the same database can write into the channel, so what is not ours is passed over. */
function read(payload: string): Announcement {
  try {
    const [origin, ...changes] = JSON.parse(payload)
    return { origin, changes: changes.filter(isChange).map(([topic, key]: string[]) => ({ topic, key })) }
  } catch {
    return { origin: '', changes: [] }
  }
}

function isChange(change: unknown): boolean {
  return Array.isArray(change) && typeof change[0] === 'string' && typeof change[1] === 'string'
}
