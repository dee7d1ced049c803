/** The notification that a client gets when its request is settled. It depends on the delivery mode. */

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

/** Milliseconds after an expiry during which a push client can be notified of the expiry. */
const afterTheDeadline = 10 * 60_000

/**
 * Returns the notification that a settlement causes, or undefined if there is none.
 *
 * A poll client gets none. A ping client gets one after an approval or denial, not after an expiry (CIBA §10.2). A push
 * client gets one in all three cases (CIBA §10.3, §12).
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
