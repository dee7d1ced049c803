/** What is being sent at this moment: never more of a receiver than its share, and nothing before what waits there already. */
import type { Clock } from '../platform/clock.ts'
import { createBacklog } from './backlog.ts'
import { type Capacity, createConcurrencyLimits, type Manner } from './concurrency-limits.ts'
import type { OutboxMessage, Outcome } from './notification.ts'

export interface SendingNeeds {
  /** The kinds that can be sent. */
  kinds(): string[]
  deliver(message: OutboxMessage): Promise<Outcome['kind'] | undefined>
  /** There is room where there was none, or something may be due again: it is time to look. */
  onChance(): void
  /** Whether somebody waits for the last one to be sent. */
  isAwaited(): boolean
  clock: Pick<Clock, 'now'>
}

/** Milliseconds within which whoever takes something takes it quickly. */
const quickMs = 1_000

export type Sending = ReturnType<typeof createSending>

export function createSending({ kinds, deliver, onChance, isAwaited, clock }: SendingNeeds) {
  const limits = createConcurrencyLimits()
  const backlog = createBacklog()
  const underWay = new Set<Promise<void>>()

  /** If there was none before, somebody may have waited for it. */
  function freeCapacity(message: OutboxMessage, manner?: Manner): void {
    const hadRoom = limits.hasCapacity(message)
    limits.end(message, manner)
    if (!hadRoom) onChance()
  }

  function send(message: OutboxMessage): void {
    const begun = clock.now()
    const sent = deliver(message).then((outcome) => {
      underWay.delete(sent)
      freeCapacity(message, outcome && mannerOf(outcome, clock.now() - begun))
      // It may have to be sent again soon.
      if (outcome !== 'delivered' || isAwaited()) onChance()
    })
    underWay.add(sent)
  }

  return {
    /** Takes room for one that nobody waits before. Else it has to wait, and those that come after it, too. */
    reserve(message: OutboxMessage): boolean {
      const { kind, receiver } = message
      const isNext = !backlog.isBefore(message) && limits.hasCapacity(message)
      if (isNext) limits.begin(message)
      else backlog.note(limits.isKindFull(kind) ? { kind } : { kind, receiver })
      return isNext
    },
    /** Sends one for which room was taken. */
    send,
    /** It is not sent now after all. */
    release: (message: OutboxMessage) => freeCapacity(message),
    /** Sends what is due, as far as there is room. @returns how many it were */
    async takeOn(claim: (room: Capacity) => Promise<OutboxMessage[]>): Promise<number> {
      const room = limits.room(kinds())
      if (room.kinds.every(({ room }) => room === 0)) return 0
      const forgetWhoCaughtUp = backlog.look(room)
      const messages = await claim(room)
      for (const message of messages) {
        limits.begin(message)
        send(message)
      }
      forgetWhoCaughtUp(messages)
      return messages.length
    },
    underWay: (): readonly Promise<void>[] => [...underWay],
    isIdle: () => underWay.size === 0,
  }
}

const mannerOf = (outcome: Outcome['kind'], tookMs: number): Manner =>
  outcome === 'delivered' && tookMs <= quickMs ? 'quickly' : 'badly'
