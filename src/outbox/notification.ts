/**
 * A notification: something that must reach somebody, kept until it has. The outbox knows no CIBA: what a kind says
 * and where it goes is composed by a function handed in under the kind's name.
 */
import { newId, type Vault } from '../platform/crypto.ts'

export type NotificationState = 'waiting' | 'sending' | 'delivered' | 'parked'

export interface Notification {
  id: string
  kind: string
  /** What it is about: an internal id. */
  subject: string
  /** Who it goes to, as far as one receiver's slowness is concerned. */
  receiver: string
  /** Where it goes. Not secret. */
  address: string | undefined
  state: NotificationState
  createdAt: number
  /** When to send it next; while it is being sent, when another worker may take it over. Milliseconds since 1970. */
  dueAt: number
  /** After this it is not tried again. */
  giveUpAt: number
  attempts: number
  /** What the last attempt came to, in a few words. */
  lastOutcome: string | undefined
  settledAt: number | undefined
}

/** A notification together with what it says; the content never appears in a listing or a log. */
export interface OutboxMessage extends Notification {
  sealed: string | undefined
  /** Shows that the one who reports the outcome is the one who took it on. */
  lease: string | undefined
}

/** Where a notification's content lies sealed, so that it opens nowhere else. */
export const contentAad = (notificationId: string) => `notifications/${notificationId}`

export interface NewNotification {
  kind: string
  subject: string
  receiver: string
  address?: string | undefined
  /** JSON. Sealed as long as it lies in the outbox, erased on delivery. */
  content: unknown
  giveUpAt: number
}

/** A new notification, due at once. */
export function compose(notification: NewNotification, now: number, vault: Vault): OutboxMessage {
  const id = newId(now)
  return {
    id,
    kind: notification.kind,
    subject: notification.subject,
    receiver: notification.receiver,
    address: notification.address,
    sealed: vault.seal(JSON.stringify(notification.content), contentAad(id)),
    lease: undefined,
    state: 'waiting',
    createdAt: now,
    dueAt: now,
    giveUpAt: notification.giveUpAt,
    attempts: 0,
    lastOutcome: undefined,
    settledAt: undefined,
  }
}

/** What an attempt came to. */
export type Outcome =
  | { kind: 'delivered'; words: string }
  /** Worth another try. `after`: milliseconds the receiver asked us to wait. */
  | { kind: 'failed'; words: string; after?: number }
  /** Trying again would not help: somebody has to look at it. */
  | { kind: 'refused'; words: string }

export type NextState =
  | { state: 'delivered' }
  | { state: 'waiting'; dueAt: number }
  | { state: 'parked'; reason: string }

/** Milliseconds before the second attempt; each further pause is twice as long, up to the longest. */
const firstPause = 500
const longestPause = 60_000

/**
 * What follows from an attempt. `dice` (0 to 1) spreads the pauses, so that receivers that failed together are not
 * all tried again together.
 */
export function nextState(
  outcome: Outcome,
  message: Pick<Notification, 'attempts' | 'giveUpAt'>,
  now: number,
  attempts: number,
  dice: number,
): NextState {
  if (outcome.kind === 'delivered') return { state: 'delivered' }
  if (outcome.kind === 'refused') return { state: 'parked', reason: outcome.words }
  if (message.attempts >= attempts)
    return { state: 'parked', reason: `${outcome.words}; all ${attempts} attempts used` }
  const pause = Math.min(firstPause * 2 ** (message.attempts - 1), longestPause) * (0.5 + dice / 2)
  const dueAt = now + Math.ceil(Math.max(pause, outcome.after ?? 0))
  if (dueAt >= message.giveUpAt)
    return { state: 'parked', reason: `${outcome.words}; no time left for another attempt` }
  return { state: 'waiting', dueAt }
}
