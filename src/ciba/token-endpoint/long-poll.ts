/**
 * Long polling (CIBA §10.1): a poll of a request that is pending is held until something happens, so that the client
 * hears of it at once. A held poll is an entry in a map: no connection to the database, and one timer for all of them.
 */
import type { Clock } from '../../platform/clock.ts'
import type { IncomingConnection } from '../../platform/http/connection.ts'
import type { Log } from '../../platform/log.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'

/** Why a poll is held no longer: something happened, nothing did, or nobody waits for the answer any more. */
export type Release = 'changed' | 'over' | 'left'

export interface HeldPoll {
  requestId: string
  /** Milliseconds since 1970. */
  until: number
  /** Whether the request is known to be pending at this moment; if not, it is looked at again. */
  isCertain: boolean
}

export interface HeldPolls {
  /** Holds a poll of a pending request. One at a time for a request: an older one is over (TK-16). */
  hold(held: HeldPoll, caller: Pick<IncomingConnection, 'isClosed' | 'onClose'>): Promise<Release>
  /** Polls held at this moment. */
  count(): number
  /** Lets all go, and holds nothing any more. */
  close(): void
}

export interface HeldPollsNeeds {
  database: Pick<Database, 'listen' | 'epoch'>
  /** Of these ids, those of requests that are pending. One statement for many. */
  stillPending: RequestStore['stillPending']
  /** Polls held at most; what is beyond is answered at once. */
  most: number
  clock: Clock
  log: Log
}

/** Milliseconds by which a poll may be let go too early: nobody notices, and one timer is enough. */
export const tick = 250
/** Milliseconds between two looks at the table while nobody would tell us of a change. */
const patrol = 2_000
/** Requests looked at in one statement. */
const atOnce = 500

interface Held {
  until: number
  release(why: Release): void
}

export function createHeldPolls(needs: HeldPollsNeeds): HeldPolls {
  const { database, clock, log, most } = needs
  const held = new Map<string, Held>()
  let epoch: number | undefined
  let lookedAt = 0
  let looking = false
  let isClosed = false
  let cancelTick: (() => void) | undefined

  database.listen('request', (id) => {
    if (id === '') void lookAtAll()
    else release(id, 'changed')
  })

  function release(id: string, why: Release): void {
    const one = held.get(id)
    held.delete(id)
    one?.release(why)
  }

  function goOn(): void {
    cancelTick = undefined
    const now = clock.now()
    for (const [id, { until }] of held) if (until <= now + tick) release(id, 'over')
    if (database.epoch !== epoch || (epoch === undefined && now >= lookedAt + patrol)) void lookAtAll()
    setTick()
  }

  function setTick(): void {
    if (held.size > 0) cancelTick ??= clock.after(tick, goOn)
  }

  /** Something may have been missed: on SQLite, what another process wrote. */
  async function lookAtAll(): Promise<void> {
    if (looking) {
      epoch = undefined
      return
    }
    looking = true
    epoch = database.epoch
    lookedAt = clock.now()
    const ids = [...held.keys()]
    for (let from = 0; from < ids.length; from += atOnce) await look(ids.slice(from, from + atOnce))
    looking = false
  }

  async function look(ids: string[]): Promise<void> {
    try {
      const pending = await needs.stillPending(ids)
      for (const id of ids) if (!pending.has(id)) release(id, 'changed')
    } catch (error) {
      epoch = undefined
      log.warn({ event: 'polls.look_failed', error }, 'held polls could not be checked; it will be tried again')
    }
  }

  return {
    hold({ requestId, until, isCertain }, caller) {
      return new Promise((resolve) => {
        if (caller.isClosed()) return resolve('left')
        release(requestId, 'over')
        if (isClosed || held.size >= most || until <= clock.now() + tick) return resolve('over')
        if (held.size === 0) epoch = database.epoch
        const one: Held = { until, release: resolve }
        held.set(requestId, one)
        caller.onClose(() => {
          if (held.get(requestId) === one) release(requestId, 'left')
        })
        setTick()
        if (!isCertain) void look([requestId])
      })
    },
    count: () => held.size,
    close() {
      isClosed = true
      cancelTick?.()
      for (const id of [...held.keys()]) release(id, 'over')
    },
  }
}
