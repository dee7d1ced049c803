/** Adds notifications in the step of whatever causes them, and sends them as soon as they are kept. */
import type { Clock } from '../platform/clock.ts'
import { newSecret } from '../platform/crypto.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { OutboxMessage } from './notification.ts'
import { OUTBOX, type OutboxStore } from './outbox-store.ts'
import type { Sending } from './sending.ts'

/**
 * Carries out the step that adds notifications, with the statements that add them and the topics under which they are
 * announced. @returns whether it happened
 */
export type AddingStep = (adding: Statement[], topics: string[]) => Promise<boolean>

/**
 * Adds notifications in the step of whatever causes them, and sends them as soon as they are kept: for whom there is
 * room is taken on in the same step. The others wait, to be found here or on another node.
 * @returns whether the step happened
 */
export type Enqueue = (messages: readonly OutboxMessage[], step: AddingStep) => Promise<boolean>

/** For who sends nothing: a command, say. What is added waits for a server. */
export function enqueueForOthers(outbox: Pick<OutboxStore, 'add'>): Enqueue {
  return (messages, step) => step(messages.map(outbox.add), messages.length > 0 ? [OUTBOX] : [])
}

export interface EnqueueNeeds {
  outbox: Pick<OutboxStore, 'add'>
  sending: Pick<Sending, 'reserve' | 'send' | 'release'>
  /** Milliseconds an attempt may take. */
  timeout: number
  /** While it is not, all of them wait. */
  isRunning(): boolean
  onEnqueued(): void
  clock: Pick<Clock, 'now'>
}

/** Added to the timeout: time to write the outcome down before the lease ends. */
const leaseMarginMs = 2_000

export function newLease(now: number, timeout: number) {
  return { state: 'sending' as const, lease: newSecret(12), dueAt: now + timeout + leaseMarginMs }
}

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
      // A step may have to wait. What is left of the lease then may be too short for an attempt: it is taken on anew.
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
