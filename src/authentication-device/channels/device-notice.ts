/** How the user's device hears of a request: a notification through each channel that reaches the user. */
import { type AuthenticationRequest, isDecoy } from '../../ciba/authentication-request/authentication-request.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { Client } from '../../client/client.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { Send, Senders } from '../../outbox/delivery.ts'
import { compose, type OutboxMessage, type Outcome } from '../../outbox/notification.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { AccountChange, PendingRequest, User, UserHooks } from '../../user/user.ts'
import type { NumberMatching } from '../number-matching.ts'
import { selfRegistration } from '../shown-client.ts'

/** What the user is told. It holds nothing that could be used: the link only leads to where the user signs in. */
export interface Notice {
  /** The same when it is sent again, so that repeats can be recognised. */
  id: string
  request: PendingRequest
  user: User
  link: string
}

/** What a user is told of a change of their account. */
export interface AccountNotice {
  change: AccountChange
  user: User
}

/** A way to reach a user: mail, a push message, … */
export interface Channel {
  /** Names the channel in the outbox: the notification's kind. */
  kind: string
  /** Whether it could reach this user, as far as one can tell beforehand. */
  reaches(user: User): boolean | Promise<boolean>
  /** Whose slowness a notice may suffer from: by default the channel's, as all its notices go the same way. */
  receiverOf?(user: User): string
  /** Whether a program takes the notice and shows it as it sees fit, and not the user. Programs pick no numbers. */
  toProgram?: boolean
  /** May be called again for a notice that did arrive. Must settle soon after `signal` fires. */
  send(notice: Notice, signal: AbortSignal): Promise<Outcome>
  /** The same for a change of the user's account; missing where none can be told. */
  sendAccount?(notice: AccountNotice, signal: AbortSignal): Promise<Outcome>
}

/** The notifications for a new request, one a channel that reaches the user. */
export async function noticesFor(
  request: AuthenticationRequest,
  user: User,
  channels: readonly Channel[],
  vault: Vault,
): Promise<OutboxMessage[]> {
  const reaching = await Promise.all(channels.map((channel) => channel.reaches(user)))
  return channels
    .filter((_channel, index) => reaching[index])
    .map((channel) => composeNotice(channel, request, user, vault))
}

/** Whom it is for is looked up when it is sent: an address may lie in the content of a mail, not in a table. */
function composeNotice(channel: Channel, request: AuthenticationRequest, user: User, vault: Vault): OutboxMessage {
  const receiver = channel.receiverOf?.(user) ?? channel.kind
  const notification = { kind: channel.kind, subject: request.id, receiver, content: {}, giveUpAt: request.expiresAt }
  return compose(notification, request.createdAt, vault)
}

export interface NoticeNeeds {
  findRequest: RequestStore['find']
  clients: ClientStore
  users: UserHooks
  /** Which numbers users pick from. What they are to pick must not be read out to them before. */
  numbers: NumberMatching
  issuer: string
}

/**
 * By kind, how the notices of requests are sent: until the request runs out, for a mail server that is down for an hour is
 * up again while it still waits.
 */
export function createNoticeSenders(channels: readonly Channel[], needs: NoticeNeeds): Senders {
  const senderOf = (channel: Channel) => ({ send: createSend(channel, needs), isTriedToTheEnd: true })
  return Object.fromEntries(channels.map((channel) => [channel.kind, senderOf(channel)]))
}

/** A request that is no longer pending needs nobody's attention. */
function createSend(channel: Channel, needs: NoticeNeeds): Send {
  return async (message, signal) => {
    const request = await needs.findRequest(message.subject)
    if (request?.status !== 'pending') return { kind: 'delivered', words: 'no longer needed' }
    // The row is written so that storing the request takes as long as for any other; a decoy user gets no message.
    if (isDecoy(request)) return { kind: 'delivered', words: 'decoy user: nothing to send' }
    const user = await needs.users.find(request.userId)
    if (user === null || user.disabled) return { kind: 'refused', words: 'the user no longer exists or is disabled' }

    const client = await needs.clients.find(request.clientId)
    const link = `${needs.issuer}/approve/${request.id}`
    const toPick = !channel.toProgram && needs.numbers.choicesFor(request) !== undefined
    const described = { ...describe(request, client), ...(toPick && { binding_message: undefined }) }
    return channel.send({ id: message.id, request: described, user, link }, signal)
  }
}

/** The fields of /backchannel/authinfo that matter while it waits. */
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
    binding_message: request.bindingMessage,
    ...(request.authorizationDetails && { authorization_details: request.authorizationDetails }),
    ...(request.resources && { resource: request.resources }),
    acr_values: request.acrValues,
    created_at: Math.floor(request.createdAt / 1000),
    expires_at: Math.floor(request.expiresAt / 1000),
  }
}
