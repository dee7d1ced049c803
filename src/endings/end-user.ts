/**
 * Signs out, locks, removes or erases a user, in one transaction. Each of these actions is called an ending, because
 * each of them ends sessions, grants, tokens and open requests. `UserEnding` says which other data is deleted.
 */

import type { AuthenticationRequest } from '../ciba/authentication-request/authentication-request.ts'
import {
  createOpenRequestStore,
  type Followed,
  type MustBe,
} from '../ciba/authentication-request/open-request-store.ts'
import { createUserKey, sessionsEnded } from '../ciba/authentication-request/user-announcement.ts'
import { createDecisionStore, type EndingReason } from '../ciba/decision/consent-history-store.ts'
import { type EndedBy, endRequests, recordEnded } from '../ciba/decision/end-requests.ts'
import type { OutboxMessage } from '../outbox/notification.ts'
import { createOutboxStore, OUTBOX } from '../outbox/outbox-store.ts'
import type { Audit, AuditEventName } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import type { Vault } from '../platform/crypto.ts'
import type { Log } from '../platform/log.ts'
import type { Database, Statement } from '../platform/storage/database.ts'
import { createUnreadableReport } from '../platform/unreadable-values.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { statementsFor, type UserEnding } from './ending-store.ts'

export type { UserEnding }

/**
 * An authentication request for the user is refused if its time of receipt is up to this many milliseconds after the
 * ending. The reason is that the clock of a node may be ahead. If such a node received a request before the ending, the
 * stored time of receipt may still be after the ending.
 */
export const clockDifferenceMs = 5_000

export interface EndUserNeeds {
  database: Database
  vault: Vault
  clock: Clock
  log: Pick<Log, 'error'>
  audit: Audit
}

/** Options of one ending. */
export interface EndingOptions {
  /** The kind of user for whom this ending is permitted. Default: any kind. */
  mustBe?: MustBe
  /** What caused the ending, for the audit. */
  by: 'command' | 'configuration' | 'application'
  /**
   * Whether requests for the user are refused until the user is enabled again. Default: false for `signed_out`, true
   * for all other endings.
   */
  closes?: boolean
  /** Further statements of the same transaction. `alsoEvent` is the audit event for them. */
  also?: Statement[]
  /** Notifications to the user, stored in the same transaction. */
  notices?: readonly OutboxMessage[]
  alsoEvent?: AuditEventName
}

/** Resolves to whether the ending happened. If `mustBe` does not permit the ending for this user, changes nothing. */
export type EndUser = (userId: string, ending: UserEnding, options: EndingOptions) => Promise<boolean>

/** @example await endUser('u1', 'locked', { mustBe: 'added', by: 'command' }) */
export function createEndUser({ database, vault, clock, log, audit }: EndUserNeeds): EndUser {
  const openRequests = createOpenRequestStore(database, createUnreadableReport(log))
  const generations = createUserGenerationStore(database)
  const userKey = createUserKey(vault)
  const needs = { decisions: createDecisionStore(database), outbox: createOutboxStore(database), vault, log }

  return async (userId, ending, { mustBe = 'anybody', by, also = [], notices = [], ...options }) => {
    const now = clock.now()
    const reason = reasons[ending]
    const closes = options.closes ?? ending !== 'signed_out'
    const endedBy: EndedBy = { decidedBy: 'application', auditedAs: by, deviceClientId: undefined, reason }

    // A sign-out does not change pending requests, because the user can still decide them. A sign-out denies approved
    // requests, because an attacker with a stolen session may have approved them.
    const isOver = ({ status }: AuthenticationRequest) => ending !== 'signed_out' || status === 'approved'

    function follow(open: AuthenticationRequest[]): Followed {
      const requests = endRequests(open.filter(isOver), endedBy, now, needs)
      return {
        statements: [
          ...requests.statements,
          generations.next(userId, {
            closes,
            refusesUntil: ending === 'signed_out' ? undefined : now + clockDifferenceMs,
          }),
          ...statementsFor(ending, { userId, erasedAs: erasedAs(userId, vault), now }),
          ...also,
          ...notices.map(needs.outbox.add),
        ],
        // When open pages receive this announcement, they check their session and find that the user is signed out.
        changes: [
          ...requests.changes,
          ...sessionsEnded(userKey(userId)),
          ...notices.map(({ id }) => ({ topic: OUTBOX, key: id })),
        ],
      }
    }

    const open = await openRequests.endOfUser(userId, mustBe, follow)
    if (open === undefined) return false
    recordEnded(open.filter(isOver), endedBy, audit)
    if (options.alsoEvent !== undefined) audit({ event: options.alsoEvent, user: userId, by })
    audit({ event: events[ending], user: userId, by })
    return true
  }
}

/**
 * Returns the value that is stored instead of the id of an erased user. The value does not reveal the id. With this
 * value, Doorbell recognises the id and does not assign it to another user.
 */
export function erasedAs(userId: string, vault: Vault): string {
  return `erased ${vault.keyedHash(`user ${userId}`)}`
}

/** For each ending, the reason that the history records for the user's open requests. */
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
