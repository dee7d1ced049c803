/**
 * Takes back the tokens of a push if the client changes its delivery mode to poll or ping before it has confirmed the
 * push. To take back the tokens means: the tokens are revoked, and the request becomes approved again. So the client
 * gets new tokens at the token endpoint. The client may have received the first tokens, too. Because the first tokens
 * are revoked, the client never has two valid sets of tokens.
 */

import type { OidcModelStore } from '../../openid-provider/oidc-model-store.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { OutboxStore } from '../../outbox/outbox-store.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import { contentOf, holdsTokens } from './notification-for.ts'

export interface TakeBackNeeds {
  requests: Pick<RequestStore, 'find' | 'takeBack'>
  outbox: Pick<OutboxStore, 'replaceContent' | 'supersede' | 'undeliveredAbout'>
  /** Returns the statement that removes the tokens issued for a request. */
  removeIssued: OidcModelStore['removeByRequest']
  vault: Vault
}

/** How the request and the notification are changed when the tokens are taken back. */
export interface TakenBackAs {
  mode: 'poll' | 'ping'
  endpoint?: string | undefined
  /**
   * The new content of the notification, if the notification is still to be sent. If undefined, the content is not
   * changed.
   */
  replaced?: string | undefined
  /**
   * Whether the transaction that takes back the tokens also marks the notification as delivered (`supersede`). If not,
   * the caller sends the notification or marks it as delivered.
   */
  settles?: boolean
  now: number
}

/**
 * Takes back the tokens of a push. Changes nothing and resolves to false in each of these cases:
 * - The client has confirmed the push.
 * - The deadline of the request has passed.
 * - The tokens were revoked.
 */
export type TakeBack = (message: OutboxMessage, as: TakenBackAs) => Promise<boolean>

/** Returns the function that takes back the tokens of a push. */
export function createTakeBack({ requests, outbox, removeIssued }: TakeBackNeeds): TakeBack {
  return async (message, { mode, endpoint, replaced, settles = false, now }) => {
    const request = await requests.find(message.subject)
    if (request === undefined) return false
    return requests.takeBack(request, { mode, endpoint, notification: message, now }, [
      removeIssued(request.id),
      ...(replaced === undefined ? [] : [outbox.replaceContent(message.id, replaced)]),
      ...(settles ? [outbox.supersede(message.id, 'not sent: the client polls now', now)] : []),
    ])
  }
}

/**
 * Takes back the tokens of a redeemed request, so that the client can poll for new ones. Resolves to false if the
 * tokens cannot be taken back. One possible reason is that the content of the push cannot be decrypted, so that it is
 * not known whether the tokens were issued for this push.
 */
export type TakeBackForPoll = (request: AuthenticationRequest, now: number) => Promise<boolean>

/**
 * Returns the function that takes back the tokens if a client has left push mode and polls before the next attempt to
 * send the push. Call this function only for a redeemed request of a client that is not registered for push.
 */
export function createTakeBackForPoll(needs: TakeBackNeeds): TakeBackForPoll {
  const takeBack = createTakeBack(needs)
  return async ({ id }, now) => {
    const messages = await needs.outbox.undeliveredAbout(id)
    const holding = messages.find((message) => {
      const content = contentOf(message, needs.vault)
      return content !== undefined && holdsTokens(content)
    })
    return holding !== undefined && takeBack(holding, { mode: 'poll', settles: true, now })
  }
}
