/** What a push says (CIBA Core §10.3, §12): the tokens, or why there are none. */

import type { Send } from '../../outbox/delivery.ts'
import { contentAad, type OutboxMessage } from '../../outbox/notification.ts'
import type { OutboxStore } from '../../outbox/outbox-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import { type CallBack, statusAt } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { SettledStatus } from '../authentication-request/request-move-store.ts'
import type { IssueTokens } from '../tokens/issue-tokens.ts'
import { callBack } from './notification-endpoint.ts'

export interface PushContent extends CallBack {
  outcome: SettledStatus
  /** What is sent, once it has been composed: every further attempt says exactly the same (PU-11, M37). */
  body: string | undefined
}

export interface PushNeeds {
  requests: RequestStore
  outbox: OutboxStore
  issueTokens: IssueTokens
  caller: GuardedCaller
  vault: Vault
  clock: Clock
  audit: Audit
}

export function createPush(needs: PushNeeds): Send {
  return async (message, signal) => {
    const content = read(message, needs.vault)
    const body = content.body ?? (await composeBody(message, content, needs))
    if (body === undefined)
      return { kind: 'refused', words: 'the approval expired before the tokens could be delivered' }
    return callBack({ address: message.address!, bearer: content.notificationToken, body }, needs.caller, signal)
  }
}

function read(message: OutboxMessage, vault: Vault): PushContent {
  return JSON.parse(vault.open(message.sealed!, contentAad(message.id))) as PushContent
}

async function composeBody(
  message: OutboxMessage,
  content: PushContent,
  needs: PushNeeds,
): Promise<string | undefined> {
  switch (content.outcome) {
    case 'approved':
      return issuePushTokens(message, content, needs)
    case 'denied':
      return refusal(content, 'access_denied', 'the user refused')
    case 'expired':
      return refusal(content, 'expired_token', 'the request expired')
  }
}

/**
 * Makes the tokens and keeps them, sealed, on the notification, in the one step that redeems the request. A crash
 * before it leaves an approval to be handed over, a crash after it leaves the very body to be sent. The same when no
 * tokens can be made: what the client is told once is what it is told again.
 */
async function issuePushTokens(
  message: OutboxMessage,
  content: PushContent,
  needs: PushNeeds,
): Promise<string | undefined> {
  const request = await needs.requests.find(message.subject)
  const status = request && statusAt(request, needs.clock.now())
  if (status === 'denied') return refusal(content, 'access_denied', 'the user revoked the approval')
  if (request === undefined || status !== 'approved') return whatWasKept(message, needs)
  const issued = await needs.issueTokens(request, { pushedAs: content.authReqId, binding: request.binding })

  const body =
    issued === undefined
      ? refusal(content, 'transaction_failed', 'the user or the client is no longer available')
      : JSON.stringify({ auth_req_id: content.authReqId, ...issued.response })
  const sealed = needs.vault.seal(JSON.stringify({ ...content, body }), contentAad(message.id))
  const kept = [...(issued?.statements ?? []), needs.outbox.replaceContent(message.id, sealed)]
  const first = await needs.requests.redeem(request.id, needs.clock.now(), kept)
  if (!first) return whatWasKept(message, needs)
  const about = { request: request.id, client: request.clientId, user: request.userId, by: 'push' }
  needs.audit(
    issued === undefined
      ? { event: 'tokens.refused', ...about, outcome: 'user_unavailable' }
      : { event: 'tokens.issued', ...about },
  )
  return body
}

/** What another worker handed over, while its lease ended and we took the letter on. */
async function whatWasKept({ id }: OutboxMessage, { outbox, vault }: PushNeeds): Promise<string | undefined> {
  const message = await outbox.find(id)
  return message?.sealed === undefined ? undefined : read(message, vault).body
}

/** Only these three codes exist (PE-1). */
type PushError = 'access_denied' | 'expired_token' | 'transaction_failed'

function refusal({ authReqId }: PushContent, error: PushError, description: string): string {
  return JSON.stringify({ auth_req_id: authReqId, error, error_description: description })
}
