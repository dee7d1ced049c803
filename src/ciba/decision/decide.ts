/** Settles each request exactly once: the user approves or denies it, or it expires. */

import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
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
  /** Finds the user, to check that the user exists and is not disabled. */
  findUser: UserHooks['find']
  /** Finds the client, whose delivery mode may have changed since the request. */
  findClient: ClientStore['find']
  log: Log
}

export interface Answer {
  requestId: string
  /** The request, if the caller has just read it for this user. Its stored status is checked again. */
  request?: AuthenticationRequest | undefined
  /** The user who decides. It must be the user of the request. */
  userId: string
  outcome: 'approved' | 'denied'
  decidedBy: DecidedBy
  deviceClientId?: string | undefined
  authentication?: Authentication
  /** The hash of the user's access token. If given, the decision is accepted only if the token is still valid. */
  tokenHash?: string | undefined
  /**
   * The approved authorization details, if the user did not approve all. The caller must have checked that they are a
   * permitted part of those requested.
   */
  approvedDetails?: AuthorizationDetail[] | undefined
  reported?: boolean
  /** The IP address of the caller, for the audit. */
  address?: string | undefined
}

/** The result of a decision: only `settled` means that this call settled the request. */
export type DecisionResult =
  | { kind: 'settled'; status: 'approved' | 'denied' }
  /**
   * The request does not exist, or is about another user; the result does not show which. The approval of a damaged
   * request also has this result.
   */
  | { kind: 'unknown' }
  /** The user does not exist any more or is disabled, or the session of the caller has ended. */
  | { kind: 'user unavailable' }
  | { kind: 'expired' }
  /** Another call has settled the request, or this call repeats an earlier call. The request has `status`. */
  | { kind: 'already decided'; status: RequestStatus }

export type Decide = (answer: Answer) => Promise<DecisionResult>

/** Returns the function that settles a request by the user's answer, at most once for each request. */
export function createDecide(needs: DecisionNeeds): Decide {
  return async (answer) => {
    const { userId, requestId: id } = answer
    const request = answer.request ?? (await needs.requests.findForUser(userId, { id }))
    if (request === undefined || isDecoy(request)) return { kind: 'unknown' }

    const user = await needs.findUser(answer.userId)
    if (user === null || user.disabled) {
      const { id, clientId: client } = request
      needs.audit({ event: 'decision.refused', request: id, client, user: answer.userId, outcome: 'user_unavailable' })
      return { kind: 'user unavailable' }
    }

    // If a stored part of the request cannot be parsed, it is not known what the user would approve.
    if (answer.outcome === 'approved' && request.isDamaged) return { kind: 'unknown' }

    const now = needs.clock.now()
    const approvedDetails =
      answer.outcome === 'approved' ? (answer.approvedDetails ?? request.authorizationDetails) : undefined
    const decision = { ...toDecision(answer, now), approvedDetails }
    const effects = consequences(request, decision, needs)
    // `request` may be out of date. The transaction checks that the request is still pending.
    const settlement = {
      userId: answer.userId,
      outcome: answer.outcome,
      settledBy: decision.id,
      now,
      authentication: answer.authentication ?? {},
      tokenHash: answer.tokenHash,
      approvedDetails,
    }
    const settled = decision.reported
      ? await settleReported(
          { request, decision, ...effects, tokenHash: answer.tokenHash, address: answer.address },
          needs,
        )
      : await needs.requests.settle(request.id, settlement, effects)
    if (!settled) return describeConflict(await needs.requests.find(request.id), now)

    recordAudit(needs.audit, request, decision, answer.address)
    return { kind: 'settled', status: answer.outcome }
  }
}

/**
 * Changes the status of one request whose deadline has passed to `expired`. Resolves to whether this call changed it.
 */
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
  // Only a push client is notified of an expiry. A client may have changed from ping to push since the request was
  // received. So the current delivery mode of the client is read.
  const mode =
    request.deliveryMode === 'ping' ? (await needs.findClient(request.clientId))?.deliveryMode : request.deliveryMode
  const expired = await needs.requests.expire(request, decision.id, now, consequences(request, decision, needs, mode))
  if (expired) recordAudit(needs.audit, request, decision)
  return expired
}

/**
 * Returns what the transaction writes in addition to the status: the history row, the client's notification, and the
 * change to the client's pause.
 */
function consequences(
  request: AuthenticationRequest,
  decision: Decision,
  needs: DecisionNeeds,
  mode?: DeliveryMode,
): Required<Consequences> {
  const message = notificationFor(request, decision.outcome, decision.decidedAt, needs, mode)
  return {
    notifications: message === undefined ? [] : [message],
    facts: [needs.decisions.add(decision, request), ...pauseStatements(request, decision, needs)],
  }
}

/**
 * Returns the statements for the client's pause. A denial lengthens the pause, and so does the expiry of an unanswered
 * request with a lifetime below `shortLife`. An approval clears the pause. A denial that reports the request also
 * blocks the client.
 */
function pauseStatements(request: AuthenticationRequest, decision: Decision, needs: DecisionNeeds): Statement[] {
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
  // If the request is still pending, no other call has decided it. So this call was refused because the session of the
  // user has ended.
  if (status === 'pending') return { kind: 'user unavailable' }
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
