/** Sends messages as soon as they are stored. Retries failed messages when they are due. */
import { steadyTime } from '../platform/clock.ts'
import { createPeriodicTask } from '../platform/periodic-task.ts'
import { createRepeatedFailures } from '../platform/repeated-failures.ts'
import { mostAheadMs } from '../platform/storage/stored-period.ts'
import type { Capacity } from './concurrency-limits.ts'
import { createDelivery, type Deliver, type DeliveryNeeds, type Senders } from './delivery.ts'
import { createEnqueue, type Enqueue, newLease } from './enqueue.ts'
import type { OutboxMessage } from './notification.ts'
import { createSending } from './sending.ts'

export interface OutboxNeeds extends DeliveryNeeds {
  /** Milliseconds that an attempt may take. The lease of a message is `leaseMarginMs` longer. */
  timeout: number
  /** Calls `listener` when a waiting message is announced. Returns a function that removes the listener. */
  onChange(listener: () => void): () => void
}

export interface OutboxWorker {
  /** Starts sending due messages. @param senders the senders by kind; a message of a kind without a sender is parked */
  start(senders: Senders): void
  enqueue: Enqueue
  /** Queries the due messages now. */
  wake(): void
  /** Resolves as soon as no message is due and no message is being sent. Used by tests and at shutdown. */
  idle(): Promise<void>
  /**
   * Claims no more messages, and waits up to `grace` milliseconds for the messages that are being sent. Then stops the
   * remaining attempts and releases the leases of their messages. May be called twice.
   */
  stop(grace?: number): Promise<void>
}

/**
 * Milliseconds between two queries for due messages if no message is announced. These queries also find messages that
 * another node has left unsent, for example after a crash.
 */
const pollIntervalMs = 2_000
/**
 * Milliseconds until the next query if a due message was not claimed. The reason may be a lack of capacity, or a lock
 * of another node on the message.
 */
const recheckMs = 200
/** The shortest pause between two queries, in milliseconds. */
const leastPauseMs = 10
/** Upper limit for the messages that one statement makes due after the wall clock was set back. */
const mostMadeDue = 500
/** Milliseconds between two queries for messages whose times are too far in the future. */
const searchIntervalMs = 60_000

/**
 * Returns the function that claims due messages. If a clock was ahead when it wrote the time of a message, the message
 * could wait for hours, and a push client cannot get its tokens in another way. So the function first makes such
 * messages due. There are two cases:
 * - The wall clock was set back since the last call: all waiting messages are made due.
 * - The wall clock was set back before this process began, or the clock of another node was ahead: only messages whose
 *   times are too far in the future are made due.
 */
function createClaim({ outbox, clock, timeout }: OutboxNeeds) {
  /** Milliseconds by which the wall clock is ahead of the steady time. */
  let offset = clock.now() - steadyTime(clock)
  let searchedAt = Number.NEGATIVE_INFINITY

  async function makeDue(now: number, steady: number): Promise<void> {
    const wasSetBack = now - steady < offset - mostAheadMs
    if (wasSetBack) while ((await outbox.endPauses(now, mostMadeDue)) === mostMadeDue);
    else if (steady - searchedAt >= searchIntervalMs) {
      const longestLeaseMs = newLease(0, timeout).dueAt
      while ((await outbox.endPausesOfClockAhead({ now, longestLeaseMs }, mostMadeDue)) === mostMadeDue);
      searchedAt = steady
    }
    offset = now - steady
  }

  return async (now: number, room: Capacity): Promise<OutboxMessage[]> => {
    await makeDue(now, steadyTime(clock))
    const { lease, dueAt: leaseUntil } = newLease(now, timeout)
    return outbox.claimDue({ now, lease, leaseUntil, room })
  }
}

/** Returns a worker that is not started yet. Messages that are added before its start wait. */
export function createOutboxWorker(needs: OutboxNeeds): OutboxWorker {
  const { outbox, clock, timeout } = needs
  let deliver: Deliver = createDelivery({}, needs)
  let kinds: string[] = []
  let stopping = new AbortController()
  let isRunning = false
  let hasSeenAll = false
  const claim = createClaim(needs)
  let stopListening = () => {}
  const waitingForIdle: (() => void)[] = []

  const failures = failuresIn(needs.log)
  const looking = createPeriodicTask({ work: look, failures, retryAfterMs: pollIntervalMs, onRest: tellIdle, clock })
  const sending = createSending({
    kinds: () => kinds,
    deliver: (message, progress) => deliver(message, stopping.signal, progress),
    onChance: looking.wake,
    isAwaited: () => waitingForIdle.length > 0,
    clock,
  })
  const queueing = createEnqueue({
    outbox,
    sending,
    timeout,
    isRunning: () => isRunning,
    onEnqueued: wakeForIdle,
    clock,
  })

  function wakeForIdle(): void {
    if (waitingForIdle.length > 0) looking.wake()
  }

  /** Claims and sends due messages. Resolves to the number of milliseconds until the next query. */
  async function look(): Promise<number> {
    hasSeenAll = false
    const now = clock.now()
    const taken = await sending.takeOn((room) => claim(now, room))
    if (taken > 0) looking.wake()
    const { next = Number.POSITIVE_INFINITY, isAnyLeft } = await outbox.nextDue(now)
    hasSeenAll = true
    return Math.max(Math.min(next - clock.now(), isAnyLeft ? recheckMs : pollIntervalMs), leastPauseMs)
  }

  function tellIdle(): void {
    if (!hasSeenAll || !sending.isIdle() || !queueing.isIdle()) return
    for (const tell of waitingForIdle.splice(0)) tell()
  }

  return {
    enqueue: queueing.enqueue,
    start(senders) {
      if (isRunning) return
      deliver = createDelivery(senders, needs)
      kinds = Object.keys(senders)
      isRunning = true
      if (stopping.signal.aborted) stopping = new AbortController()
      stopListening = needs.onChange(looking.wake)
      looking.start(0)
    },
    wake: looking.wake,
    idle: () =>
      new Promise((resolve) => {
        if (!isRunning) return resolve()
        waitingForIdle.push(resolve)
        looking.wake()
      }),
    async stop(grace = 5_000) {
      isRunning = false
      stopListening()
      await looking.stop()
      const cancel = clock.after(grace, () => stopping.abort())
      while (!queueing.isIdle() || !sending.isIdle())
        await Promise.allSettled([...queueing.underWay(), ...sending.underWay()])
      cancel()
      for (const tell of waitingForIdle.splice(0)) tell()
    },
  }
}

const failuresIn = (log: OutboxNeeds['log']) =>
  createRepeatedFailures(log, { event: 'outbox.look_failed' }, 'the outbox could not be read')
