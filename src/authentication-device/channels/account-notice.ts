/**
 * Notifies users of changes of their account. The transaction of a change stores one message for each channel. These
 * messages do not belong to an authentication request.
 */

import type { Send, Senders } from '../../outbox/delivery.ts'
import { compose, contentAad, type OutboxMessage } from '../../outbox/notification.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import { untilAborted, untilTimeout } from '../../platform/until-aborted.ts'
import type { AccountChange, UserHooks } from '../../user/user.ts'
import type { Channel } from './device-notice.ts'

/** A change of an account. */
export interface NewAccountChange {
  type: AccountChange['type']
  userId: string
  /**
   * The names of the browser and the operating system, if known. Both names come from a fixed list, so that the mail
   * contains no text that the caller chose.
   */
  browser?: string
}

/** Milliseconds after a change during which its notifications are retried. */
const life = 24 * 3600_000

const kindOf = (channel: string) => `account_${channel}`

/** Returns whether notifications of this kind are about a change of an account, and not about a request. */
export const isAboutAccount = (kind: string): boolean => kind.startsWith(kindOf(''))

/**
 * The settings that determine which channels exist. A command creates no channels, so it reads these settings instead.
 */
interface ChannelSettings {
  development: boolean
  email?: unknown
  webPush?: unknown
  deviceWebhook?: unknown
  users: object
}

/** Returns the kinds of the notifications that a change causes: one for each configured channel. */
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

/**
 * Returns the notifications that a change causes. Store them in the transaction of the change. Whether a channel
 * reaches the user is checked later, when the notification is sent.
 */
export type NoticesOfChange = (change: NewAccountChange) => OutboxMessage[]

export function createNoticesOfChange(needs: {
  kinds: readonly string[]
  vault: Vault
  clock: Clock
}): NoticesOfChange {
  return ({ type, userId, browser }) => {
    const now = needs.clock.now()
    // Each user is a separate receiver, so that slow deliveries to one user do not delay deliveries to other users.
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
  /** Milliseconds that the look-up of the user may take. */
  timeout: number
  /** The page on which users check their sessions or passkeys, and remove those that are not theirs. */
  link: string
  vault: Vault
}

/** Returns the senders of notifications about changes, by kind. */
export function createAccountNoticeSenders(channels: readonly Channel[], needs: AccountNoticeNeeds): Senders {
  const senderOf = (channel: Channel) => ({ send: createSend(channel, needs), isTriedToTheEnd: true })
  return Object.fromEntries(channels.map((channel) => [kindOf(channel.kind), senderOf(channel)]))
}

function createSend(channel: Channel, { users, timeout, link, vault }: AccountNoticeNeeds): Send {
  return async (message, signal, onCall) => {
    const user = await untilAborted(untilTimeout(users.find(message.subject), timeout), signal)
    // A locked user is notified too, because this user's account was changed.
    if (user === null) return { kind: 'refused', words: 'the user no longer exists' }
    // If a channel sends messages to a program, this server does not know which users the program reaches. So it sends
    // every message.
    if (channel.sendAccount === undefined || !(channel.toProgram || (await channel.reaches(user)))) {
      return { kind: 'delivered', words: 'not needed: this channel does not reach the user' }
    }
    const sealed = message.sealed!
    const content = vault.openJson<Pick<AccountChange, 'type' | 'browser'>>(sealed, contentAad(message.id))
    if (content === undefined) return { kind: 'refused', words: 'the content cannot be decrypted' }
    const change = {
      id: message.id,
      ...content,
      user_id: user.id,
      changed_at: Math.floor(message.createdAt / 1000),
      link,
    }
    onCall()
    return channel.sendAccount({ change, user }, signal)
  }
}
