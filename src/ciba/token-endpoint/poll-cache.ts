/**
 * The requests that this node knows to be pending, and the clock of their polls: most polls hear that nothing has
 * happened, and that a node can say from memory, as long as somebody would tell it if something had. Anything but
 * pending is the table's to say.
 */
import { fingerprint } from '../../platform/crypto.ts'
import { createChangeTracker, type Snapshot } from '../../platform/storage/change-tracker.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { Poll } from '../authentication-request/request-poll-store.ts'
import { createPollWriteBehind, type WriteBehindNeeds } from './poll-write-behind.ts'
import { createRememberedRequests, hearOf, type Moment, type RememberedRequest } from './remembered-requests.ts'

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

export interface PendingNeeds extends WriteBehindNeeds {
  requests: Pick<RequestStore, 'poll' | 'findPolled' | 'keepPolls'>
  database: Pick<Database, 'listen' | 'epoch'>
  /** Requests in memory at most. */
  most?: number
}

/** More polls than these would be, in five seconds, no node answers. */
const usualMost = 100_000

const nothingUnwritten = { growth: 0, lastPolledAt: 0 }

export function createPendingRequests(needs: PendingNeeds): PendingRequests {
  const { requests, database, clock } = needs
  const remembered = createRememberedRequests(needs.most ?? usualMost)
  const writing = createPollWriteBehind(needs)
  const news = listenForChanges(database, (id) => doubt(remembered.withId(id)))

  /**
   * It has changed, and is looked up again. When it was polled last is only known here until it is written, and news may
   * come late, of a request that is as it was. Once its time is over, that matters no more.
   */
  function doubt(known: RememberedRequest | undefined): void {
    if (known && known.lastPolledAt > known.writtenAt && clock.now() < known.expiresAt) known.epoch = undefined
    else drop(known)
  }

  function drop(known: RememberedRequest | undefined): void {
    if (known === undefined) return
    remembered.drop(known)
    writing.forget(known)
  }

  /** While nobody would tell us of a change, each poll is accounted for in the table, which all nodes share. */
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
      hearOf(known, { interval: poll.request.interval, lastPolledAt: arrivedAt })
      known.writtenAt = known.lastPolledAt
    }
    return poll
  }

  return {
    recall(authReqId, clientId, arrivedAt) {
      const known = remembered.withKey(fingerprint(authReqId))
      if (known?.clientId !== clientId || arrivedAt >= known.expiresAt || !news.wouldHaveTold(known)) return undefined
      known.isUsed = true
      const answer = writing.account(known, arrivedAt) ? 'slow_down' : 'authorization_pending'
      return { answer, id: known.id, expiresAt: known.expiresAt }
    },

    isKnown(id) {
      const known = remembered.withId(id)
      return known !== undefined && news.wouldHaveTold(known)
    },

    async poll(authReqId, clientId, arrivedAt) {
      const key = fingerprint(authReqId)
      const snapshot = news.snapshot()
      if (snapshot.epoch === undefined) return pollInTable(key, authReqId, clientId, arrivedAt)
      const found = await requests.findPolled(key, clientId)
      if (found === undefined) return undefined
      const { request } = found
      if (!isPending(request, arrivedAt)) {
        drop(remembered.withKey(key))
        return { request, tooEarly: false }
      }
      // Who was pinged comes at once, and perhaps here before the news that there is something to fetch.
      const isPinged = request.deliveryMode === 'ping'
      if (isPinged || !news.isUnchangedSince(snapshot, request.id)) {
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

/** When requests change, one by one or all that a client has: with the client its requests end, and nobody says which. */
function listenForChanges(database: PendingNeeds['database'], doubt: (id: string) => void) {
  /** Grows when any of them may have changed. */
  let changeEpoch = 0
  const changes = createChangeTracker(database, 'request', (id) => {
    if (id === '') changeEpoch += 1
    else doubt(id)
  })
  database.listen('client', () => {
    changeEpoch += 1
  })

  return {
    snapshot: (): Moment & Snapshot => ({ ...changes.snapshot(), changeEpoch }),
    isUnchangedSince: (snapshot: Moment & Snapshot, id: string) =>
      snapshot.changeEpoch === changeEpoch && changes.isUnchangedSince(snapshot, id),
    /** Whether we would have been told, had it changed since. */
    wouldHaveTold: (since: Moment) =>
      since.changeEpoch === changeEpoch && since.epoch !== undefined && since.epoch === database.epoch,
  }
}
