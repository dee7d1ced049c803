/** Sends a push (CIBA Core §10.3, §12), which contains the tokens, or an error. */

import type { OidcModelStore } from '../../openid-provider/oidc-model-store.ts'
import type { SigningKeys } from '../../openid-provider/signing-keys/signing-keys.ts'
import type { OutboxMessage, Outcome } from '../../outbox/notification.ts'
import type { OutboxStore } from '../../outbox/outbox-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import { withTimeLimit } from '../../platform/until-aborted.ts'
import { statusAt } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { IssueTokens, TokenResponse } from '../tokens/issue-tokens.ts'
import { signAgain } from '../tokens/sign-again.ts'
import { callBack } from './notification-endpoint.ts'
import { contentOf, holdsTokens, type NotificationContent, sealContent } from './notification-for.ts'

export interface PushNeeds {
  requests: RequestStore
  outbox: OutboxStore
  issueTokens: IssueTokens
  hasValidGrant: OidcModelStore['hasValidGrant']
  /**
   * Returns the current signing keys. This member is undefined if the operator configured the keys, because Doorbell
   * does not rotate configured keys.
   */
  signingKeys: (() => SigningKeys) | undefined
  /** Milliseconds that the look-up of the user may take. */
  timeout: number
  caller: GuardedCaller
  vault: Vault
  clock: Clock
  audit: Audit
}

/** Sends a push to the address of the message. Calls `onCall` when the tokens or the error are ready. */
export type Push = (
  message: OutboxMessage,
  content: NotificationContent,
  signal: AbortSignal,
  onCall: () => void,
) => Promise<Outcome>

/** Returns the function that sends pushes. At the first attempt, this function issues the tokens. */
export function createPush(needs: PushNeeds): Push {
  return async (message, content, signal, onCall) => {
    const body = holdsTokens(content)
      ? await bodyOfRetry(message, content, needs)
      : (content.body ?? (await composeBody(message, content, needs, signal)))
    if (body === undefined)
      return { kind: 'refused', words: 'the approval expired before the tokens could be delivered' }
    const { receiver: clientId, address } = message
    onCall()
    return callBack({ clientId, address: address!, bearer: content.notificationToken, body }, needs.caller, signal)
  }
}

async function composeBody(
  message: OutboxMessage,
  content: NotificationContent,
  needs: PushNeeds,
  signal: AbortSignal,
): Promise<string | undefined> {
  switch (content.outcome) {
    // An earlier version stored no outcome in a ping. If the client has changed from ping to push since then,
    // `issuePushTokens` reads the status of the request.
    case undefined:
    case 'approved':
      return issuePushTokens(message, content, needs, signal)
    case 'denied':
      return errorBody(content, 'access_denied', 'the user refused')
    case 'expired':
      return errorBody(content, 'expired_token', 'the request expired')
  }
}

/**
 * Issues the tokens. One transaction redeems the request and stores the body, encrypted, in the outbox message. If the
 * process crashes before the commit, the request is still approved. If the process crashes after the commit, the next
 * attempt sends the stored body. If no tokens can be issued, the error is stored as the body, so that every attempt
 * sends the same body.
 */
