/**
 * A cache of pending requests and the times of their polls. Most polls are polls of pending requests. A node answers
 * these polls from memory, as long as it receives the announcements of changes of requests. If the status is not known
 * to be `pending`, the request is read from the table.
 */
import { fingerprint } from '../../platform/crypto.ts'
import { createChangeTracker, type Snapshot } from '../../platform/storage/change-tracker.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import { usualLongestInterval } from '../authentication-request/poll-interval.ts'
import type { Poll } from '../authentication-request/request-poll-store.ts'
import { createPollWriteBehind, type WriteBehindNeeds } from './poll-write-behind.ts'
import { applyUpdate, createRememberedRequests, type Moment, type RememberedRequest } from './remembered-requests.ts'

/** The time at which a poll arrived. The interval is measured between the arrivals of two polls (CIBA §10.1). */
export interface Arrival {
  /** By the wall clock, in milliseconds since 1970. It is compared with deadlines. */
  at: number
  /** By the monotonic clock of this process (`steadyTime`). It is compared with the arrivals of other polls. */
  steadyAt: number
}

export interface PendingRequests {
  /**
   * Counts a poll of a request that is known to be pending, and returns the answer. Returns undefined if the request is
   * not known to be pending. In this case, call `poll`.
   */
  recall(authReqId: string, clientId: string, arrival: Arrival): RecalledPoll | undefined
  /** Whether the request is known to be pending now. */
  isKnown(id: string): boolean
  /**
   * Reads the request from the table and counts the poll. The poll is counted in memory if the request can be cached as
   * pending, and in the table if not. Resolves to undefined if the request is unknown or belongs to another client.
   */
  poll(authReqId: string, clientId: string, arrival: Arrival): Promise<Pick<Poll, 'request' | 'tooEarly'> | undefined>
  /** Writes the changed intervals to the table. */
  flush(): Promise<void>
  /** Writes the changed intervals and the time of the last poll of each request to the table. */
  close(): Promise<void>
}

export interface RecalledPoll {
  answer: 'authorization_pending' | 'slow_down'
  id: string
  expiresAt: number
}

export interface PendingNeeds extends Pick<WriteBehindNeeds, 'clock' | 'log'> {
  requests: Pick<RequestStore, 'poll' | 'findPolled' | 'keepPolls'>
  database: Pick<Database, 'listen' | 'epoch' | 'clockOffset'>
  /** The interval does not grow beyond this number of seconds. */
  longestInterval?: number
  /** Maximum number of cached requests. */
  most?: number
}

/**
 * Default of `most`. If each request is polled every five seconds, one node cannot answer the polls of more requests.
 */
const usualMost = 100_000

