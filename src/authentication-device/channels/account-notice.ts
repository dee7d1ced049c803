/**
 * How users hear that their account was changed: a notification through each channel, written in the step of the change.
 * It is about no request.
 */

import type { Send, Senders } from '../../outbox/delivery.ts'
import { compose, contentAad, type OutboxMessage } from '../../outbox/notification.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { AccountChange, UserHooks } from '../../user/user.ts'
import type { Channel } from './device-notice.ts'

/** A change, as what makes it tells of it. */
export interface NewAccountChange {
  type: AccountChange['type']
  userId: string
  /** Which browser on which system, if known: of our own list, as it is mailed. */
  browser?: string
}

/** Milliseconds after which a change is not told any more. */
const life = 24 * 3600_000

const kindOf = (channel: string) => `account_${channel}`

/** Whether notifications of this kind are about a user, and not about a request. */
export const isAboutAccount = (kind: string): boolean => kind.startsWith(kindOf(''))

/** As much of the configuration as says which channels there are: a command has none of its own. */
interface ChannelSettings {
  development: boolean
  email?: unknown
  webPush?: unknown
  deviceWebhook?: unknown
  users: object
}

/** The kinds of the notifications that tell of a change: one for each channel that is set up. */
export function accountKindsOf(config: ChannelSettings): string[] {
  const isSetUp = {
    mailbox: config.development,
    email: config.email !== undefined,
    web_push: config.webPush !== undefined,
    device_webhook: config.deviceWebhook !== undefined,
    notify: 'notifyAccount' in config.users,
  }
  return Object.entries(isSetUp).flatMap(([channel, is]) => (is ? [kindOf(channel)] : []))
}

/** The notifications of a change, for the step that makes it. Whom a channel reaches is found out when they are sent. */
export type NoticesOfChange = (change: NewAccountChange) => OutboxMessage[]

export function createNoticesOfChange(needs: {
  kinds: readonly string[]
  vault: Vault
  clock: Clock
}): NoticesOfChange {
  return ({ type, userId, browser }) => {
    const now = needs.clock.now()
    // Whatever is slow for one user holds up no other.
    const common = {
      subject: userId,
      receiver: `user/${userId}`,
      content: { type, browser: browser || undefined },
      giveUpAt: now + life,
    }
    return needs.kinds.map((kind) => compose({ kind, ...common }, now, needs.vault))
  }
}

export interface AccountNoticeNeeds {
  users: UserHooks
  /** Where users see what can be done in their account, and end what is not theirs. */
  link: string
  vault: Vault
}

/** By kind, how the notifications of a change are sent. */
export function createAccountNoticeSenders(channels: readonly Channel[], needs: AccountNoticeNeeds): Senders {
  const senderOf = (channel: Channel) => ({ send: createSend(channel, needs), isTriedToTheEnd: true })
  return Object.fromEntries(channels.map((channel) => [kindOf(channel.kind), senderOf(channel)]))
}

function createSend(channel: Channel, { users, link, vault }: AccountNoticeNeeds): Send {
  return async (message, signal) => {
    const user = await users.find(message.subject)
    // A locked user is told too: it is their account that was changed.
    if (user === null) return { kind: 'refused', words: 'the user no longer exists' }
    // Whom a program reaches, only the program knows.
    if (channel.sendAccount === undefined || !(channel.toProgram || (await channel.reaches(user)))) {
      return { kind: 'delivered', words: 'not needed: this channel does not reach the user' }
    }
    const content = JSON.parse(vault.open(message.sealed!, contentAad(message.id))) as Pick<
      AccountChange,
      'type' | 'browser'
    >
    const change = {
      id: message.id,
      ...content,
      user_id: user.id,
      changed_at: Math.floor(message.createdAt / 1000),
      link,
    }
    return channel.sendAccount({ change, user }, signal)
  }
}