async function issuePushTokens(
  message: OutboxMessage,
  content: NotificationContent,
  needs: PushNeeds,
  signal: AbortSignal,
): Promise<string | undefined> {
  const request = await needs.requests.find(message.subject)
  const status = request && statusAt(request, needs.clock.now())
  if (status === 'denied') return errorBody(content, 'access_denied', 'the user revoked the approval')
  // If the request was made for push, the expiry sweep adds another notification, which reports the expiry. If it was
  // made for ping, the sweep adds none, so this notification reports it.
  if (status === 'expired' && request?.deliveryMode === 'ping') {
    return errorBody(content, 'expired_token', 'the request expired')
  }
  if (request === undefined || status !== 'approved') return findStoredBody(message, needs)
  const issued = await needs.issueTokens(request, {
    pushedAs: content.authReqId,
    binding: request.binding,
    signal: withTimeLimit(signal, needs.timeout),
  })

  const body =
    issued === undefined
      ? errorBody(content, 'transaction_failed', 'the user or the client is no longer available')
      : JSON.stringify({ auth_req_id: content.authReqId, ...issued.response })
  const now = needs.clock.now()
  const sent = { ...content, body, ...(issued && { tokensUntil: now + issued.lifetimeSeconds * 1000 }) }
  const sealed = sealContent(message.id, sent, needs.vault)
  const kept = [...(issued?.statements ?? []), needs.outbox.replaceContent(message.id, sealed)]
  const first = await needs.requests.redeem(request.id, now, kept)
  if (!first) return findStoredBody(message, needs)
  const about = { request: request.id, client: request.clientId, user: request.userId, by: 'push' }
  needs.audit(
    issued === undefined
      ? { event: 'tokens.refused', ...about, outcome: 'user_unavailable' }
      : { event: 'tokens.issued', ...about },
  )
  return body
}

/**
 * Resolves to the body for another attempt to deliver tokens. Usually this is the body of the previous attempt. If the
 * tokens are no longer valid, the body is an error. If the key that signed the tokens was revoked, the tokens are
 * signed again. A changed body is stored, so that every further attempt sends it.
 */
async function bodyOfRetry(
  message: OutboxMessage,
  content: NotificationContent & { body: string },
  needs: PushNeeds,
): Promise<string | undefined> {
  const body = (await errorInstead(message, content, needs)) ?? (await withVerifiableTokens(content.body, needs))
  if (body === content.body) return body
  const sealed = sealContent(message.id, { ...content, body }, needs.vault)
  // If another worker has changed the content before, this attempt sends the body that the other worker stored.
  return (await needs.outbox.exchangeContent(message, sealed)) ? body : findStoredBody(message, needs)
}

/** Resolves to the error that is sent instead of tokens that are no longer valid, or to undefined if they are valid. */
async function errorInstead(
  message: OutboxMessage,
  content: NotificationContent,
  needs: PushNeeds,
): Promise<string | undefined> {
  if (message.revokedAt !== undefined) return revokedBody(content)
  const now = needs.clock.now()
  if (now >= (content.tokensUntil ?? Number.POSITIVE_INFINITY)) {
    return errorBody(content, 'transaction_failed', 'the tokens expired before they could be delivered')
  }
  // If the user signed out while the tokens were being issued, the message is not marked as revoked. So the grant is
  // checked.
  return (await needs.hasValidGrant(message.subject, now)) ? undefined : revokedBody(content)
}

/**
 * If the key that signed the tokens in the body was revoked, signs the tokens again and resolves to the changed body.
 * If not, resolves to `body`.
 */
async function withVerifiableTokens(body: string, needs: PushNeeds): Promise<string> {
  const keys = needs.signingKeys?.()
  const signed = keys && (await signAgain(JSON.parse(body) as TokenResponse, keys))
  return signed === undefined ? body : JSON.stringify(signed)
}

/**
 * Reads the message again and resolves to its body, which another worker may have stored. Resolves to undefined if no
 * body is stored.
 */
async function findStoredBody({ id }: OutboxMessage, { outbox, vault }: PushNeeds): Promise<string | undefined> {
  const message = await outbox.find(id)
  return message && contentOf(message, vault)?.body
}

/** The error codes of CIBA §12. */
type PushError = 'access_denied' | 'expired_token' | 'transaction_failed'

/** Returns the body of a push with the error that the approval was revoked or has ended. */
export function revokedBody(content: Pick<NotificationContent, 'authReqId'>): string {
  return errorBody(content, 'access_denied', 'the approval was revoked or ended before the tokens could be delivered')
}

/** Returns the body of a push that reports an error. */
export function errorBody(
  { authReqId }: Pick<NotificationContent, 'authReqId'>,
  error: PushError,
  description: string,
): string {
  return JSON.stringify({ auth_req_id: authReqId, error, error_description: description })
}
