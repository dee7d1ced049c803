/** The requests that a node knows to be pending, in memory, by both names they are known by. */

import type { PolledRequest } from '../authentication-request/request-lookup-store.ts'

/** While both are what they were, somebody would have told us of a change. */
export interface Moment {
  epoch: number | undefined
  changeEpoch: number
}

/** A pending request, and the clock of its polls. */
export interface RememberedRequest extends Moment {
  /** The hash of its `auth_req_id`. */
  key: string
  id: string
  clientId: string
  expiresAt: number
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

export type RememberedRequests = ReturnType<typeof createRememberedRequests>

/** @param most requests at most. One costs about 700 bytes */
export function createRememberedRequests(most: number) {
  const byKey = new Map<string, RememberedRequest>()
  const byId = new Map<string, RememberedRequest>()

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

  return {
    withKey: (key: string) => byKey.get(key),
    withId: (id: string) => byId.get(id),
    all: () => byKey.values(),
    /** Of one that is known, only what is newer is taken over. */
    remember(key: string, { request, lastPolledAt }: PolledRequest, { epoch, changeEpoch }: Moment): RememberedRequest {
      const { id, clientId, expiresAt, interval } = request
      const known = byKey.get(key)
      if (known) {
        Object.assign(known, { epoch, changeEpoch })
        hearOf(known, { interval, lastPolledAt })
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

/** What others have written of its polls. Neither an interval nor the time of a last poll ever goes back. */
export function hearOf(known: RememberedRequest, news: Pick<RememberedRequest, 'interval' | 'lastPolledAt'>): void {
  known.interval = Math.max(known.interval, news.interval)
  known.lastPolledAt = Math.max(known.lastPolledAt, news.lastPolledAt)
}
