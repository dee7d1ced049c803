/** Ends a user in one step: sessions, grants, tokens, open requests and, on removal, everything that belongs to the user. */

import type { AuthenticationRequest } from '../ciba/authentication-request/authentication-request.ts'
import {
  createOpenRequestStore,
  type Followed,
  type MustBe,
} from '../ciba/authentication-request/open-request-store.ts'
import { createUserKey, USER_REQUESTS } from '../ciba/authentication-request/user-announcement.ts'
import { createDecisionStore, type EndingReason } from '../ciba/decision/consent-history-store.ts'
import { type EndedBy, endRequests, recordEnded } from '../ciba/decision/end-requests.ts'
import type { OutboxMessage } from '../outbox/notification.ts'
import { createOutboxStore, OUTBOX } from '../outbox/outbox-store.ts'
import type { Audit, AuditEventName } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import type { Vault } from '../platform/crypto.ts'
import type { Database, Statement } from '../platform/storage/database.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { statementsFor, type UserEnding } from './ending-store.ts'

export type { UserEnding }

export interface EndUserNeeds {
  database: Database
  vault: Vault
  clock: Clock
  audit: Audit
}

/** Options of one ending. */
export interface EndingOptions {
  /** Which kind of user it has to be; any by default. */
  mustBe?: MustBe
  /** What caused the ending, for the audit. */
  by: 'command' | 'configuration' | 'application'
  /** Whether requests to the user are refused until the user is enabled again. Default: for all endings but a sign-out. */
  closes?: boolean
  /** Further statements of the same step; `alsoEvent` is their audit event. */
  also?: Statement[]
  /** Notices to the user, added in the same step. */
  notices?: readonly OutboxMessage[]
  alsoEvent?: AuditEventName
}

/** Resolves to whether the ending happened: it does not if the user is not of the kind `mustBe`. */
export type EndUser = (userId: string, ending: UserEnding, options: EndingOptions) => Promise<boolean>

/** @example await endUser('u1', 'locked', { mustBe: 'added', by: 'command' }) */
export function createEndUser({ database, vault, clock, audit }: EndUserNeeds): EndUser {
  const openRequests = createOpenRequestStore(database)
  const generations = createUserGenerationStore(database)
  const userKey = createUserKey(vault)
  const needs = { decisions: createDecisionStore(database), outbox: createOutboxStore(database), vault }

  return async (userId, ending, { mustBe = 'anybody', by, also = [], notices = [], ...options }) => {
    const now = clock.now()
    const reason = reasons[ending]
    const closes = options.closes ?? ending !== 'signed_out'
    const endedBy: EndedBy = { decidedBy: 'application', auditedAs: by, deviceClientId: undefined, reason }

    // After a sign-out the user can still decide open requests. Approved ones end, as a stolen session may have approved them.
    const isOver = ({ status }: AuthenticationRequest) => ending !== 'signed_out' || status === 'approved'

    function follow(open: AuthenticationRequest[]): Followed {
      const requests = endRequests(open.filter(isOver), endedBy, now, needs)
      return {
        statements: [
          ...requests.statements,
          generations.next(userId, { closes, endedAt: ending === 'signed_out' ? undefined : now }),
          ...statementsFor(ending, { userId, erasedAs: erasedAs(userId, vault), now }),
          ...also,
          ...notices.map(needs.outbox.add),
        ],
        // Pages check their session when they receive this, and find that they are signed out.
        changes: [
          ...requests.changes,
          { topic: USER_REQUESTS, key: userKey(userId) },
          ...notices.map(({ id }) => ({ topic: OUTBOX, key: id })),
        ],
      }
    }

    const open = await openRequests.endOfUser(userId, mustBe, now, follow)
    if (open === undefined) return false
    recordEnded(open.filter(isOver), endedBy, audit)
    if (options.alsoEvent !== undefined) audit({ event: options.alsoEvent, user: userId, by })
    audit({ event: events[ending], user: userId, by })
    return true
  }
}

/** Returns what is stored instead of an erased user's id: the id is not assigned again, and cannot be read from it. */
export function erasedAs(userId: string, vault: Vault): string {
  return `erased ${vault.keyedHash(`user ${userId}`)}`
}

/** The reason recorded for open requests that end. */
const reasons: Record<UserEnding, EndingReason> = {
  signed_out: 'user_signed_out',
  locked: 'user_locked',
  removed: 'user_removed',
  erased: 'user_removed',
}

const events: Record<UserEnding, AuditEventName> = {
  signed_out: 'user.signed_out',
  locked: 'user.locked',
  removed: 'user.removed',
  erased: 'user.erased',
}
