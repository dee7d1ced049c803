/** How the user's device hears of a request: a notification through each channel that is wired. */
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { ClientStore } from '../client/client-store.ts'
import { compose, type Letter } from '../outbox/notification.ts'
import type { Send } from '../outbox/outbox-worker.ts'
import type { Vault } from '../secret.ts'
import type { User, UserHooks } from '../user-hint/user.ts'

/** What the user is told. It holds nothing that could be used: the link only leads to where the user signs in. */
export interface Notice {
  requestId: string
  to: string
  clientName: string
  bindingMessage: string | undefined
  link: string
  /** Milliseconds since 1970. */
  expiresAt: number
}

/** A way to reach a user: mail, a push message, … It may be called twice for one notice. */
export interface Channel {
  /** Names the channel in the outbox: the notification's kind. */
  kind: string
  /** Where this user is reached, or nothing if this channel does not reach them. */
  addressOf(user: User): string | undefined
  send(notice: Notice): Promise<void>
}

/** The notifications for a new request, one a channel that reaches the user. */
export function noticesFor(
  request: AuthenticationRequest,
  user: User,
  channels: readonly Channel[],
  vault: Vault,
): Letter[] {
  return channels
    .filter((channel) => channel.addressOf(user) !== undefined)
    .map((channel) =>
      compose(
        // Whom it is for is looked up when it is sent: an address may lie in the content of a mail, not in a table.
        { kind: channel.kind, subject: request.id, lane: channel.kind, content: {}, giveUpAt: request.expiresAt },
        request.createdAt,
        vault,
      ),
    )
}

export interface NoticeNeeds {
  findRequest(id: string): Promise<AuthenticationRequest | undefined>
  clients: ClientStore
  users: UserHooks
  issuer: string
}

/** Sends the notices of one channel. A request that is no longer pending needs nobody's attention. */
export function createNoticeSender(channel: Channel, needs: NoticeNeeds): Send {
  return async (letter) => {
    const request = await needs.findRequest(letter.subject)
    if (request?.status !== 'pending') return { kind: 'delivered', words: 'not needed any more' }
    const user = await needs.users.find(request.userId)
    const to = user === null ? undefined : channel.addressOf(user)
    if (to === undefined) return { kind: 'refused', words: `${channel.kind} does not reach the user` }

    const client = await needs.clients.find(request.clientId)
    await channel.send({
      requestId: request.id,
      to,
      clientName: client?.metadata.client_name ?? request.clientId,
      bindingMessage: request.bindingMessage,
      link: `${needs.issuer}/approve/${request.id}`,
      expiresAt: request.expiresAt,
    })
    return { kind: 'delivered', words: `handed to ${channel.kind}` }
  }
}
