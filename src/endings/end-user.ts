/** One ending of a user, in one step: sessions, grants, tokens, open requests and, for good, all that is the user's. */

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

export interface EndingOptions {
  /** Who the user has to be; whoever unless told. */
  mustBe?: MustBe
  /** Who ends it, for the audit. */
  by: 'command' | 'configuration' | 'application'
  /** Nothing is asked of the user until they are let in again; unless told, for all endings but a sign-out. */
  closes?: boolean
  /** What else is to happen in the same step, and what the audit calls it. */
  also?: Statement[]
  /** Of which the user is told. */
  notices?: readonly OutboxMessage[]
  alsoEvent?: AuditEventName
}

/** Resolves to whether it happened: not if the user is not who `mustBe` says. */
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

    // Whoever was signed out can still answer. What a stolen session has approved must bring nothing: it is not collected.
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
        // Pages that listen look, and find that they are signed out.
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

/** As what the id of an erased user is remembered: it is not given again, and says nothing of who had it. */
export function erasedAs(userId: string, vault: Vault): string {
  return `erased ${vault.keyedHash(`user ${userId}`)}`
}

/** Why open requests end. */
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
