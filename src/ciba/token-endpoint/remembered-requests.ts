/**
 * The cached pending requests of a node, by their `auth_req_id` and by their internal id. In memory, unlike in the
 * table, the `auth_req_id` is not hashed: computing the hash would take a thirtieth of the time of a poll.
 */

import { fingerprint } from '../../platform/crypto.ts'
import { copyOf } from '../../platform/http/outside-text.ts'
import type { PollInterval } from '../authentication-request/poll-interval.ts'
import type { PolledRequest } from '../authentication-request/request-lookup-store.ts'

/**
 * The state of three counters when a request was read from the table. The cached request is current if `epoch` and
 * `changeEpoch` are unchanged, and no change of its client was announced since then. When a change of the request
 * itself is announced, `epoch` is set to undefined.
 */
export interface Moment {
  /** `Database.epoch`, or undefined if the next poll must read the request again. */
  epoch: number | undefined
  /** This counter is incremented when all cached requests may have changed. */
  changeEpoch: number
  /** The number of changes of clients that were announced to this process before the request was read. */
  clientsHeard: number
}

/** A cached pending request, and what is known about its polls. */
export interface RememberedRequest extends Moment, PollInterval {
  authReqId: string
  authReqIdHash: string
  id: string
  clientId: string
  expiresAt: number
  /** How often `interval` or `keptPolls` has changed in memory since the request was cached. */
  changes: number
  /** The value of `changes` when `interval` and `keptPolls` were last written to the table. */
  writtenChanges: number
  /**
   * When the request was last polled, by the monotonic clock of this process (`steadyTime`); undefined if it was not
   * polled.
   */
  lastPolledAt: number | undefined
  /**
   * The time of the last poll in the table, converted to the monotonic clock of this process (`steadyTime`); undefined
   * if there is none.
   */
  writtenAt: number | undefined
  /** Whether the request was polled since `makeRoom` last checked it. */
  isUsed: boolean
}

export type RememberedRequests = ReturnType<typeof createRememberedRequests>

/** The limits of the cache, and the conversion of times. */
export interface RememberingNeeds {
  /** Maximum number of requests; each takes about 700 bytes. */
  most: number
  /**
   * The longest permitted interval, in seconds. The table may contain a longer interval, stored by an earlier version.
   */
  longestInterval: number
  /** Converts a time by the clock of the database to the monotonic clock of this process (`steadyTime`). */
  toSteady(databaseTime: number): number
}

export function createRememberedRequests({ most, longestInterval, toSteady }: RememberingNeeds) {
  const byAuthReqId = new Map<string, RememberedRequest>()
  const byId = new Map<string, RememberedRequest>()

  /**
   * Removes requests until `most` remain. The removed requests are approximately those that were not polled for the
   * longest time. The changes of their intervals are still written to the table.
   */
  function makeRoom(): void {
    while (byAuthReqId.size > most) {
      const [authReqId, oldest] = byAuthReqId.entries().next().value!
      byAuthReqId.delete(authReqId)
      if (oldest.isUsed) {
        oldest.isUsed = false
        byAuthReqId.set(authReqId, oldest)
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
    withAuthReqId: (authReqId: string) => byAuthReqId.get(authReqId),
    withId: (id: string) => byId.get(id),
    all: () => byAuthReqId.values(),
    /** Adds a request. If it is already cached, updates it with newer values. */
    remember(authReqId: string, found: PolledRequest, { epoch, changeEpoch, clientsHeard }: Moment): RememberedRequest {
      const moment = { epoch, changeEpoch, clientsHeard }
      const polls = pollsOf(found)
      const known = byAuthReqId.get(authReqId)
      if (known) {
        Object.assign(known, moment)
        applyUpdate(known, polls)
        known.writtenAt = later(known.writtenAt, polls.writtenAt)
        return known
      }
      const { id, clientId, expiresAt } = found.request
      const counters = { changes: 0, writtenChanges: 0 }
      const ids = { authReqId: copyOf(authReqId), authReqIdHash: fingerprint(authReqId), id, clientId }
      const added = { ...ids, expiresAt, ...moment, ...polls, ...counters, isUsed: false }
      byAuthReqId.set(added.authReqId, added)
      byId.set(id, added)
      makeRoom()
      return added
    },
    drop({ authReqId, id }: RememberedRequest): void {
      byAuthReqId.delete(authReqId)
      byId.delete(id)
    },
  }
}

/** Whether `interval` or `keptPolls` has changed in memory, and the change is not in the table yet. */
export function isChanged({ changes, writtenChanges }: RememberedRequest): boolean {
  return changes > writtenChanges
}

/** Updates a cached request with values from the table. Changes in memory that are not in the table yet are kept. */
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
