/**
 * Makes the notification that a client gets when its request is settled (approved, denied or expired). The notification
 * depends on the client's delivery mode.
 */

import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import { compose, contentAad, type OutboxMessage } from '../../outbox/notification.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { Log } from '../../platform/log.ts'
import {
  type AuthenticationRequest,
  type CallBack,
  callBackAad,
} from '../authentication-request/authentication-request.ts'
import type { SettledStatus } from '../authentication-request/request-move-store.ts'

/**
 * The content of a ping or push, which is stored encrypted. Pings and pushes have the same content, because the client
 * may change its delivery mode before the notification is sent. In a ping, an earlier version stored only the
 * `CallBack`.
 */
export interface NotificationContent extends CallBack {
  outcome?: SettledStatus
  /**
   * The deadline of the request, in milliseconds since 1970. A ping after this deadline would be useless, because the
   * client could not get tokens any more.
   */
  expiresAt?: number
  /** The body of a push, which is the same at every attempt; undefined if it is not composed yet. */
  body?: string | undefined
  /** When the last of the tokens in the body expires, in milliseconds since 1970. Earlier versions did not store it. */
  tokensUntil?: number
}

/** After a request is settled, its notification can be sent for at least this many milliseconds (`giveUpAt`). */
const pushedFor = 10 * 60_000

export interface NotificationNeeds {
  vault: Vault
  log: Pick<Log, 'error'>
}

/**
 * Returns the notification for an approval, a denial or an expiry, or undefined if there is none.
 *
 * A poll client gets no notification. A ping client gets a notification after an approval or a denial, but not after an
 * expiry (CIBA §10.2). A push client gets a notification in all three cases (CIBA §10.3, §12). The delivery mode and
 * the endpoint of the client are checked again when the notification is sent.
 *
 * If the values for the notification cannot be decrypted, the failure is logged and there is no notification.
 *
 * @param mode the current delivery mode of the client. Default: the delivery mode of the request
 * @throws if the values for an approval of a push client cannot be decrypted, because this client could never get its
 *   tokens
 */
export function notificationFor(
  request: AuthenticationRequest,
  outcome: SettledStatus,
  now: number,
  needs: NotificationNeeds,
  mode: DeliveryMode = request.deliveryMode,
): OutboxMessage | undefined {
  const { deliveryMode: kind, expiresAt } = request
  if (kind === 'poll' || request.callBackSealed === undefined) return undefined
  if (mode === 'ping' && outcome === 'expired') return undefined

  const callBack = callBackOf(request, request.callBackSealed, outcome, needs)
  if (callBack === undefined) return undefined
  const content: NotificationContent = { ...callBack, outcome, expiresAt }
  return compose(
    {
      kind,
      subject: request.id,
      receiver: request.clientId,
      address: request.notificationEndpoint,
      content,
      giveUpAt: Math.max(expiresAt, now + pushedFor),
    },
    now,
    needs.vault,
  )
}

/**
 * Decrypts the values for the notification. The decryption fails if the configured secret was changed, or if the row is
 * damaged. The failure must not prevent a denial, an expiry or the removal of a user, because these are more important
 * than the notification. A ping client gets the result at its next poll anyway.
 */
function callBackOf(
  { id, clientId, deliveryMode }: AuthenticationRequest,
  sealed: string,
  outcome: SettledStatus,
  { vault, log }: NotificationNeeds,
): CallBack | undefined {
  try {
    return JSON.parse(vault.open(sealed, callBackAad(id))) as CallBack
  } catch (error) {
    if (outcome === 'approved' && deliveryMode === 'push') throw error
    log.error(
      { event: 'notification.unreadable', request: id, client: clientId, outcome, error },
      'the client is not notified, because the values for its notification cannot be decrypted',
    )
    return undefined
  }
}

/** Decrypts the content of a ping or push. Returns undefined if it was erased, or cannot be decrypted. */
export function contentOf({ id, sealed }: OutboxMessage, vault: Vault): NotificationContent | undefined {
  return sealed === undefined ? undefined : vault.openJson(sealed, contentAad(id))
}

/** Encrypts the content of a ping or push. */
export function sealContent(messageId: string, content: NotificationContent, vault: Vault): string {
  return vault.seal(JSON.stringify(content), contentAad(messageId))
}

/**
 * Whether the body of a push contains tokens. If so, the tokens were issued, and the client has not confirmed the push.
 */
export function holdsTokens(content: NotificationContent): content is NotificationContent & { body: string } {
  return content.body !== undefined && 'access_token' in (JSON.parse(content.body) as object)
}
