/** Adds notifications in the step that causes them, and sends them as soon as that step is committed. */
import type { Clock } from '../platform/clock.ts'
import { newSecret } from '../platform/crypto.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { OutboxMessage } from './notification.ts'
import { OUTBOX, type OutboxStore } from './outbox-store.ts'
import type { Sending } from './sending.ts'

/**
 * Executes a step, with the statements that add the notifications and the topics under which they are announced.
 *
 * @returns whether the step happened
 */
export type AddingStep = (adding: Statement[], topics: string[]) => Promise<boolean>

/**
 * Adds notifications in the step that causes them, and sends them as soon as that step is committed. Where there is capacity,
 * the same step claims them for this node. The others wait until this or another node claims them.
 *
 * @returns whether the step happened
 */
export type Enqueue = (messages: readonly OutboxMessage[], step: AddingStep) => Promise<boolean>

/** For a process that sends nothing, such as a command: the messages wait for a server. */
export function enqueueForOthers(outbox: Pick<OutboxStore, 'add'>): Enqueue {
  return (messages, step) => step(messages.map(outbox.add), messages.length > 0 ? [OUTBOX] : [])
}

export interface EnqueueNeeds {
  outbox: Pick<OutboxStore, 'add'>
  sending: Pick<Sending, 'reserve' | 'send' | 'release'>
  /** Milliseconds that an attempt may take. */
  timeout: number
  /** While it returns false, all messages wait. */
  isRunning(): boolean
  onEnqueued(): void
  clock: Pick<Clock, 'now'>
}

/** Added to the timeout: time to record the outcome before the lease ends. */
const leaseMarginMs = 2_000

/** Returns the members of a message that is claimed at `now`, for one attempt of `timeout` milliseconds. */
export function newLease(now: number, timeout: number) {
  return { state: 'sending' as const, lease: newSecret(12), dueAt: now + timeout + leaseMarginMs }
}

/** Returns `enqueue`, and the steps that it has under way. */
export function createEnqueue({ outbox, sending, timeout, isRunning, onEnqueued, clock }: EnqueueNeeds) {
  const underWay = new Set<Promise<boolean>>()

  async function keepAndSend(messages: readonly OutboxMessage[], step: AddingStep): Promise<boolean> {
    const lease = newLease(clock.now(), timeout)
    const queued = messages.map((message) =>
      isRunning() && sending.reserve(message) ? { ...message, ...lease, attempts: 1 } : message,
    )
    const topics = queued.some(({ state }) => state === 'waiting') ? [OUTBOX] : []
    let kept = false
    try {
      kept = await step(queued.map(outbox.add), topics)
      return kept
    } finally {
      // If the step took long, the rest of the lease may be too short for an attempt: the message is claimed again later.
      const isInTime = clock.now() <= lease.dueAt - timeout
      for (const message of queued.filter(({ state }) => state === 'sending')) {
        if (kept && isInTime) sending.send(message)
        else sending.release(message)
      }
    }
  }

  const enqueue: Enqueue = (messages, step) => {
    if (messages.length === 0) return step([], [])
    const queued = keepAndSend(messages, step).finally(() => {
      underWay.delete(queued)
      onEnqueued()
    })
    underWay.add(queued)
    return queued
  }

  return { enqueue, underWay: (): readonly Promise<boolean>[] => [...underWay], isIdle: () => underWay.size === 0 }
}
