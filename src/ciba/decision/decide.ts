/** The user's yes or no, settled exactly once; and the clock's, for those who never answered. */

import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { Audit } from '../../platform/audit.ts'
import { newId } from '../../platform/crypto.ts'
import type { Log } from '../../platform/log.ts'
import type { Statement } from '../../platform/storage/database.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { UserHooks } from '../../user/user.ts'
import {
  type AuthenticationRequest,
  isDecoy,
  type RequestStatus,
  statusAt,
  wasShortAndUnanswered,
} from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { Consequences } from '../authentication-request/request-move-store.ts'
import { notificationFor } from '../client-notification/notification-for.ts'
import type { DenialPauseStore } from '../request-limits/denial-pause-store.ts'
import { type BlockNeeds, settleReported } from './block-client.ts'
import type { DecidedBy, Decision, DecisionStore } from './consent-history-store.ts'

export interface DecisionNeeds extends BlockNeeds {
  requests: RequestStore
  decisions: DecisionStore
  denialPauses: Pick<DenialPauseStore, 'lengthen' | 'lift'>
  /** Whether the user is still there, and still may decide (M15). */
  findUser: UserHooks['find']
  log: Log
}

export interface Answer {
  requestId: string
  /** As whoever answers has just read it. What of it can change is not believed. */
  request?: AuthenticationRequest | undefined
  /** The user who answers. It must be the one the request is about (CN-4). */
  userId: string
  outcome: 'approved' | 'denied'
  decidedBy: DecidedBy
  deviceClientId?: string | undefined
  authentication?: Authentication
  /** What of the details is approved, where it is less than what was asked. Whoever answers has checked that it is no more. */
  approvedDetails?: AuthorizationDetail[] | undefined
  reported?: boolean
  /** The IP address it came from, for the audit. */
  address?: string | undefined
}

export type DecisionResult =
  | { kind: 'settled'; status: 'approved' | 'denied' }
  /** Unknown, or about another user: the same to whoever asks. */
  | { kind: 'unknown' }
  /** The user is gone or disabled: whoever asks, nothing is decided in their name (M15). */
  | { kind: 'user unavailable' }
  | { kind: 'expired' }
  /** Somebody was faster, or it is asked twice: what stands is `status`. */
  | { kind: 'already decided'; status: RequestStatus }

export type Decide = (answer: Answer) => Promise<DecisionResult>

export function createDecide(needs: DecisionNeeds): Decide {
  return async (answer) => {
    const request = answer.request ?? (await needs.requests.find(answer.requestId))
    if (request === undefined || request.userId !== answer.userId || isDecoy(request)) return { kind: 'unknown' }

    const user = await needs.findUser(answer.userId)
    if (!user || user.disabled) {
      const { id, clientId: client } = request
      needs.audit({ event: 'decision.refused', request: id, client, user: answer.userId, outcome: 'user_unavailable' })
      return { kind: 'user unavailable' }
    }

    const now = needs.clock.now()
    const approvedDetails =
      answer.outcome === 'approved' ? (answer.approvedDetails ?? request.authorizationDetails) : undefined
    const decision = { ...toDecision(answer, now), approvedDetails }
    const then = consequences(request, decision, needs)
    // The read above only prepares: whether the request is still pending is decided in this one step (M22).
    const settlement = {
      userId: answer.userId,
      outcome: answer.outcome,
      settledBy: decision.id,
      now,
      authentication: answer.authentication ?? {},
      approvedDetails,
    }
    const settled = decision.reported
      ? await settleReported({ request, decision, ...then, address: answer.address }, needs)
      : await needs.requests.settle(request.id, settlement, then)
    if (!settled) return describeConflict(await needs.requests.find(request.id), now)

    recordAudit(needs.audit, request, decision, answer.address)
    return { kind: 'settled', status: answer.outcome }
  }
}

/** Settles one request whose time is over. Answers whether this call did it. */
export async function expire(request: AuthenticationRequest, needs: DecisionNeeds): Promise<boolean> {
  const now = needs.clock.now()
  const decision: Decision = {
    id: newId(now),
    requestId: request.id,
    outcome: 'expired',
    decidedBy: 'clock',
    deviceClientId: undefined,
    reported: false,
    decidedAt: now,
  }
  const expired = await needs.requests.expire(request, decision.id, now, consequences(request, decision, needs))
  if (expired) recordAudit(needs.audit, request, decision)
  return expired
}

/** What is written together with the outcome: the fact, what the client must be told, and how soon it may ask again. */
function consequences(
  request: AuthenticationRequest,
  decision: Decision,
  needs: DecisionNeeds,
): Required<Consequences> {
  const message = notificationFor(request, decision.outcome, decision.decidedAt, needs.vault)
  return {
    notifications: message === undefined ? [] : [message],
    facts: [needs.decisions.add(decision, request), ...askingAgain(request, decision, needs)],
  }
}

/**
 * A denial lengthens the client's pause, and so does a short request that nobody answered; an approval clears it; a report
 * blocks the client (CD-4, CD-5).
 */
function askingAgain(request: AuthenticationRequest, decision: Decision, needs: DecisionNeeds): Statement[] {
  const { userId, clientId } = request
  switch (decision.outcome) {
    case 'approved':
      return needs.denialPauses.lift(userId, clientId)
    case 'denied': {
      const block = decision.reported ? [needs.blockedClients.blocking(userId, clientId, decision.decidedAt)] : []
      return [...needs.denialPauses.lengthen(userId, clientId, decision.decidedAt), ...block]
    }
    case 'expired':
      return wasShortAndUnanswered(request) ? needs.denialPauses.lengthen(userId, clientId, decision.decidedAt) : []
  }
}

function toDecision(answer: Answer, now: number): Decision {
  return {
    id: newId(now),
    requestId: answer.requestId,
    outcome: answer.outcome,
    decidedBy: answer.decidedBy,
    deviceClientId: answer.deviceClientId,
    reported: answer.reported ?? false,
    decidedAt: now,
    ...answer.authentication,
  }
}

function describeConflict(request: AuthenticationRequest | undefined, now: number): DecisionResult {
  if (request === undefined) return { kind: 'unknown' }
  const status = statusAt(request, now)
  return status === 'expired' ? { kind: 'expired' } : { kind: 'already decided', status }
}

function recordAudit(audit: Audit, request: AuthenticationRequest, decision: Decision, address?: string): void {
  const about = { request: request.id, client: request.clientId, user: request.userId, address }
  const how = { by: decision.decidedBy, about: decision.deviceClientId }
  audit({ event: `request.${decision.outcome}`, ...about, ...how })
  if (!decision.reported) return
  audit({ event: 'request.reported', ...about, ...how })
  audit({ event: 'client.blocked', ...about, by: 'report' })
}
