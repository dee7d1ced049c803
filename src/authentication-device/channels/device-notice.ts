/** Notifies the user's device of a request: one message through each channel that reaches the user. */
import { type AuthenticationRequest, isDecoy } from '../../ciba/authentication-request/authentication-request.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { Client } from '../../client/client.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { Send, Senders } from '../../outbox/delivery.ts'
import { compose, type OutboxMessage, type Outcome } from '../../outbox/notification.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Vault } from '../../platform/crypto.ts'
import { untilAborted, untilTimeout } from '../../platform/until-aborted.ts'
import type { AccountChange, PendingRequest, User, UserHooks } from '../../user/user.ts'
import type { NumberMatching } from '../number-matching.ts'
import { selfRegistration } from '../shown-client.ts'

/** A message to the user about a request. It contains no secret: the link leads to a page that requires signing in. */
export interface Notice {
  /** The same id at each retry, so that receivers can recognise repeated messages. */
  id: string
  request: PendingRequest
  user: User
  link: string
}

/** A message to a user about a change of their account. */
export interface AccountNotice {
  change: AccountChange
  user: User
}

/** A way to notify a user: mail, a push message, … */
export interface Channel {
  /** The name of the channel. It is also the kind of the channel's messages in the outbox. */
  kind: string
  /** Whether the channel can reach this user, as far as is known before sending. */
  reaches(user: User): boolean | Promise<boolean>
  /**
   * Returns the receiver. A slow delivery delays only messages to the same receiver. By default, all messages of a
   * channel have one receiver.
   */
  receiverOf?(user: User): string
  /** Whether the messages are shown only to a developer. Such messages do not reach the user. */
  isForDevelopers?: boolean
  /** Whether the messages go to a program, which decides what to show. Number matching does not apply to programs. */
  toProgram?: boolean
  /**
   * Sends a message. May be called again for a message that was delivered. The promise must settle soon after `signal`
   * is aborted.
   */
  send(notice: Notice, signal: AbortSignal): Promise<Outcome>
  /** Sends a message about a change of the user's account. Undefined if the channel sends no such messages. */
  sendAccount?(notice: AccountNotice, signal: AbortSignal): Promise<Outcome>
  /** Closes the connections that are kept open for further messages. Called after the last message was sent. */
  close?(): Promise<void>
}

/** Resolves to the messages for a new request: one for each channel that reaches the user. */
export async function noticesFor(
  request: AuthenticationRequest,
  user: User,
  channels: readonly Channel[],
  vault: Vault,
): Promise<OutboxMessage[]> {
  return (await reaching(user, channels)).map((channel) => composeNotice(channel, request, user, vault))
}

/** Resolves to the channels that reach a user. */
async function reaching(user: User, channels: readonly Channel[]): Promise<Channel[]> {
  const reaches = await Promise.all(channels.map((channel) => channel.reaches(user)))
  return channels.filter((_channel, index) => reaches[index])
}

/** Composes a message without the address of the user, because the address is read when the message is sent. */
function composeNotice(channel: Channel, request: AuthenticationRequest, user: User, vault: Vault): OutboxMessage {
  const receiver = channel.receiverOf?.(user) ?? channel.kind
  const notification = { kind: channel.kind, subject: request.id, receiver, content: {}, giveUpAt: request.expiresAt }
  return compose(notification, request.createdAt, vault)
}

export interface NoticeNeeds {
  findRequest: RequestStore['find']
  clients: ClientStore
  users: UserHooks
  /** Milliseconds that the look-up of the user may take. */
  timeout: number
  /** The numbers that users pick from. A message must not reveal the right number. */
  numbers: NumberMatching
  issuer: string
  audit: Audit
}

/**
 * Returns the senders of messages about requests, by kind. Each message is retried until the request expires, because
 * a mail server may be down for an hour while the request is still pending.
 */
export function createNoticeSenders(channels: readonly Channel[], needs: NoticeNeeds): Senders {
  const senderOf = (channel: Channel) => ({ send: createSend(channel, channels, needs), isTriedToTheEnd: true })
  return Object.fromEntries(channels.map((channel) => [channel.kind, senderOf(channel)]))
}

/** Returns the sender of a channel. The sender sends nothing for a request that is no longer pending. */
function createSend(channel: Channel, channels: readonly Channel[], needs: NoticeNeeds): Send {
  return async (message, signal, onCall) => {
    const request = await needs.findRequest(message.subject)
    if (request?.status !== 'pending') return { kind: 'delivered', words: 'no longer needed' }
    // A decoy user gets no message. The outbox contains a message for the decoy user only so that storing the request
    // takes as long as for a real user.
    if (isDecoy(request)) return { kind: 'delivered', words: 'decoy user: nothing to send' }
    const user = await untilAborted(untilTimeout(needs.users.find(request.userId), needs.timeout), signal)
    if (user === null || user.disabled) return { kind: 'refused', words: 'the user no longer exists or is disabled' }

    const client = await needs.clients.find(request.clientId)
    const link = `${needs.issuer}/approve/${request.id}`
    const toPick = !channel.toProgram && needs.numbers.choicesFor(request) !== undefined
    const described = { ...describe(request, client), ...(toPick && { binding_message: undefined }) }
    onCall()
    const outcome = await channel.send({ id: message.id, request: described, user, link }, signal)
    // If the message was refused, it is possible that no channel reaches the user any more, for example because the
    // browser's subscription was removed. An audit event reports such a user.
    if (
      outcome.kind === 'refused' &&
      (await reaching(user, channels)).every(({ isForDevelopers }) => isForDevelopers)
    ) {
      const { id, clientId, userId } = request
      needs.audit({ event: 'device.unreachable', request: id, client: clientId, user: userId, by: channel.kind })
    }
    return outcome
  }
}

/** Returns the fields of the response of /backchannel/authinfo that matter for a pending request. */
function describe(request: AuthenticationRequest, client: Client | undefined): PendingRequest {
  return {
    request_id: request.id,
    user_id: request.userId,
    client: {
      client_id: request.clientId,
      client_name: client?.metadata.client_name,
      logo_uri: client?.metadata.logo_uri,
      ...selfRegistration(client),
    },
    scope: request.scope,
    ...(request.claims && { claims: request.claims }),
    binding_message: request.bindingMessage,
    ...(request.authorizationDetails && { authorization_details: request.authorizationDetails }),
    ...(request.resources && { resource: request.resources }),
    acr_values: request.acrValues,
    created_at: Math.floor(request.createdAt / 1000),
    expires_at: Math.floor(request.expiresAt / 1000),
  }
}
