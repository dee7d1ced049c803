/**
 * Sends messages within the concurrency limits. If older messages to a receiver wait, a new message to this receiver
 * waits behind them.
 */
import type { Clock } from '../platform/clock.ts'
import { createBacklog } from './backlog.ts'
import { type Attempt, type Capacity, createConcurrencyLimits } from './concurrency-limits.ts'
import type { Progress } from './delivery.ts'
import type { OutboxMessage, Outcome } from './notification.ts'

export interface SendingNeeds {
  /** The kinds of messages that can be sent. */
  kinds(): string[]
  /** Sends a message and records the outcome. */
  deliver(message: OutboxMessage, progress: Progress): Promise<Outcome['kind'] | undefined>
  /** Called when a receiver or a kind has capacity again, and when a message may be due again. */
  onChance(): void
  /** Returns true while a caller is waiting for the end of all attempts. */
  isAwaited(): boolean
  clock: Pick<Clock, 'after'>
}

/** A receiver that responds within this many milliseconds counts as quick. */
const quickMs = 1_000

export type Sending = ReturnType<typeof createSending>

/** Returns the functions that reserve capacity and send messages. */
export function createSending({ kinds, deliver, onChance, isAwaited, clock }: SendingNeeds) {
  const limits = createConcurrencyLimits()
  const backlog = createBacklog()
  const underWay = new Set<Promise<void>>()

  /** The attempts whose capacity is reserved and that have not begun yet, by id of the message. */
  const reserved = new Map<string, Attempt>()

  /**
   * Frees the capacity that an attempt used. If all capacity was in use until now, other messages may be waiting, so
   * `onChance` is called.
   */
  function freeCapacity(attempt: Attempt, manner?: 'quickly' | 'badly'): void {
    const wasFull = limits.fullPlace(attempt.receiver, attempt.standing) !== undefined
    limits.end(attempt, manner)
    if (wasFull) onChance()
  }

  function takeReserved({ id }: OutboxMessage): Attempt {
    const attempt = reserved.get(id)!
    reserved.delete(id)
    return attempt
  }

  function send(message: OutboxMessage, attempt: Attempt): void {
    let hangs = false
    const whenLate = (work: () => void) =>
      clock.after(quickMs, () => {
        work()
        onChance()
      })
    // A delay before the receiver is called is not caused by the receiver, but for example by a slow look-up of the
    // user. So this delay frees the slot, but does not change the standing of the receiver.
    let stopTimer = whenLate(() => limits.giveUpSlot(attempt))
    const onCall = () => {
      stopTimer()
      stopTimer = whenLate(() => {
        hangs = true
        limits.hang(attempt)
      })
    }
    const sent = deliver(message, { onCall, onAnswer: () => stopTimer() }).then((outcome) => {
      underWay.delete(sent)
      freeCapacity(attempt, hangs ? undefined : outcome && (outcome === 'delivered' ? 'quickly' : 'badly'))
      // A message that was not delivered may be due again soon.
      if (outcome !== 'delivered' || isAwaited()) onChance()
    })
    underWay.add(sent)
  }

  return {
    /**
     * If there is capacity for a message and no older message waits for this capacity, reserves the capacity and
     * returns true. If not, returns false: the message has to wait, and later messages wait behind this message.
     */
    reserve(message: OutboxMessage): boolean {
      const { kind, receiver } = message
      const full = limits.fullPlace(message)
      const isNext = full === undefined && !backlog.isBefore(message, limits.standingOf(message))
      if (isNext) reserved.set(message.id, limits.begin(message))
      // The message also counts as waiting for its receiver, because the standing of the receiver may change while the
      // message waits.
      else for (const place of [full ?? { kind, receiver }, { kind, receiver }]) backlog.note(place)
      return isNext
    },
    /** Sends a message for which capacity was reserved. */
    send: (message: OutboxMessage) => send(message, takeReserved(message)),
    /** Frees the capacity that was reserved for a message, without sending the message. */
    release: (message: OutboxMessage) => freeCapacity(takeReserved(message)),
    /** Claims and sends as many due messages as there is capacity for. @returns the number of claimed messages */
    async takeOn(claim: (room: Capacity) => Promise<OutboxMessage[]>): Promise<number> {
      const room = limits.room(kinds())
      if (room.kinds.every(({ room }) => room === 0)) return 0
      const updateBacklog = backlog.look(room)
      const messages = await claim(room)
      for (const message of messages) send(message, limits.begin(message))
      updateBacklog(messages)
      return messages.length
    },
    underWay: (): readonly Promise<void>[] => [...underWay],
    isIdle: () => underWay.size === 0,
  }
}
