/**
 * Takes back tokens that were issued for a push and that the client has not confirmed, because the client has left the push
 * mode. The request is then approved again, and the client collects the result at the token endpoint. The tokens are
 * revoked: if the client did get them, it would otherwise have two sets.
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

/** The state in which the request and the notification are afterwards. */
export interface TakenBackAs {
  mode: 'poll' | 'ping'
  endpoint?: string | undefined
  /** The new content of the notification, if it is still to be sent. If undefined, the content stays as it is. */
  replaced?: string | undefined
  /** Whether this transaction settles the notification. If not, the caller sends or settles it. */
  settles?: boolean
  now: number
}

/**
 * Resolves to false, and changes nothing, if the push was confirmed, the deadline of the request has passed, or the user has
 * revoked the tokens.
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
 * Takes back the tokens of a redeemed request. Resolves to whether the request can be collected by poll now. It cannot if the
 * content of the push cannot be decrypted: then nothing shows whether the tokens were issued for this push.
 */
export type TakeBackForPoll = (request: AuthenticationRequest, now: number) => Promise<boolean>

/**
 * Returns the function that takes back the tokens when a client that has left the push mode polls before the next attempt
 * of its push. Call it only for a redeemed request of a client that is not registered for push.
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
