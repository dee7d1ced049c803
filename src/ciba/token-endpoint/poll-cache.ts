/**
 * The requests that this node knows to be pending, and the clock of their polls: most polls hear that nothing has
 * happened, and that a node can say from memory, as long as somebody would tell it if something had. Anything but
 * pending is the table's to say.
 *
 * The clock of the polls is written behind: what a request's interval has grown by within a second, the time of its
 * last poll when the process ends in order.
 */
import type { Clock } from '../../platform/clock.ts'
import { fingerprint } from '../../platform/crypto.ts'
import type { Log } from '../../platform/log.ts'
import { createHearsay } from '../../platform/storage/change-tracker.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { PolledRequest } from '../authentication-request/request-lookup-store.ts'
import type { KeptPoll, Poll } from '../authentication-request/request-poll-store.ts'

export interface PendingRequests {
  /** What a poll hears of a request that is known to be pending, accounted for. Nothing: `poll` has to ask. */
  recall(authReqId: string, clientId: string, arrivedAt: number): RecalledPoll | undefined
  /** Whether the request is known to be pending at this moment. */
  isKnown(id: string): boolean
  /** Looks at the table. What is pending there is remembered, and the poll accounted for in memory; else in the table. */
  poll(authReqId: string, clientId: string, arrivedAt: number): Promise<Poll | undefined>
  /** Writes down by how much intervals have grown. */
  flush(): Promise<void>
  /** Writes down all there is, the time of each last poll included. */
  close(): Promise<void>
}

export interface RecalledPoll {
  answer: 'authorization_pending' | 'slow_down'
  id: string
  expiresAt: number
}

export interface PendingNeeds {
  requests: Pick<RequestStore, 'poll' | 'findPolled' | 'keepPolls'>
  database: Pick<Database, 'listen' | 'stretch'>
  /** Requests in memory at most. One costs about 700 bytes. */
  most?: number
  clock: Clock
  log: Log
}

/** More polls than these would be, in five seconds, no node answers. */
const usualMost = 100_000
/** Milliseconds that what an interval has grown by may be in memory only. */
const writtenWithin = 1_000
/** Rows in one statement. */
const atOnce = 500

interface Remembered {
  key: string
  id: string
  clientId: string
  expiresAt: number
  /** While both are what they were, somebody would have told us. */
  stretch: number | undefined
  era: number
  /** Seconds, as the table has them; what they have grown by since; how much of that is on its way there. */
  interval: number
  growth: number
  onItsWay: number
  lastPolledAt: number
  /** The time of the last poll in the table. */
  writtenAt: number
  /** Polled since it was last thought of being forgotten. */
  isUsed: boolean
}

const nothingUnwritten = { growth: 0, lastPolledAt: 0 }