/** Returns the cache of this process. Call `close` before the process ends. */
export function createPendingRequests(needs: PendingNeeds): PendingRequests {
  const { requests, database, clock, log, longestInterval = usualLongestInterval } = needs
  // The table contains times of the database's clock, because several nodes compare them. The memory contains times of
  // the monotonic clock of this process (`steadyTime`), because this clock is never set back.
  const toDatabaseTime = (steadyAt: number) => steadyAt + database.clockOffset
  const toSteady = (databaseTime: number) => databaseTime - database.clockOffset
  const remembered = createRememberedRequests({ most: needs.most ?? usualMost, longestInterval, toSteady })
  const writing = createPollWriteBehind({ requests, longestInterval, toDatabaseTime, clock, log })
  const tracker = listenForChanges(database, (id) => invalidate(remembered.withId(id)))

  /**
   * Called when a change of the request is announced. The next poll then reads the request again. The request may still
   * be pending, because the change may have been made before the request was cached. If the time of the last poll is
   * not in the table yet, the entry is kept until the deadline.
   */
  function invalidate(known: RememberedRequest | undefined): void {
    if (known && known.lastPolledAt !== known.writtenAt && clock.now() < known.expiresAt) known.epoch = undefined
    else drop(known)
  }

  function drop(known: RememberedRequest | undefined): void {
    if (known === undefined) return
    remembered.drop(known)
    writing.forget(known)
  }

  /** Counts the poll in the table, for all nodes. Called if the request cannot be cached as pending. */
  async function pollInTable(authReqId: string, clientId: string, { at, steadyAt }: Arrival) {
    const ours = remembered.withAuthReqId(authReqId)
    const known = ours?.clientId === clientId ? ours : undefined
    const unwritten = known && writing.unwrittenOf(known)
    // Marks the changes as written, so that another poll at the same time does not write them again.
    if (known) known.writtenChanges = known.changes
    const polledAt = toDatabaseTime(steadyAt)
    const poll = await requests.poll(authReqId, clientId, polledAt, unwritten).catch((error: unknown) => {
      if (known && unwritten?.changed) known.changes += 1
      throw error
    })
    if (poll === undefined || !isPending(poll.request, at)) drop(known)
    else if (known) {
      applyUpdate(known, { interval: poll.request.interval, keptPolls: poll.keptPolls, lastPolledAt: steadyAt })
      known.writtenAt = known.lastPolledAt
    }
    return poll
  }

  return {
    recall(authReqId, clientId, { at, steadyAt }) {
      const known = remembered.withAuthReqId(authReqId)
      if (known?.clientId !== clientId || at >= known.expiresAt || !tracker.isCurrent(known)) return undefined
      known.isUsed = true
      const answer = writing.account(known, steadyAt) ? 'slow_down' : 'authorization_pending'
      return { answer, id: known.id, expiresAt: known.expiresAt }
    },

    isKnown(id) {
      const known = remembered.withId(id)
      return known !== undefined && tracker.isCurrent(known)
    },

    async poll(authReqId, clientId, arrival) {
      const snapshot = tracker.snapshot()
      if (snapshot.epoch === undefined) return pollInTable(authReqId, clientId, arrival)
      const found = await requests.findPolled(fingerprint(authReqId), clientId)
      if (found === undefined) return undefined
      const { request } = found
      if (!isPending(request, arrival.at)) {
        drop(remembered.withAuthReqId(authReqId))
        return { request, tooEarly: false }
      }
      // A ping client polls right after its ping, perhaps before the change of the request is announced to this node.
      // So its polls are not answered from memory. A request that was made for push is treated in the same way, because
      // its client may use ping now.
      const isPinged = request.deliveryMode !== 'poll'
      if (isPinged || !tracker.isUnchangedSince(snapshot, request)) {
        return pollInTable(authReqId, clientId, arrival)
      }
      return { request, tooEarly: writing.account(remembered.remember(authReqId, found, snapshot), arrival.steadyAt) }
    },

    flush: writing.flush,
    close: () => writing.close(remembered.all),
  }
}

function isPending({ status, expiresAt }: AuthenticationRequest, now: number): boolean {
  return status === 'pending' && now < expiresAt
}

/**
 * Follows the announced changes of requests and of clients. A change of a client matters, because the removal of a
 * client ends its open requests without an announcement for each request.
 */
function listenForChanges(database: PendingNeeds['database'], invalidate: (id: string) => void) {
  /** Incremented when all cached requests may have changed. */
  let changeEpoch = 0
  const requests = createChangeTracker(database, 'request', (id) => {
    if (id === '') changeEpoch += 1
    else invalidate(id)
  })
  const clients = createChangeTracker(database, 'client', () => {})

  /** Returns false if the client has changed, or announcements may have been missed, since the given moment. */
  const isCurrent = ({ epoch, changeEpoch: then, clientsHeard }: Moment, clientId: string) =>
    then === changeEpoch && clients.isUnchangedSince({ epoch, heard: clientsHeard }, clientId)

  return {
    snapshot: (): Moment & Snapshot => ({
      ...requests.snapshot(),
      changeEpoch,
      clientsHeard: clients.snapshot().heard,
    }),
    isUnchangedSince: (snapshot: Moment & Snapshot, { id, clientId }: AuthenticationRequest) =>
      isCurrent(snapshot, clientId) && requests.isUnchangedSince(snapshot, id),
    isCurrent: (known: RememberedRequest) => isCurrent(known, known.clientId),
  }
}
