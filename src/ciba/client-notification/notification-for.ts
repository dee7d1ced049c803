/** What follows for the client when its request has been settled: in which mode, with which notification. */

import { compose, type OutboxMessage } from '../../outbox/notification.ts'
import type { Vault } from '../../platform/crypto.ts'
import {
  type AuthenticationRequest,
  type CallBack,
  callBackAad,
} from '../authentication-request/authentication-request.ts'
import type { SettledStatus } from '../authentication-request/request-move-store.ts'
import type { PingContent } from './ping.ts'
import type { PushContent } from './push.ts'

/** Milliseconds in which a push client can be told that its request ran out: the deadline itself has passed then. */
const afterTheDeadline = 10 * 60_000

/**
 * The notification that a settlement causes, if any.
 *
 * A poll client asks by itself. A ping client is pinged when the user has decided, yes or no (PI-1), not when time
 * ran out (PI-2). A push client is told everything (PU-1, PU-2).
 */
export function notificationFor(
  request: AuthenticationRequest,
  outcome: SettledStatus,
  now: number,
  vault: Vault,
): OutboxMessage | undefined {
  if (request.deliveryMode === 'poll' || request.callBackSealed === undefined) return undefined
  if (request.deliveryMode === 'ping' && outcome === 'expired') return undefined

  const callBack = JSON.parse(vault.open(request.callBackSealed, callBackAad(request.id))) as CallBack
  const content: PingContent | PushContent =
    request.deliveryMode === 'ping' ? callBack : { ...callBack, outcome, body: undefined }
  return compose(
    {
      kind: request.deliveryMode,
      subject: request.id,
      receiver: request.clientId,
      address: request.notificationEndpoint,
      content,
      giveUpAt: outcome === 'expired' ? now + afterTheDeadline : request.expiresAt,
    },
    now,
    vault,
  )
}
