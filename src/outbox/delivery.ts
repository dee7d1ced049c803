/** One attempt to send a notification, and what is written down of it. */
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import { judge, type Letter, type Outcome } from './notification.ts'
import type { OutboxStore } from './outbox-store.ts'

/**
 * How a kind of notification is sent. It may be called again for a notification that did arrive, so the receiver hears
 * at least once. Must settle soon after `signal` fires.
 */
export type Send = (letter: Letter, signal: AbortSignal) => Promise<Outcome>

/** One kind of notification. */
export interface Sender {
  send: Send
  /** Whether it is tried as long as it has time, however often that is. */
  isTriedToTheEnd?: boolean
}

/** By kind. */
export type Senders = Readonly<Record<string, Sender>>

export interface DeliveryNeeds {
  outbox: OutboxStore
  /** Attempts before a notification is parked. */
  attempts: number
  /** Whether the subject of a kind is a user; that of the others is a request. */
  isAboutUser?: (kind: string) => boolean
  clock: Clock
  log: Log
  audit: Audit
}

/** Resolves to what came of it; to nothing, if it was not sent, or if that could not be written down. */
export type Deliver = (letter: Letter, signal: AbortSignal) => Promise<Outcome['kind'] | undefined>

export function createDelivery(senders: Senders, { outbox, clock, log, audit, ...options }: DeliveryNeeds): Deliver {
  async function attempt(letter: Letter, signal: AbortSignal): Promise<Outcome | 'stopped'> {
    if (signal.aborted) return 'stopped'
    const sender = senders[letter.kind]
    if (sender === undefined) return { kind: 'refused', words: `no sender for the kind ${letter.kind}` }
    if (clock.now() >= letter.giveUpAt) return { kind: 'refused', words: 'it expired before it could be sent' }
    try {
      return await sender.send(letter, signal)
    } catch (error) {
      if (signal.aborted) return 'stopped'
      log.error({ event: 'outbox.attempt_failed', notification: letter.id, kind: letter.kind, error })
      return { kind: 'failed', words: 'an internal error' }
    }
  }

  async function record(letter: Letter, outcome: Outcome): Promise<void> {
    const now = clock.now()
    const attempts = senders[letter.kind]?.isTriedToTheEnd ? Number.POSITIVE_INFINITY : options.attempts
    const verdict = judge(outcome, letter, now, attempts, Math.random())
    const subject = options.isAboutUser?.(letter.kind) ? { user: letter.subject } : { request: letter.subject }
    const about = { ...subject, by: letter.kind, about: letter.id, attempt: letter.attempts }
    const tell = (event: 'delivered' | 'failed' | 'parked', outcome: string) =>
      audit({ event: `notification.${event}`, ...about, outcome })
    // Whose lease ended meanwhile has nothing to say: another worker knows more.
    switch (verdict.state) {
      case 'delivered':
        if (await outbox.delivered(letter, outcome.words, now)) tell('delivered', outcome.words)
        return
      case 'waiting':
        if (await outbox.putBack(letter, outcome.words, verdict.dueAt)) tell('failed', outcome.words)
        return
      case 'parked':
        if (await outbox.park(letter, verdict.reason, now)) tell('parked', verdict.reason)
    }
  }

  return async function deliver(letter, signal) {
    try {
      const outcome = await attempt(letter, signal)
      if (outcome === 'stopped') await outbox.handBack(letter, clock.now())
      else await record(letter, outcome)
      return outcome === 'stopped' ? undefined : outcome.kind
    } catch (error) {
      // The lease will end by itself, and then somebody takes it on again.
      log.error({ event: 'outbox.record_failed', notification: letter.id, error })
      return undefined
    }
  }
}
