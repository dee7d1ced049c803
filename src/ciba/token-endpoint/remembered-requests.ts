/** The cached pending requests of a node, by the hash of their `auth_req_id` and by their internal id. */

import type { PolledRequest } from '../authentication-request/request-lookup-store.ts'

/**
 * Two counters, as they were when a request was read from the table. If both counters are unchanged, this node has
 * received an announcement for every change of the request since it was read.
 */
export interface Moment {
  /** `Database.epoch`, or undefined if the next poll must read the request again. */
  epoch: number | undefined
  /** Incremented when all cached requests may have changed, for example after a change of a client. */
  changeEpoch: number
}

/** A pending request, and its polls. */
export interface RememberedRequest extends Moment {
  /** The hash of its `auth_req_id`. */
  key: string
  id: string
  clientId: string
  expiresAt: number
  /** Seconds, as in the table. */
  interval: number
  /** Seconds by which the interval has grown and that are not in the table yet. */
  growth: number
  /** Seconds of growth that are being written to the table now. */
  onItsWay: number
  lastPolledAt: number
  /** The time of the last poll as stored in the table. */
  writtenAt: number
  /** Whether the request was polled since `makeRoom` last checked it. */
  isUsed: boolean
}

export type RememberedRequests = ReturnType<typeof createRememberedRequests>

/** @param most maximum number of requests; each takes about 700 bytes */
export function createRememberedRequests(most: number) {
  const byKey = new Map<string, RememberedRequest>()
  const byId = new Map<string, RememberedRequest>()

  /**
   * Removes requests until `most` remain: approximately those that were polled least recently. The growth of their
   * intervals is still written to the table.
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

  return {
    withKey: (key: string) => byKey.get(key),
    withId: (id: string) => byId.get(id),
    all: () => byKey.values(),
    /** Adds a request, or updates a known request with newer values. */
    remember(key: string, { request, lastPolledAt }: PolledRequest, { epoch, changeEpoch }: Moment): RememberedRequest {
      const { id, clientId, expiresAt, interval } = request
      const known = byKey.get(key)
      if (known) {
        Object.assign(known, { epoch, changeEpoch })
        applyUpdate(known, { interval, lastPolledAt })
        known.writtenAt = Math.max(known.writtenAt, lastPolledAt)
        return known
      }
      const polls = { interval, growth: 0, onItsWay: 0, lastPolledAt, writtenAt: lastPolledAt }
      const added = { key, id, clientId, expiresAt, epoch, changeEpoch, ...polls, isUsed: false }
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

/** Applies values that other nodes have written. The interval and the time of the last poll never decrease. */
export function applyUpdate(
  known: RememberedRequest,
  news: Pick<RememberedRequest, 'interval' | 'lastPolledAt'>,
): void {
  known.interval = Math.max(known.interval, news.interval)
  known.lastPolledAt = Math.max(known.lastPolledAt, news.lastPolledAt)
}
