/**
 * A notification to a client or to the device of a user. Each notification is stored before it is sent, and retried
 * until it is delivered or parked. The outbox does not depend on CIBA, because the caller supplies the functions that
 * send each kind of notification.
 */
import { newId, type Vault } from '../platform/crypto.ts'

export type NotificationState = 'waiting' | 'sending' | 'delivered' | 'parked'

/** A notification without its content. Times are in milliseconds since 1970. */
export interface Notification {
  id: string
  kind: string
  /** The internal id of the authentication request or of the user that the notification is about. */
  subject: string
  /**
   * The receiver, for the concurrency limits. Messages of a kind are grouped by receiver, so that a receiver that hangs
   * delays only its own messages.
   */
  receiver: string
  /** The address to which the notification is sent. Not secret. */
  address: string | undefined
  state: NotificationState
  createdAt: number
  /**
   * The time of the next attempt. During an attempt: the end of the lease. From this time on, another worker may claim
   * the notification.
   */
  dueAt: number
  /** From this time on, no attempt is made. */
  giveUpAt: number
  attempts: number
  /** The outcome of the last attempt, in a few words. */
  lastOutcome: string | undefined
  settledAt: number | undefined
}

/** A notification with its encrypted content. Lists and logs never contain the content. */
export interface OutboxMessage extends Notification {
  sealed: string | undefined
  /** Identifies the claim of the message by a worker. Only the worker with this claim may record the outcome. */
  lease: string | undefined
  /**
   * The time at which a user or an operator revoked the tokens in the content. The function that sends the message
   * decides what is sent instead.
   */
  revokedAt: number | undefined
}

/**
 * Returns the additional authenticated data of the content. Content that is copied to another row cannot be decrypted.
 */
export const contentAad = (notificationId: string) => `notifications/${notificationId}`

/** The data from which a notification is composed. `giveUpAt` is in milliseconds since 1970. */
export interface NewNotification {
  kind: string
  subject: string
  receiver: string
  address?: string | undefined
  /** Stored as encrypted JSON, and erased on delivery. */
  content: unknown
  giveUpAt: number
}

/** Returns a new message, due at once, with its content encrypted. */
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
    revokedAt: undefined,
    state: 'waiting',
    createdAt: now,
    dueAt: now,
    giveUpAt: notification.giveUpAt,
    attempts: 0,
    lastOutcome: undefined,
    settledAt: undefined,
  }
}

/** The outcome of an attempt. */
export type Outcome =
  | { kind: 'delivered'; words: string }
  /**
   * A later attempt may succeed. `after` is the pause in milliseconds that the receiver asked for. From `usefulUntil`
   * on, no attempt is made, because the receiver could not use the message any more. If `usefulUntil` is undefined,
   * only `giveUpAt` applies.
   */
  | { kind: 'failed'; words: string; after?: number; usefulUntil?: number }
  /** A retry would not help, so the notification is parked for an operator. */
  | { kind: 'refused'; words: string }

/**
 * The state after an attempt. A waiting message also has the time of the next attempt. A parked message also has the
 * reason.
 */
export type NextState =
  | { state: 'delivered' }
  | { state: 'waiting'; dueAt: number }
  | { state: 'parked'; reason: string }

/**
 * Milliseconds between the first and the second attempt. Each further pause is twice as long as the previous pause, up
 * to `longestPause`. `nextState` then shortens the pause at random, by up to half.
 */
const firstPause = 500
const longestPause = 60_000
/** The longest pause, in milliseconds, that a receiver can ask for, for example by `Retry-After`. */
export const longestRetryAfterMs = 3_600_000

/**
 * Returns the state after an attempt.
 *
 * @param attempts the maximum number of attempts
 * @param dice a random number from 0 to 1. The pauses vary with this number, so that messages that failed at the same
 *   time are retried at different times
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
  const dueAt = now + Math.ceil(Math.max(pause, Math.min(outcome.after ?? 0, longestRetryAfterMs)))
  if (dueAt >= Math.min(message.giveUpAt, outcome.usefulUntil ?? message.giveUpAt))
    return { state: 'parked', reason: `${outcome.words}; no time left for another attempt` }
  return { state: 'waiting', dueAt }
}
