/** Makes one attempt to send a notification, and records the outcome. */
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { Statement } from '../platform/storage/database.ts'
import { nextState, type OutboxMessage, type Outcome } from './notification.ts'
import type { OutboxStore } from './outbox-store.ts'

/**
 * Sends a notification of one kind. Delivery is at least once: the function may be called again for a notification that
 * has already arrived. The returned promise must settle soon after `signal` is aborted. The function calls `onCall`
 * directly before it calls the receiver, so that the response time of the receiver can be measured.
 */
export type Send = (message: OutboxMessage, signal: AbortSignal, onCall: () => void) => Promise<Outcome>

/** How one kind of notification is sent. */
export interface Sender {
  send: Send
  /** Whether attempts continue until `giveUpAt`, without a limit for the number of failed attempts. */
  isTriedToTheEnd?: boolean
  /**
   * Called if the receiver has refused the notification permanently. The transaction that parks the notification also
   * executes the statements that this function returns.
   */
  whenRefused?(message: OutboxMessage): Promise<Refusal | undefined>
}

/** Additional work of the transaction that parks a refused notification. */
export interface Refusal {
  statements: Statement[]
  /** Transactions that share a key do not run at the same time, on any node. */
  lockKeys: string[]
  /** Called when the transaction is committed. */
  recorded(): void
}

/** The senders by kind. */
export type Senders = Readonly<Record<string, Sender>>

export interface DeliveryNeeds {
  outbox: OutboxStore
  /** Number of failed attempts after which a notification is parked. */
  attempts: number
  /** Returns whether the subject of notifications of this kind is a user. If not, the subject is a request. */
  isAboutUser?: (kind: string) => boolean
  clock: Clock
  log: Log
  audit: Audit
}

/**
 * Makes one attempt. Resolves to the kind of outcome. Resolves to undefined if the message was not sent, or if its
 * outcome could not be recorded.
 */
export type Deliver = (
  message: OutboxMessage,
  signal: AbortSignal,
  progress: Progress,
) => Promise<Outcome['kind'] | undefined>

/**
 * Functions that are called during an attempt. The time between `onCall` and `onAnswer` is the response time of the
 * receiver.
 */
export interface Progress {
  /** Called directly before the receiver is called. Not called if there is nothing to send. */
  onCall(): void
  /** Called when the attempt has ended, before its outcome is recorded. */
  onAnswer(): void
}

/**
 * Returns the function that makes one attempt and records the outcome. The promise that this function returns never
 * rejects.
 */
export function createDelivery(senders: Senders, { outbox, clock, log, audit, ...options }: DeliveryNeeds): Deliver {
  async function attempt(
    message: OutboxMessage,
    signal: AbortSignal,
    onCall: () => void,
  ): Promise<Outcome | 'stopped'> {
    if (signal.aborted) return 'stopped'
    const sender = senders[message.kind]
    if (sender === undefined) return { kind: 'refused', words: `no sender for the kind ${message.kind}` }
    if (clock.now() >= message.giveUpAt) return { kind: 'refused', words: 'it expired before it could be sent' }
    try {
      return await sender.send(message, signal, onCall)
    } catch (error) {
      if (signal.aborted) return 'stopped'
      log.error({ event: 'outbox.attempt_failed', notification: message.id, kind: message.kind, error })
      return { kind: 'failed', words: 'an internal error' }
    }
  }

  async function record(message: OutboxMessage, outcome: Outcome): Promise<void> {
    const now = clock.now()
    const attempts = senders[message.kind]?.isTriedToTheEnd ? Number.POSITIVE_INFINITY : options.attempts
    const next = nextState(outcome, message, now, attempts, Math.random())
    const subject = options.isAboutUser?.(message.kind) ? { user: message.subject } : { request: message.subject }
    const about = { ...subject, by: message.kind, about: message.id, attempt: message.attempts }
    const tell = (event: 'delivered' | 'failed' | 'parked', outcome: string) =>
      audit({ event: `notification.${event}`, ...about, outcome })
    // If the lease has ended, another worker may have claimed the message. In this case, the functions of the outbox
    // resolve to false, and the outcome is not audited.
    switch (next.state) {
      case 'delivered':
        if (await outbox.delivered(message, outcome.words, now)) tell('delivered', outcome.words)
        return
      case 'waiting':
        if (await outbox.reschedule(message, outcome.words, next.dueAt)) tell('failed', outcome.words)
        return
      case 'parked': {
        const refusal = outcome.kind === 'refused' ? await senders[message.kind]?.whenRefused?.(message) : undefined
        if (!(await outbox.park(message, next.reason, now, refusal))) return
        tell('parked', next.reason)
        refusal?.recorded()
      }
    }
  }

  return async function deliver(message, signal, { onCall, onAnswer }) {
    try {
      const outcome = await attempt(message, signal, onCall)
      onAnswer()
      if (outcome === 'stopped') await outbox.releaseLease(message, clock.now())
      else await record(message, outcome)
      return outcome === 'stopped' ? undefined : outcome.kind
    } catch (error) {
      // If the outcome could not be recorded, a worker claims the message again after the lease has ended.
      log.error({ event: 'outbox.record_failed', notification: message.id, error })
      return undefined
    }
  }
}
