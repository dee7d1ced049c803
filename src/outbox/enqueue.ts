/**
 * Adds notifications in the step (the transaction) that causes them, and sends them as soon as the step is committed.
 */
import type { Clock } from '../platform/clock.ts'
import { newSecret } from '../platform/crypto.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { OutboxMessage } from './notification.ts'
import { OUTBOX, type OutboxStore } from './outbox-store.ts'
import type { Sending } from './sending.ts'

/**
 * Executes a transaction of the caller together with `adding`, the statements that add the notifications. Announces the
 * notifications under `topics`.
 *
 * @returns whether the transaction was executed
 */
export type AddingStep = (adding: Statement[], topics: string[]) => Promise<boolean>

/**
 * Adds notifications in the step (the transaction) that causes them, and sends them as soon as the step is committed.
 * If there is capacity for a notification, the same step claims the notification for this node. The other notifications
 * wait until this node or another node claims them.
 *
 * @returns whether the step was executed
 */
export type Enqueue = (messages: readonly OutboxMessage[], step: AddingStep) => Promise<boolean>

/**
 * Returns `enqueue` for a process that sends nothing, such as a command. The notifications wait until a server claims
 * them.
 */
export function enqueueForOthers(outbox: Pick<OutboxStore, 'add'>): Enqueue {
  return (messages, step) => step(messages.map(outbox.add), messages.length > 0 ? [OUTBOX] : [])
}

export interface EnqueueNeeds {
  outbox: Pick<OutboxStore, 'add'>
  sending: Pick<Sending, 'reserve' | 'send' | 'release'>
  /** Milliseconds that an attempt may take. */
  timeout: number
  /** While this function returns false, no message is claimed, and new messages wait. */
  isRunning(): boolean
  onEnqueued(): void
  clock: Pick<Clock, 'now'>
}

/**
 * The lease is this many milliseconds longer than the timeout of an attempt, so that the outcome is recorded before the
 * lease ends.
 */
const leaseMarginMs = 2_000

/**
 * Returns the new values of the columns of a message that is claimed at `now` for one attempt of at most `timeout`
 * milliseconds.
 */
export function newLease(now: number, timeout: number) {
  return { state: 'sending' as const, lease: newSecret(12), dueAt: now + timeout + leaseMarginMs }
}

/**
 * Returns `enqueue`, and two functions for shutdown and tests. `underWay` returns the calls of `enqueue` that are in
 * progress. `isIdle` returns whether no call is in progress.
 */
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
      // If the step took a long time, the rest of the lease may be too short for an attempt. In this case, the messages
      // are not sent now. A worker claims them again after the lease has ended.
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
