/** Notifies users by push messages to their subscribed browsers (RFC 8030, RFC 8291). */

import { type Post, post } from '../../ciba/client-notification/notification-endpoint.ts'
import type { Outcome } from '../../outbox/notification.ts'
import type { Clock } from '../../platform/clock.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import type { Texts } from '../../platform/i18n/texts.ts'
import { accountWords } from './account-notice-text.ts'
import type { AccountNotice, Channel, Notice } from './device-notice.ts'
import { wordsFor } from './notice-text.ts'
import type { OwnSubscription, PushSubscription, PushSubscriptions } from './push-subscriptions.ts'
import type { VapidKeys } from './vapid-keys.ts'

export interface WebPushNeeds {
  /** The contact for push services (RFC 8292 §2.1): `mailto:` or `https:`. */
  subject: string
  keys: VapidKeys
  subscriptions: PushSubscriptions
  texts: Texts
  caller: GuardedCaller
  clock: Clock
}

/** The message that the service worker shows. */
export interface PushMessage {
  /** Only for a message about a request. */
  request_id?: string
  title: string
  body: string
  link: string
  /** In the browser, a message replaces an earlier message with the same tag. */
  tag: string
  /** The buttons of the notification. Each button only opens the page, because a user must sign in to decide. */
  actions: { action: 'approve' | 'deny'; title: string }[]
}

interface Push {
  userId: string
  message: PushMessage
  /** After this time, in seconds since 1970, the push service may discard the message. */
  expiresAt: number
}

export function createWebPushChannel(needs: WebPushNeeds): Channel {
  const { texts } = needs
  return {
    kind: 'web_push',
    reaches: (user) => needs.subscriptions.has(user.id),
    // The user's browser chooses the push service. Each user is a separate receiver, so that a push service that does
    // not respond delays only messages to this user.
    receiverOf: (user) => `web_push/${user.id}`,
    send: (notice, signal) =>
      sendToAll(
        { userId: notice.user.id, message: messageOf(notice, texts), expiresAt: notice.request.expires_at },
        signal,
      ),
    sendAccount: (notice, signal) => sendToAll(accountPush(notice, texts), signal),
  }

  async function sendToAll(push: Push, signal: AbortSignal): Promise<Outcome> {
    const subscriptions = await needs.subscriptions.of(push.userId)
    return sum(await Promise.all(subscriptions.map((one) => sendTo(one, push, needs, signal))))
  }
}

async function sendTo(
  subscription: OwnSubscription,
  push: Push,
  needs: WebPushNeeds,
  signal: AbortSignal,
): Promise<Outcome> {
  const message = await tryToEncrypt(subscription, push, needs)
  const outcome: Outcome & { status?: number } =
    message === undefined
      ? { kind: 'refused', words: 'the subscription has an invalid key' }
      : await post({ ...message, receiver: push.userId }, needs.caller, signal)
  if (outcome.kind === 'delivered') await needs.subscriptions.used(subscription.id)
  // 404 and 410 mean that the subscription no longer exists (RFC 8030 §7.3).
  else if (outcome.status === 404 || outcome.status === 410) {
    await needs.subscriptions.remove(push.userId, subscription.endpoint)
  }
  // After several permanent errors other than 404 and 410, the subscription is removed, because it may have been made
  // for another VAPID key. 413 is not counted: it only means that this message is too long.
  else if (outcome.kind === 'refused' && outcome.status !== 413) await needs.subscriptions.refused(subscription.id)
  return outcome
}

/**
 * Encrypts a message for a subscription. Resolves to undefined, and does not throw, if the key of the subscription is
 * invalid: an invalid key of one browser must not prevent messages to the user's other browsers.
 */
async function tryToEncrypt(
  subscription: PushSubscription,
  push: Push,
  needs: WebPushNeeds,
): Promise<Post | undefined> {
  // Imported when the first message is sent, because many servers send no push messages.
  const { default: webPush } = await import('web-push')
  try {
    return encrypt(webPush.generateRequestDetails, subscription, push, needs)
  } catch {
    return undefined
  }
}

function encrypt(
  generate: typeof import('web-push').generateRequestDetails,
  { endpoint, keys }: PushSubscription,
  { message, expiresAt }: Push,
  needs: WebPushNeeds,
): Post {
  const details = generate({ endpoint, keys }, JSON.stringify(message), {
    vapidDetails: { subject: needs.subject, ...needs.keys },
    TTL: Math.max(0, expiresAt - Math.floor(needs.clock.now() / 1000)),
    urgency: 'high',
    // A topic has at most 32 characters. At the push service, a new message replaces an undelivered message that has
    // the same topic (RFC 8030 §5.4).
    topic: message.tag.replaceAll('-', ''),
  })
  const headers = Object.entries(details.headers).map(([header, value]) => [header, String(value)])
  return { url: endpoint, headers: Object.fromEntries(headers), body: details.body }
}

function messageOf(notice: Notice, texts: Texts): PushMessage {
  const { say, clientName, until } = wordsFor(notice, texts)
  const { request_id, binding_message } = notice.request
  return {
    request_id,
    title: shorten(say('mail.subject', { client: clientName })),
    body: shorten(binding_message ?? say('mail.until', { time: until })),
    link: notice.link,
    tag: request_id,
    actions: [
      { action: 'approve', title: say('approve.approve') },
      { action: 'deny', title: say('approve.deny') },
    ],
  }
}

function accountPush(notice: AccountNotice, texts: Texts): Push {
  const { title, when, from, notYou } = accountWords(notice, texts)
  const { id, user_id, changed_at, link } = notice.change
  const body = [[when, from].filter(Boolean).join(' · '), notYou].join('\n')
  const message = { title, body: shorten(body), link, tag: id, actions: [] }
  return { userId: user_id, message, expiresAt: changed_at + secondsInADay }
}

const secondsInADay = 24 * 3600

/** Shortens a text to 240 characters. Push services accept 4096 bytes for the whole message, and screens show less. */
function shorten(text: string): string {
  const letters = [...text]
  return letters.length <= 240 ? text : `${letters.slice(0, 239).join('')}…`
}

/** Combines the outcomes for all browsers. The result is `delivered` if at least one browser got the message. */
function sum(outcomes: Outcome[]): Outcome {
  const those = (kind: Outcome['kind']) => outcomes.filter((outcome) => outcome.kind === kind)
  const count = `${those('delivered').length} of ${outcomes.length} devices`
  if (those('delivered').length > 0) return { kind: 'delivered', words: `accepted for ${count}` }
  const [failed] = those('failed').sort((one, other) => pauseOf(one) - pauseOf(other))
  return failed ?? outcomes[0] ?? { kind: 'refused', words: 'the user has no subscribed device' }
}

const pauseOf = (outcome: Outcome) => (outcome.kind === 'failed' ? (outcome.after ?? 0) : 0)
