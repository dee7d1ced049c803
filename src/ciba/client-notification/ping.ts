/**
 * Sends a ping (CIBA Core §10.2), which tells the client that a result is available, but does not contain the result.
 */

import type { OutboxMessage, Outcome } from '../../outbox/notification.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import { callBack } from './notification-endpoint.ts'
import type { NotificationContent } from './notification-for.ts'

/**
 * Sends a ping. After the deadline of the request, no ping is sent or retried, because the client cannot get tokens any
 * more.
 *
 * @param now milliseconds since 1970
 */
export async function sendPing(
  { receiver: clientId, address }: OutboxMessage,
  { authReqId, notificationToken, expiresAt = Number.POSITIVE_INFINITY }: NotificationContent,
  { caller, now, signal }: { caller: GuardedCaller; now: number; signal: AbortSignal },
): Promise<Outcome> {
  if (now >= expiresAt) return { kind: 'refused', words: 'the request expired before the ping could be sent' }
  const body = JSON.stringify({ auth_req_id: authReqId })
  const outcome = await callBack({ clientId, address: address!, bearer: notificationToken, body }, caller, signal)
  return outcome.kind === 'failed' ? { ...outcome, usefulUntil: expiresAt } : outcome
}
