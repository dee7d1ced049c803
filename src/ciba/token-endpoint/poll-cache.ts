/**
 * A cache of pending requests and the times of their polls. Most polls are answered with `authorization_pending`. This
 * node gives this answer from memory while it receives change notifications for the requests. Any other status is read
 * from the table.
 */
import { fingerprint } from '../../platform/crypto.ts'
import { createChangeTracker, type Snapshot } from '../../platform/storage/change-tracker.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { Poll } from '../authentication-request/request-poll-store.ts'
import { createPollWriteBehind, type WriteBehindNeeds } from './poll-write-behind.ts'
import { applyUpdate, createRememberedRequests, type Moment, type RememberedRequest } from './remembered-requests.ts'

export interface PendingRequests {
  /**
   * Counts a poll of a request that is known to be pending, and returns the answer. Returns undefined if the request is
   * not known to be pending: then call `poll`.
   */
  recall(authReqId: string, clientId: string, arrivedAt: number): RecalledPoll | undefined
  /** Whether the request is known to be pending now. */
  isKnown(id: string): boolean
  /**
   * Reads the request from the table and counts the poll: in memory if the request can be cached as pending, otherwise in
   * the table. Resolves to undefined if the request is unknown or belongs to another client.
   */
  poll(authReqId: string, clientId: string, arrivedAt: number): Promise<Poll | undefined>
  /** Writes the growth of the intervals to the table. */
  flush(): Promise<void>
  /** Writes everything to the table, including the time of each last poll. */
  close(): Promise<void>
}

export interface RecalledPoll {
  answer: 'authorization_pending' | 'slow_down'
  id: string
  expiresAt: number
}

export interface PendingNeeds extends WriteBehindNeeds {
  requests: Pick<RequestStore, 'poll' | 'findPolled' | 'keepPolls'>
  database: Pick<Database, 'listen' | 'epoch'>
  /** Maximum number of requests in memory. */
  most?: number
}

/** Default of `most`. If each request is polled every five seconds, one node cannot answer the polls of more requests. */
const usualMost = 100_000

const nothingUnwritten = { growth: 0, lastPolledAt: 0 }

/** Returns the cache of this process. Call `close` before the process ends. */
export function createPendingRequests(needs: PendingNeeds): PendingRequests {
  const { requests, database, clock } = needs
  const remembered = createRememberedRequests(needs.most ?? usualMost)
  const writing = createPollWriteBehind(needs)
  const tracker = listenForChanges(database, (id) => invalidate(remembered.withId(id)))

  /**
   * Called when a change of the request is announced. The next poll then reads the request again. If the time of the last
   * poll is not in the table yet, the entry is kept until the deadline. The reason is that an announcement may arrive
   * late: it may be about a change before the request was read, and the request may still be pending.
   */
  function invalidate(known: RememberedRequest | undefined): void {
    if (known && known.lastPolledAt > known.writtenAt && clock.now() < known.expiresAt) known.epoch = undefined
    else drop(known)
  }

  function drop(known: RememberedRequest | undefined): void {
    if (known === undefined) return
    remembered.drop(known)
    writing.forget(known)
  }

  /** Counts the poll in the table, which all nodes share. Called if the request cannot be cached as pending. */
  async function pollInTable(key: string, authReqId: string, clientId: string, arrivedAt: number) {
    const ours = remembered.withKey(key)
    const known = ours?.clientId === clientId ? ours : undefined
    const unwritten = known ? { growth: known.growth, lastPolledAt: known.lastPolledAt } : nothingUnwritten
    if (known) known.growth = 0
    const poll = await requests.poll(authReqId, clientId, arrivedAt, unwritten).catch((error: unknown) => {
      if (known) known.growth += unwritten.growth
      throw error
    })
    if (poll === undefined || !isPending(poll.request, arrivedAt)) drop(known)
    else if (known) {
      applyUpdate(known, { interval: poll.request.interval, lastPolledAt: arrivedAt })
      known.writtenAt = known.lastPolledAt
    }
    return poll
  }

  return {
    recall(authReqId, clientId, arrivedAt) {
      const known = remembered.withKey(fingerprint(authReqId))
      if (known?.clientId !== clientId || arrivedAt >= known.expiresAt || !tracker.isCurrent(known)) return undefined
      known.isUsed = true
      const answer = writing.account(known, arrivedAt) ? 'slow_down' : 'authorization_pending'
      return { answer, id: known.id, expiresAt: known.expiresAt }
    },

    isKnown(id) {
      const known = remembered.withId(id)
      return known !== undefined && tracker.isCurrent(known)
    },

    async poll(authReqId, clientId, arrivedAt) {
      const key = fingerprint(authReqId)
      const snapshot = tracker.snapshot()
      if (snapshot.epoch === undefined) return pollInTable(key, authReqId, clientId, arrivedAt)
      const found = await requests.findPolled(key, clientId)
      if (found === undefined) return undefined
      const { request } = found
      if (!isPending(request, arrivedAt)) {
        drop(remembered.withKey(key))
        return { request, tooEarly: false }
      }
      // A ping client polls right after its ping, perhaps before the announcement of the change has reached this node. A
      // request that was made for push may have a ping client now.
      const isPinged = request.deliveryMode !== 'poll'
      if (isPinged || !tracker.isUnchangedSince(snapshot, request.id)) {
        return pollInTable(key, authReqId, clientId, arrivedAt)
      }
      return { request, tooEarly: writing.account(remembered.remember(key, found, snapshot), arrivedAt) }
    },

    flush: writing.flush,
    close: () => writing.close(remembered.all),
  }
}

function isPending({ status, expiresAt }: AuthenticationRequest, now: number): boolean {
  return status === 'pending' && now < expiresAt
}

/**
 * Tracks the announced changes of requests and of clients. Changes of clients matter because the removal of a client
 * denies its requests without an announcement for each request.
 */
function listenForChanges(database: PendingNeeds['database'], invalidate: (id: string) => void) {
  /** Incremented when all cached requests may have changed. */
  let changeEpoch = 0
  const changes = createChangeTracker(database, 'request', (id) => {
    if (id === '') changeEpoch += 1
    else invalidate(id)
  })
  database.listen('client', () => {
    changeEpoch += 1
  })

  return {
    snapshot: (): Moment & Snapshot => ({ ...changes.snapshot(), changeEpoch }),
    isUnchangedSince: (snapshot: Moment & Snapshot, id: string) =>
      snapshot.changeEpoch === changeEpoch && changes.isUnchangedSince(snapshot, id),
    /** Returns false if, since that moment, a client has changed or announcements may have been missed. */
    isCurrent: (since: Moment) =>
      since.changeEpoch === changeEpoch && since.epoch !== undefined && since.epoch === database.epoch,
  }
}
