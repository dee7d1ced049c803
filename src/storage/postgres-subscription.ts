/**
 * The one connection that hears what other nodes announce. When it is lost it comes back by itself, and then everybody
 * who listens is told that something may have been missed.
 */
import { Client, type ClientConfig } from 'pg'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Change } from './database.ts'
import type { Listeners } from './listeners.ts'

export const channel = 'doorbell'

const shortestPause = 100
const longestPause = 10_000

/** A connection can be gone without a word (a cut cable, a forgetful router), so it has to answer now and then. */
const pulse = 10_000

export interface Subscription {
  readonly listening: boolean
  end(): Promise<void>
}

interface Surroundings {
  log: Log
  clock: Clock
  listeners: Listeners
}

export function payloadOf({ topic, key }: Change): string {
  return JSON.stringify([topic, key])
}

/** Resolves when announcements reach us for the first time; rejects if that fails. */
export async function subscribe(
  settings: ClientConfig,
  { log, clock, listeners }: Surroundings,
): Promise<Subscription> {
  let current: Client | undefined
  let pause = shortestPause
  let cancel = () => {}
  let ended = false

  async function connect(): Promise<void> {
    const client = new Client({ ...settings, query_timeout: 5000 })
    client.on('error', () => lose(client))
    client.on('end', () => lose(client))
    client.on('notification', ({ payload = '' }) => tell(payload))
    try {
      await client.connect()
      await client.query(`listen ${channel}`)
    } catch (error) {
      void client.end().catch(() => {})
      throw error
    }
    if (ended) return client.end()
    current = client
    pause = shortestPause
    cancel = clock.after(pulse, () => feelPulse(client))
  }

  function feelPulse(client: Client): void {
    client.query('select 1').then(
      () => {
        if (client === current) cancel = clock.after(pulse, () => feelPulse(client))
      },
      () => lose(client),
    )
  }

  function lose(client: Client): void {
    if (client !== current || ended) return
    current = undefined
    void client.end().catch(() => {})
    log.warn('announcements of other nodes do not reach us: the database connection was lost')
    cancel()
    reconnectLater()
  }

  function reconnectLater(): void {
    cancel = clock.after(pause, () => void reconnect())
    pause = Math.min(pause * 2, longestPause)
  }

  async function reconnect(): Promise<void> {
    try {
      await connect()
    } catch {
      if (!ended) reconnectLater()
      return
    }
    if (ended) return
    log.info('announcements of other nodes reach us again')
    listeners.tellAll()
  }

  function tell(payload: string): void {
    const change = changeIn(payload)
    if (change) listeners.tell(change)
  }

  await connect()
  return {
    get listening() {
      return current !== undefined
    },
    async end() {
      ended = true
      cancel()
      await current?.end()
      current = undefined
    },
  }
}

/** Anybody on the same database can write into the channel, so what is not ours is passed over. */
function changeIn(payload: string): Change | undefined {
  try {
    const [topic, key] = JSON.parse(payload)
    return typeof topic === 'string' && typeof key === 'string' ? { topic, key } : undefined
  } catch {
    return undefined
  }
}
