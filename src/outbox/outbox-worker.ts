/** Sends what is due: nudged when something is added, else by the clock; never more of a lane than its share. */
import type { Audit } from '../audit.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { newSecret } from '../secret.ts'
import { judge, type Letter, type Outcome } from './notification.ts'
import type { OutboxStore } from './outbox-store.ts'

/**
 * How a kind of notification is sent. It may be called again for a notification that did arrive, so the receiver hears
 * at least once. Must settle soon after `signal` fires.
 */
export type Send = (letter: Letter, signal: AbortSignal) => Promise<Outcome>

export interface OutboxNeeds {
  outbox: OutboxStore
  /** By kind. */
  senders: Record<string, Send>
  /** Attempts before a notification is parked. */
  attempts: number
  /** Kinds that are tried as long as they have time, however often that is. */
  untilTheirTimeIsOver?: readonly string[]
  /** Milliseconds an attempt may take; the lease is a little longer. */
  timeout: number
  /** Hears that something was added. Returns how to stop listening. */
  onNews(heard: () => void): () => void
  clock: Clock
  log: Log
  audit: Audit
}

export interface OutboxWorker {
  start(): void
  /** Looks for due notifications now. */
  nudge(): void
  /** Resolves as soon as nothing is due and nothing is being sent: for tests and for a clean end. */
  idle(): Promise<void>
  /** Takes nothing on any more, gives what is being sent `grace` milliseconds, hands the rest back. Tolerates being called twice. */
  stop(grace?: number): Promise<void>
}

/** How many are sent at once, and how many of them to one receiver: a receiver that hangs holds up only its own. */
const atOnce = 64
const perLane = 4
/** Milliseconds between two looks when nobody nudges: for what other nodes left behind. */
const patrol = 2_000
/** Milliseconds added to the timeout: time to write the outcome down before the lease ends. */
const leaseMargin = 2_000

export function createOutboxWorker(needs: OutboxNeeds): OutboxWorker {
  const { outbox, clock, log } = needs
  const sending = new Map<string, { letter: Letter; done: Promise<void> }>()
  let stopping = new AbortController()
  let running = false
  let looking: Promise<void> | undefined
  let lookAgain = false
  let cancelPatrol = () => {}
  let stopListening = () => {}
  let waitingForIdle: (() => void)[] = []

  function nudge(): void {
    if (!running) return
    lookAgain = true
    looking ??= look().then((seen) => {
      looking = undefined
      if (lookAgain) nudge()
      else if (seen) tellIdle()
    })
  }

  /** Answers whether it could see what there is. */
  async function look(): Promise<boolean> {
    let seen = true
    while (lookAgain && running) {
      lookAgain = false
      cancelPatrol()
      try {
        await takeOn()
        await setPatrol()
        seen = true
      } catch (error) {
        log.error({ event: 'outbox.look_failed', error }, 'the outbox could not be read; it will be tried again')
        cancelPatrol = clock.after(patrol, nudge)
        seen = false
      }
    }
    return seen
  }

  async function takeOn(): Promise<void> {
    const free = atOnce - sending.size
    if (free <= 0) return
    const now = clock.now()
    const letters = await outbox.claimDue({
      now,
      lease: newSecret(12),
      leaseUntil: now + needs.timeout + leaseMargin,
      limit: free,
      perLane,
      busyLanes: [...sending.values()].map(({ letter }) => letter.lane),
    })
    for (const letter of letters) {
      const done = deliver(letter).finally(() => {
        sending.delete(letter.id)
        nudge()
      })
      sending.set(letter.id, { letter, done })
    }
    if (letters.length > 0) lookAgain = true
  }

  function fullLanes(): string[] {
    const count = new Map<string, number>()
    for (const { letter } of sending.values()) count.set(letter.lane, (count.get(letter.lane) ?? 0) + 1)
    return [...count].filter(([, number]) => number >= perLane).map(([lane]) => lane)
  }

  async function setPatrol(): Promise<void> {
    // With all hands full nothing can be taken on: whoever finishes first looks again.
    if (sending.size >= atOnce) return
    const due = await outbox.nextDue(fullLanes())
    const pause = Math.min(Math.max((due ?? Number.POSITIVE_INFINITY) - clock.now(), 0), patrol)
    cancelPatrol()
    cancelPatrol = clock.after(Math.max(pause, 10), nudge)
  }

  async function deliver(letter: Letter): Promise<void> {
    try {
      const outcome = await attempt(letter)
      if (outcome === 'stopped') await outbox.handBack(letter, clock.now())
      else await record(letter, outcome)
    } catch (error) {
      // The lease will end by itself, and then somebody takes it on again.
      log.error({ event: 'outbox.record_failed', notification: letter.id, error })
    }
  }

  async function attempt(letter: Letter): Promise<Outcome | 'stopped'> {
    const send = needs.senders[letter.kind]
    if (send === undefined) return { kind: 'refused', words: `nothing here sends the kind ${letter.kind}` }
    if (clock.now() >= letter.giveUpAt) return { kind: 'refused', words: 'its time is over' }
    try {
      return await send(letter, stopping.signal)
    } catch (error) {
      if (stopping.signal.aborted) return 'stopped'
      log.error({ event: 'outbox.attempt_failed', notification: letter.id, kind: letter.kind, error })
      return { kind: 'failed', words: 'an error on our side' }
    }
  }

  async function record(letter: Letter, outcome: Outcome): Promise<void> {
    const now = clock.now()
    const attempts = needs.untilTheirTimeIsOver?.includes(letter.kind) ? Number.POSITIVE_INFINITY : needs.attempts
    const verdict = judge(outcome, letter, now, attempts, Math.random())
    const about = { request: letter.subject, by: letter.kind, about: letter.id, attempt: letter.attempts }
    const tell = (event: 'delivered' | 'failed' | 'parked', outcome: string) =>
      needs.audit({ event: `notification.${event}`, ...about, outcome })
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

  function tellIdle(): void {
    if (sending.size > 0) return
    const told = waitingForIdle
    waitingForIdle = []
    for (const tell of told) tell()
  }

  return {
    start() {
      if (running) return
      running = true
      if (stopping.signal.aborted) stopping = new AbortController()
      stopListening = needs.onNews(nudge)
      nudge()
    },
    nudge,
    idle: () =>
      new Promise((resolve) => {
        if (!running) return resolve()
        waitingForIdle.push(resolve)
        nudge()
      }),
    async stop(grace = 5_000) {
      running = false
      stopListening()
      cancelPatrol()
      await looking
      const cancel = clock.after(grace, () => stopping.abort())
      await Promise.all([...sending.values()].map(({ done }) => done))
      cancel()
      for (const tell of waitingForIdle.splice(0)) tell()
    },
  }
}
