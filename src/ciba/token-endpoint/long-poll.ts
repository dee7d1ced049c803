/**
 * Long polling (CIBA §10.1): a poll of a pending request is held until the request changes, so that the client gets the
 * result at once. A held poll is only an entry in a map. It uses no database connection, and all held polls share one
 * timer.
 */
import { type Clock, steadyTime } from '../../platform/clock.ts'
import type { IncomingConnection } from '../../platform/http/connection.ts'
import type { Log } from '../../platform/log.ts'
import { createRepeatedFailures } from '../../platform/repeated-failures.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'

/**
 * Why a held poll is released: the request may have changed (`changed`), the poll must not be held any longer (`over`),
 * or the client has disconnected (`left`).
 */
export type Release = 'changed' | 'over' | 'left'

export interface HeldPoll {
  requestId: string
  /** The time at which the poll is released at the latest, by the monotonic clock of this process (`steadyTime`). */
  until: number
  /** Whether the request is known to be pending now. If not, the table is read again. */
  isCertain: boolean
}

export interface HeldPolls {
  /**
   * Holds a poll of a pending request until it is released. A newer poll of the same request releases the older one.
   */
  hold(held: HeldPoll, caller: Pick<IncomingConnection, 'isClosed' | 'onClose'>): Promise<Release>
  /** Returns the number of held polls. */
  count(): number
  /** Releases all polls. After that, no poll is held. */
  close(): void
}

export interface HeldPollsNeeds {
  database: Pick<Database, 'listen' | 'epoch'>
  stillPending: RequestStore['stillPending']
  /** Maximum number of held polls. Further polls are answered at once. */
  most: number
  clock: Clock
  log: Log
}

/**
 * The longest time that a poll is held, in seconds. Clients such as openid-client give up after 30 seconds, including
 * the time for the connection and the client authentication. A client that has given up does not get the tokens.
 */
export const longestHold = 25

/** Milliseconds between two runs of the timer. A poll may be released up to this many milliseconds before `until`. */
export const tick = 250
/** Milliseconds between two reads of the table while announcements of changes may be missed. */
const recheckMs = 2_000
/** Maximum number of requests that one statement checks. */
const atOnce = 500

interface Held {
  until: number
  release(why: Release): void
}

/** Returns the object that holds polls in this process. */
export function createHeldPolls(needs: HeldPollsNeeds): HeldPolls {
  const { database, clock, log, most } = needs
  const failures = createRepeatedFailures(
    log,
    { event: 'polls.look_failed' },
    'held polls could not be checked',
    'warn',
  )
  const held = new Map<string, Held>()
  let epoch: number | undefined
  let checkedAt = 0
  let isChecking = false
  let isClosed = false
  let cancelTick: (() => void) | undefined

  database.listen('request', (id) => {
    if (id === '') void checkAll()
    else release(id, 'changed')
  })

  function release(id: string, why: Release): void {
    const one = held.get(id)
    held.delete(id)
    one?.release(why)
  }

  function onTick(): void {
    cancelTick = undefined
    const now = steadyTime(clock)
    for (const [id, { until }] of held) if (until <= now + tick) release(id, 'over')
    if (database.epoch !== epoch || (epoch === undefined && now >= checkedAt + recheckMs)) void checkAll()
    setTick()
  }

  function setTick(): void {
    if (held.size > 0) cancelTick ??= clock.after(tick, onTick)
  }

  /**
   * Reads from the table whether the requests of the held polls are still pending. Called when announcements may have
   * been missed. On SQLite, changes by other processes are not announced. Instead, each of these changes begins a new
   * epoch (`Database.epoch`), and a new epoch causes this check.
   */
  async function checkAll(): Promise<void> {
    if (isChecking) {
      epoch = undefined
      return
    }
    isChecking = true
    epoch = database.epoch
    checkedAt = steadyTime(clock)
    const ids = [...held.keys()]
    for (let from = 0; from < ids.length; from += atOnce) await check(ids.slice(from, from + atOnce))
    isChecking = false
  }

  async function check(ids: string[]): Promise<void> {
    const pending = await failures.attempt(() => needs.stillPending(ids))
    if (pending === undefined) epoch = undefined
    else for (const id of ids) if (!pending.has(id)) release(id, 'changed')
  }

  return {
    hold({ requestId, until, isCertain }, caller) {
      return new Promise((resolve) => {
        if (caller.isClosed()) return resolve('left')
        release(requestId, 'over')
        if (isClosed || held.size >= most || until <= steadyTime(clock) + tick) return resolve('over')
        if (held.size === 0) epoch = database.epoch
        const one: Held = { until, release: resolve }
        held.set(requestId, one)
        caller.onClose(() => {
          if (held.get(requestId) === one) release(requestId, 'left')
        })
        setTick()
        if (!isCertain) void check([requestId])
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