export function createPendingRequests(needs: PendingNeeds): PendingRequests {
  const { requests, database, clock, log, most = usualMost } = needs
  const byKey = new Map<string, Remembered>()
  const byId = new Map<string, Remembered>()
  const grown = new Set<Remembered>()
  let era = 0
  let cancelFlush: (() => void) | undefined
  let flushing: Promise<void> | undefined

  const hearsay = createHearsay(database, 'request', (id) => {
    if (id === '') era += 1
    else doubt(byId.get(id))
  })
  // With a client its requests end, and nobody says which.
  database.listen('client', () => {
    era += 1
  })

  const isPending = ({ status, expiresAt }: AuthenticationRequest, now: number) =>
    status === 'pending' && now < expiresAt

  const isBelieved = (known: Remembered) =>
    known.era === era && known.stretch !== undefined && known.stretch === database.stretch

  /**
   * It has changed, and is looked up again. When it was polled last is only known here until it is written, and news may
   * come late, of a request that is as it was. Once its time is over, that matters no more.
   */
  function doubt(known: Remembered | undefined): void {
    if (known && known.lastPolledAt > known.writtenAt && clock.now() < known.expiresAt) known.stretch = undefined
    else drop(known)
  }

  function drop(known: Remembered | undefined): void {
    if (known === undefined) return
    byKey.delete(known.key)
    byId.delete(known.id)
    grown.delete(known)
  }

  function remember(key: string, { request, lastPolledAt }: PolledRequest, stretch: number | undefined): Remembered {
    const { id, clientId, expiresAt, interval } = request
    const known = byKey.get(key)
    if (known) {
      known.stretch = stretch
      known.era = era
      known.interval = Math.max(known.interval, interval)
      known.lastPolledAt = Math.max(known.lastPolledAt, lastPolledAt)
      known.writtenAt = Math.max(known.writtenAt, lastPolledAt)
      return known
    }
    const clockOfPolls = { interval, growth: 0, onItsWay: 0, lastPolledAt, writtenAt: lastPolledAt }
    const added = { key, id, clientId, expiresAt, stretch, era, ...clockOfPolls, isUsed: false }
    byKey.set(key, added)
    byId.set(id, added)
    makeRoom()
    return added
  }

  /** Whether the poll came too early (TE-1). The first never does (TK-18); of two at once the second does (M45). */
  function account(known: Remembered, arrivedAt: number): boolean {
    const interval = known.interval + known.growth + known.onItsWay
    const isEarly = known.lastPolledAt > 0 && arrivedAt < known.lastPolledAt + interval * 1000
    known.lastPolledAt = Math.max(known.lastPolledAt, arrivedAt)
    if (isEarly) grow(known)
    return isEarly
  }

  /** While nobody would tell us of a change, each poll is accounted for in the table, which all nodes share. */
  async function pollInTable(key: string, authReqId: string, clientId: string, arrivedAt: number) {
    const known = byKey.get(key)?.clientId === clientId ? byKey.get(key) : undefined
    const unwritten = known ? { growth: known.growth, lastPolledAt: known.lastPolledAt } : nothingUnwritten
    if (known) known.growth = 0
    const poll = await requests.poll(authReqId, clientId, arrivedAt, unwritten).catch((error: unknown) => {
      if (known) known.growth += unwritten.growth
      throw error
    })
    if (poll === undefined || !isPending(poll.request, arrivedAt)) drop(known)
    else if (known) {
      known.interval = Math.max(known.interval, poll.request.interval)
      known.lastPolledAt = Math.max(known.lastPolledAt, arrivedAt)
      known.writtenAt = known.lastPolledAt
    }
    return poll
  }

  /** Forgets those that were not polled for longest, as near as it is cheap to know. What has grown is still written. */
  function makeRoom(): void {
    while (byKey.size > most) {
      const [key, oldest] = byKey.entries().next().value!
      byKey.delete(key)
      if (oldest.isUsed) {
        oldest.isUsed = false
        byKey.set(key, oldest)
      } else byId.delete(oldest.id)
    }
  }

  function grow(known: Remembered): void {
    known.growth += 5
    grown.add(known)
    cancelFlush ??= clock.after(writtenWithin, () => void flush())
  }

  function flush(): Promise<void> {
    cancelFlush?.()
    cancelFlush = undefined
    flushing = (flushing ?? Promise.resolve()).then(() => write([...grown]))
    return flushing
  }

  async function write(unwritten: Remembered[]): Promise<void> {
    for (let from = 0; from < unwritten.length; from += atOnce) await writeSome(unwritten.slice(from, from + atOnce))
  }

  async function writeSome(unwritten: Remembered[]): Promise<void> {
    const polls = unwritten.map((known): KeptPoll => {
      grown.delete(known)
      known.onItsWay = known.growth
      known.growth = 0
      return { authReqIdHash: known.key, lastPolledAt: known.lastPolledAt, growth: known.onItsWay }
    })
    try {
      const intervals = await requests.keepPolls(polls)
      for (const [index, known] of unwritten.entries()) {
        known.onItsWay = 0
        known.writtenAt = Math.max(known.writtenAt, polls[index]!.lastPolledAt)
        known.interval = Math.max(known.interval, intervals.get(known.key) ?? 0)
      }
    } catch (error) {
      for (const known of unwritten) {
        known.growth += known.onItsWay
        known.onItsWay = 0
        if (known.growth > 0) grown.add(known)
      }
      cancelFlush ??= clock.after(writtenWithin, () => void flush())
      log.warn({ event: 'polls.not_written', error }, 'how often clients polled could not be written down')
    }
  }

  return {
    recall(authReqId, clientId, arrivedAt) {
      const known = byKey.get(fingerprint(authReqId))
      if (known?.clientId !== clientId || arrivedAt >= known.expiresAt || !isBelieved(known)) return undefined
      known.isUsed = true
      const answer = account(known, arrivedAt) ? 'slow_down' : 'authorization_pending'
      return { answer, id: known.id, expiresAt: known.expiresAt }
    },

    isKnown(id) {
      const known = byId.get(id)
      return known !== undefined && isBelieved(known)
    },

    async poll(authReqId, clientId, arrivedAt) {
      const key = fingerprint(authReqId)
      const [mark, since] = [hearsay.mark(), era]
      if (mark.stretch === undefined) return pollInTable(key, authReqId, clientId, arrivedAt)
      const found = await requests.findPolled(key, clientId)
      if (found === undefined) return undefined
      const { request } = found
      if (!isPending(request, arrivedAt)) {
        drop(byKey.get(key))
        return { request, tooEarly: false }
      }
      // Who was pinged comes at once, and perhaps here before the news that there is something to fetch.
      const isPinged = request.deliveryMode === 'ping'
      if (isPinged || since !== era || !hearsay.holds(mark, request.id)) {
        return pollInTable(key, authReqId, clientId, arrivedAt)
      }
      return { request, tooEarly: account(remember(key, found, mark.stretch), arrivedAt) }
    },

    flush,

    async close() {
      await flush()
      cancelFlush?.()
      await write([...byKey.values()].filter((known) => known.growth > 0 || known.lastPolledAt > known.writtenAt))
      cancelFlush?.()
    },
  }
}
