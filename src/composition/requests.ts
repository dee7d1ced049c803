/** Builds the stores of authentication requests and their decisions, and the polls that wait for changes. */
import { createRequestStore } from '../ciba/authentication-request/authentication-request-store.ts'
import { createOpenRequestStore } from '../ciba/authentication-request/open-request-store.ts'
import { createUserKey } from '../ciba/authentication-request/user-announcement.ts'
import { createSignedRequestStore } from '../ciba/backchannel-authentication/signed-request-store.ts'
import { createDecisionStore } from '../ciba/decision/consent-history-store.ts'
import { createBlockedClientStore } from '../ciba/request-limits/blocked-client-store.ts'
import { createDenialPauseStore } from '../ciba/request-limits/denial-pause-store.ts'
import { createHeldPolls } from '../ciba/token-endpoint/long-poll.ts'
import { createPendingRequests } from '../ciba/token-endpoint/poll-cache.ts'
import { createUnknownUserStore } from '../ciba/unknown-user/unknown-user-counter-store.ts'
import type { Outbox } from './outbox.ts'
import type { Platform } from './platform.ts'

export type Requests = ReturnType<typeof composeRequests>

export function composeRequests(platform: Platform, { enqueue }: Outbox) {
  const { config, database, vault, onUnreadable, clock, databaseClock, log } = platform
  const userKey = createUserKey(vault)
  const { longestInterval } = config.requests
  const requests = createRequestStore(database, {
    userKey,
    enqueue,
    longestInterval,
    onUnreadable,
    toDatabaseTime: databaseClock.fromWallClock,
  })
  const { first, longest } = config.limits.pauseAfterDenial
  const pauses = { first: first * 1000, longest: longest * 1000 }
  const { stillPending } = requests
  return {
    requests,
    /** Returns, for a user id, the key with which `database.listen` reports changes of the user's requests. */
    userKey,
    openRequests: createOpenRequestStore(database, onUnreadable),
    signedRequests: createSignedRequestStore(database, vault),
    decisions: createDecisionStore(database, onUnreadable),
    blockedClients: createBlockedClientStore(database),
    denialPauses: createDenialPauseStore(database, pauses, databaseClock.fromWallClock),
    unknownUsers: createUnknownUserStore(database),
    pending: createPendingRequests({ requests, database, longestInterval, clock, log }),
    heldPolls: createHeldPolls({ database, stillPending, most: config.requests.maxHeldPolls, clock, log }),
  }
}
