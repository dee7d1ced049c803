/**
 * Denies open requests when the user is locked, removed or signed out everywhere, blocks the client, or revokes an
 * approval.
 */

import type { OutboxMessage } from '../../outbox/notification.ts'
import { OUTBOX, type OutboxStore } from '../../outbox/outbox-store.ts'
import type { Audit } from '../../platform/audit.ts'
import { newId, type Vault } from '../../platform/crypto.ts'
import type { Log } from '../../platform/log.ts'
import { type Change, mergeRowStatements } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import { endOpen, type Followed } from '../authentication-request/open-request-store.ts'
import { announced } from '../authentication-request/request-move-store.ts'
import { createUserKey, USER_REQUESTS } from '../authentication-request/user-announcement.ts'
import { notificationFor } from '../client-notification/notification-for.ts'
import type { Decision, DecisionStore, EndingReason } from './consent-history-store.ts'

export interface EndRequestsNeeds {
  decisions: Pick<DecisionStore, 'add'>
  outbox: Pick<OutboxStore, 'add'>
  vault: Vault
  log: Pick<Log, 'error'>
}

/**
 * What the history and the audit record about denied requests. `reason` is undefined if the user revokes an approval.
 */
export interface EndedBy extends Pick<Decision, 'decidedBy' | 'deviceClientId'> {
  reason?: EndingReason | undefined
  /** If set, the audit records this value instead of `decidedBy`, because it is more precise. Example: `command`. */
  auditedAs?: string
}

/**
 * Returns the statements and announcements that settle open requests as denied. The statements write the status and the
 * history. For a pending request, they also add the same ping or push as after a denial by the user. An approved
 * request of a push client needs no new notification: the message that is already in the outbox delivers the error. If
 * a notification cannot be composed, the request is denied without a notification.
 */
export function endRequests(
  open: readonly AuthenticationRequest[],
  by: EndedBy,
  now: number,
  { decisions, outbox, vault, log }: EndRequestsNeeds,
): Followed {
  if (open.length === 0) return { statements: [], changes: [] }
  const ended = open.map((request) => {
    const message = request.status === 'pending' ? notificationFor(request, 'denied', now, { vault, log }) : undefined
    return { request, decision: decisionOn(request, by, now), messages: message === undefined ? [] : [message] }
  })
  return {
    statements: mergeRowStatements([
      ...ended.map(({ request, decision }) => endOpen(request.id, decision.id, now)),
      ...ended.map(({ request, decision }) => decisions.add(decision, request)),
      ...ended.flatMap(({ messages }) => messages.map(outbox.add)),
    ]),
    changes: ended.flatMap(({ request, messages }) => changesOf(request, messages, vault)),
  }
}

/**
 * Returns the changes to announce when a request is settled: a change of the request, a change of its user's requests,
 * and one change of the outbox for each message to the client.
 */
export function changesOf(
  { id, userId }: AuthenticationRequest,
  messages: readonly OutboxMessage[],
  vault: Vault,
): Change[] {
  const ofUser = { topic: USER_REQUESTS, key: createUserKey(vault)(userId) }
  return [...announced(id), ofUser, ...messages.map((message) => ({ topic: OUTBOX, key: message.id }))]
}

/** Writes the audit events of denied requests. Call it after the transaction is committed. */
export function recordEnded(open: readonly AuthenticationRequest[], by: EndedBy, audit: Audit, address?: string): void {
  for (const { id, clientId, userId } of open) {
    const about = { request: id, client: clientId, user: userId, address, about: by.deviceClientId }
    audit({ event: 'request.denied', ...about, by: by.auditedAs ?? by.decidedBy, outcome: by.reason })
  }
}

function decisionOn(request: AuthenticationRequest, { auditedAs: _, ...by }: EndedBy, now: number): Decision {
  return {
    id: newId(now),
    requestId: request.id,
    outcome: 'denied',
    reported: false,
    decidedAt: now,
    ...by,
  }
}
