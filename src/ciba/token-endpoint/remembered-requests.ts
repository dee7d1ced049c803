/** The cached pending requests of a node, by the hash of their `auth_req_id` and by their internal id. */

import type { PollInterval } from '../authentication-request/poll-interval.ts'
import type { PolledRequest } from '../authentication-request/request-lookup-store.ts'

/**
 * Three counters, as they were when a request was read from the table. If the first two are unchanged, and the client of the
 * request has not changed since the third, this node has received an announcement for every change of the request since it
 * was read.
 */
export interface Moment {
  /** `Database.epoch`, or undefined if the next poll must read the request again. */
  epoch: number | undefined
  /** Incremented when all cached requests may have changed. */
  changeEpoch: number
  /** The number of changes of clients that had been announced. */
  clientsHeard: number
}

/** A pending request, and its polls. */
export interface RememberedRequest extends Moment, PollInterval {
  /** The hash of its `auth_req_id`. */
  key: string
  id: string
  clientId: string
  expiresAt: number
  /** How often the interval or the number of kept polls has changed in memory. */
  changes: number
  /** The value of `changes` when they were last written to the table. */
  writtenChanges: number
  /** When it was last polled, by the steady time of this process; undefined if it was not polled. */
  lastPolledAt: number | undefined
  /** The last poll that is in the table, by the steady time of this process. */
  writtenAt: number | undefined
  /** Whether the request was polled since `makeRoom` last checked it. */
  isUsed: boolean
}

export type RememberedRequests = ReturnType<typeof createRememberedRequests>

/** The limits of the cache. */
export interface RememberingNeeds {
  /** Maximum number of requests; each takes about 700 bytes. */
  most: number
  /** The longest interval in seconds. An earlier version may have stored a longer one. */
  longestInterval: number
  /** Converts a time by the clock of the database to the steady time of this process. */
  toSteady(databaseTime: number): number
}

export function createRememberedRequests({ most, longestInterval, toSteady }: RememberingNeeds) {
  const byKey = new Map<string, RememberedRequest>()
  const byId = new Map<string, RememberedRequest>()

  /**
   * Removes requests until `most` remain: approximately those that were polled least recently. Changes of their intervals
   * are still written to the table.
   */
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

  function pollsOf({ request, lastPolledAt, firstInterval, keptPolls }: PolledRequest) {
    const polledAt = lastPolledAt > 0 ? toSteady(lastPolledAt) : undefined
    return {
      interval: Math.min(request.interval, longestInterval),
      firstInterval: Math.min(firstInterval, longestInterval),
      keptPolls,
      lastPolledAt: polledAt,
      writtenAt: polledAt,
    }
  }

  return {
    withKey: (key: string) => byKey.get(key),
    withId: (id: string) => byId.get(id),
    all: () => byKey.values(),
    /** Adds a request, or updates a known request with newer values. */
    remember(key: string, found: PolledRequest, { epoch, changeEpoch, clientsHeard }: Moment): RememberedRequest {
      const moment = { epoch, changeEpoch, clientsHeard }
      const polls = pollsOf(found)
      const known = byKey.get(key)
      if (known) {
        Object.assign(known, moment)
        applyUpdate(known, polls)
        known.writtenAt = later(known.writtenAt, polls.writtenAt)
        return known
      }
      const { id, clientId, expiresAt } = found.request
      const counters = { changes: 0, writtenChanges: 0 }
      const added = { key, id, clientId, expiresAt, ...moment, ...polls, ...counters, isUsed: false }
      byKey.set(key, added)
      byId.set(id, added)
      makeRoom()
      return added
    },
    drop({ key, id }: RememberedRequest): void {
      byKey.delete(key)
      byId.delete(id)
    },
  }
}

/** Whether the interval or the number of kept polls has changed in memory and was not written to the table yet. */
export function isChanged({ changes, writtenChanges }: RememberedRequest): boolean {
  return changes > writtenChanges
}

/** Applies values of the table. Changes in memory that are not in the table yet are kept. */
export function applyUpdate(
  known: RememberedRequest,
  news: Pick<RememberedRequest, 'interval' | 'keptPolls' | 'lastPolledAt'>,
): void {
  if (!isChanged(known)) {
    known.interval = news.interval
    known.keptPolls = news.keptPolls
  }
  known.lastPolledAt = later(known.lastPolledAt, news.lastPolledAt)
}

function later(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || (other !== undefined && other > one) ? other : one
}
