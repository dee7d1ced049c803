/** Sends what is added as soon as it is kept, and what is due by the clock. */
import { createPeriodicTask } from '../platform/periodic-task.ts'
import { createDelivery, type Deliver, type DeliveryNeeds, type Senders } from './delivery.ts'
import { createEnqueue, type Enqueue, newLease } from './enqueue.ts'
import { createSending } from './sending.ts'

export interface OutboxNeeds extends DeliveryNeeds {
  /** Milliseconds an attempt may take; the lease is a little longer. */
  timeout: number
  /** Hears that something was added. Returns how to stop listening. */
  onChange(listener: () => void): () => void
}

export interface OutboxWorker {
  /** From now on what is due is sent. @param senders by kind; what nobody here sends is parked */
  start(senders: Senders): void
  enqueue: Enqueue
  /** Looks for due notifications now. */
  wake(): void
  /** Resolves as soon as nothing is due and nothing is being sent: for tests and for a clean end. */
  idle(): Promise<void>
  /** Takes nothing on any more, gives what is being sent `grace` milliseconds, hands the rest back. Tolerates being called twice. */
  stop(grace?: number): Promise<void>
}

/** Milliseconds between two looks when nobody nudges: for what other nodes left behind. */
const pollIntervalMs = 2_000
/** And when something was due that was not taken on: another node may have had it in hand, or less room than we. */
const recheckMs = 200
/** Milliseconds between two looks at least. */
const leastPauseMs = 10

export function createOutboxWorker(needs: OutboxNeeds): OutboxWorker {
  const { outbox, clock, log, timeout } = needs
  let deliver: Deliver = createDelivery({}, needs)
  let kinds: string[] = []
  let stopping = new AbortController()
  let isRunning = false
  let hasSeenAll = false
  let stopListening = () => {}
  const waitingForIdle: (() => void)[] = []

  const looking = createPeriodicTask({ work: look, onRest: tellIdle, clock })
  const sending = createSending({
    kinds: () => kinds,
    deliver: (message) => deliver(message, stopping.signal),
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

  /** Whoever makes room looks again, and so does, after a while, whoever has some and was not given what was due. */
  async function look(): Promise<number> {
    hasSeenAll = false
    try {
      const now = clock.now()
      const { lease, dueAt: leaseUntil } = newLease(now, timeout)
      const taken = await sending.takeOn((room) => outbox.claimDue({ now, lease, leaseUntil, room }))
      if (taken > 0) looking.wake()
      const { next = Number.POSITIVE_INFINITY, isAnyLeft } = await outbox.nextDue(now)
      hasSeenAll = true
      return Math.max(Math.min(next - clock.now(), isAnyLeft ? recheckMs : pollIntervalMs), leastPauseMs)
    } catch (error) {
      log.error({ event: 'outbox.look_failed', error }, 'the outbox could not be read; it will be tried again')
      return pollIntervalMs
    }
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
