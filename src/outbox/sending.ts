/** The messages being sent at the moment: within the limit of each receiver, and never ahead of older waiting messages. */
import type { Clock } from '../platform/clock.ts'
import { createBacklog } from './backlog.ts'
import { type Capacity, createConcurrencyLimits, type ReceiverPace } from './concurrency-limits.ts'
import type { OutboxMessage, Outcome } from './notification.ts'

export interface SendingNeeds {
  /** The kinds that can be sent. */
  kinds(): string[]
  deliver(message: OutboxMessage): Promise<Outcome['kind'] | undefined>
  /** Called when capacity became free where there was none, or when a message may be due again. */
  onChance(): void
  /** Whether a caller waits until nothing is being sent. */
  isAwaited(): boolean
  clock: Pick<Clock, 'now'>
}

/** A delivery within this many milliseconds counts as quick. */
const quickMs = 1_000

export type Sending = ReturnType<typeof createSending>

/** Returns the functions that reserve capacity and send. */
export function createSending({ kinds, deliver, onChance, isAwaited, clock }: SendingNeeds) {
  const limits = createConcurrencyLimits()
  const backlog = createBacklog()
  const underWay = new Set<Promise<void>>()

  /** If there was no capacity before, messages may wait for it. */
  function freeCapacity(message: OutboxMessage, manner?: ReceiverPace): void {
    const hadRoom = limits.hasCapacity(message)
    limits.end(message, manner)
    if (!hadRoom) onChance()
  }

  function send(message: OutboxMessage): void {
    const begun = clock.now()
    const sent = deliver(message).then((outcome) => {
      underWay.delete(sent)
      freeCapacity(message, outcome && mannerOf(outcome, clock.now() - begun))
      // A message that was not delivered may be due again soon.
      if (outcome !== 'delivered' || isAwaited()) onChance()
    })
    underWay.add(sent)
  }

  return {
    /** Reserves capacity if no older message waits. Otherwise this message, and later ones, have to wait. */
    reserve(message: OutboxMessage): boolean {
      const { kind, receiver } = message
      const isNext = !backlog.isBefore(message) && limits.hasCapacity(message)
      if (isNext) limits.begin(message)
      else backlog.note(limits.isKindFull(kind) ? { kind } : { kind, receiver })
      return isNext
    },
    /** Sends a message for which capacity was reserved. */
    send,
    /** Frees the reserved capacity without sending. */
    release: (message: OutboxMessage) => freeCapacity(message),
    /** Claims and sends due messages, as far as there is capacity. @returns their number */
    async takeOn(claim: (room: Capacity) => Promise<OutboxMessage[]>): Promise<number> {
      const room = limits.room(kinds())
      if (room.kinds.every(({ room }) => room === 0)) return 0
      const updateBacklog = backlog.look(room)
      const messages = await claim(room)
      for (const message of messages) {
        limits.begin(message)
        send(message)
      }
      updateBacklog(messages)
      return messages.length
    },
    underWay: (): readonly Promise<void>[] => [...underWay],
    isIdle: () => underWay.size === 0,
  }
}

const mannerOf = (outcome: Outcome['kind'], tookMs: number): ReceiverPace =>
  outcome === 'delivered' && tookMs <= quickMs ? 'quickly' : 'badly'
