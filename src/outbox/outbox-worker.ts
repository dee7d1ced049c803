/** Sends what is added as soon as it is kept, and what is due by the clock; never more of a lane than its share. */
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import { newSecret } from '../platform/crypto.ts'
import type { Log } from '../platform/log.ts'
import type { Statement } from '../platform/storage/database.ts'
import { createBehind } from './behind.ts'
import { judge, type Letter, type Outcome } from './notification.ts'
import type { OutboxStore } from './outbox-store.ts'
import { createShares, type Manner } from './shares.ts'

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
  /** Whether the subject of a kind is a user; that of the others is a request. */
  isAboutUser?: (kind: string) => boolean
  /** Milliseconds an attempt may take; the lease is a little longer. */
  timeout: number
  /** Hears that something was added. Returns how to stop listening. */
  onNews(heard: () => void): () => void
  clock: Clock
  log: Log
  audit: Audit
}

/**
 * Carries out the step that adds notifications, with the statements that add them and the topics under which they are
 * announced. @returns whether it happened
 */
export type AddingStep = (adding: Statement[], topics: string[]) => Promise<boolean>

/** Carries out a step, and adds the notifications of what it does. @returns whether it happened */
export type WithNotifications = (step: AddingStep) => Promise<boolean>

export interface OutboxWorker {
  start(): void
  /**
   * Adds notifications in the step of whatever causes them, and sends them as soon as they are kept: for whom there is
   * room is taken on in the same step. The others wait, to be found here or on another node.
   * @returns whether the step happened
   */
  post(letters: readonly Letter[], step: AddingStep): Promise<boolean>
  /** Looks for due notifications now. */
  nudge(): void
  /** Resolves as soon as nothing is due and nothing is being sent: for tests and for a clean end. */
  idle(): Promise<void>
  /** Takes nothing on any more, gives what is being sent `grace` milliseconds, hands the rest back. Tolerates being called twice. */
  stop(grace?: number): Promise<void>
}

/** Milliseconds between two looks when nobody nudges: for what other nodes left behind. */
const patrol = 2_000
/** And when something was due that was not taken on: another node may have had it in hand, or less room than we. */
const soon = 200
/** Milliseconds added to the timeout: time to write the outcome down before the lease ends. */
const leaseMargin = 2_000
/** Milliseconds within which whoever takes something takes it quickly. */
const quick = 1_000

export function createOutboxWorker(needs: OutboxNeeds): OutboxWorker {
  const { outbox, clock, log } = needs
  const kinds = Object.keys(needs.senders)
  const shares = createShares()
  const behind = createBehind()
  const sending = new Set<Promise<void>>()
  const posting = new Set<Promise<boolean>>()
  let stopping = new AbortController()
  let running = false
  let looking: Promise<void> | undefined
  let lookAgain = false
  let cancelPatrol = () => {}
  let stopListening = () => {}
  let waitingForIdle: (() => void)[] = []

  async function keepAndSend(letters: readonly Letter[], step: AddingStep): Promise<boolean> {
    const lease = newLease()
    const posted = letters.map((letter) => (takeOnAtOnce(letter) ? { ...letter, ...lease, attempts: 1 } : letter))
    const topics = posted.some(({ state }) => state === 'waiting') ? ['outbox'] : []
    let kept = false
    try {
      kept = await step(posted.map(outbox.add), topics)
      return kept
    } finally {
      // A step may have to wait. What is left of the lease then may be too short for an attempt: it is taken on anew.
      const isInTime = clock.now() <= lease.dueAt - needs.timeout
      for (const letter of posted.filter(({ state }) => state === 'sending')) {
        if (kept && isInTime) send(letter)
        else makeRoom(letter)
      }
    }
  }

  function takeOnAtOnce(letter: Letter): boolean {
    if (!running) return false
    const { kind, lane } = letter
    const isNext = !behind.isBefore(letter) && shares.hasRoom(letter)
    if (isNext) shares.begin(letter)
    else behind.note(shares.isKindFull(kind) ? { kind } : { kind, lane })
    return isNext
  }

  function newLease() {
    return { state: 'sending' as const, lease: newSecret(12), dueAt: clock.now() + needs.timeout + leaseMargin }
  }

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
        const now = clock.now()
        await takeOn(now)
        await setPatrol(now)
        seen = true
      } catch (error) {
        log.error({ event: 'outbox.look_failed', error }, 'the outbox could not be read; it will be tried again')
        cancelPatrol = clock.after(patrol, nudge)
        seen = false
      }
    }
    return seen
  }

  async function takeOn(now: number): Promise<void> {
    const room = shares.room(kinds)
    if (room.kinds.every(({ room }) => room === 0)) return
    const forgetWhoCaughtUp = behind.look(room)
    const { lease, dueAt: leaseUntil } = newLease()
    const letters = await outbox.claimDue({ now, lease, leaseUntil, room })
    for (const letter of letters) {
      shares.begin(letter)
      send(letter)
    }
    if (letters.length > 0) lookAgain = true
    forgetWhoCaughtUp(letters)
  }

  /** Whoever makes room looks again, and so does, after a while, whoever has some and was not given what was due. */
  async function setPatrol(now: number): Promise<void> {
    const { next = Number.POSITIVE_INFINITY, isAnyLeft } = await outbox.nextDue(now)
    const pause = Math.min(Math.max(next - clock.now(), 0), isAnyLeft ? soon : patrol)
    cancelPatrol()
    cancelPatrol = clock.after(Math.max(pause, 10), nudge)
  }

  function send(letter: Letter): void {
    const begun = clock.now()
    const sent = deliver(letter).then((outcome) => {
      sending.delete(sent)
      makeRoom(letter, outcome && mannerOf(outcome, clock.now() - begun))
      // It may have to be sent again soon, or somebody waits for the last of them.
      if (outcome !== 'delivered' || waitingForIdle.length > 0) nudge()
    })
    sending.add(sent)
  }

  const mannerOf = (outcome: Outcome['kind'], took: number) =>
    outcome === 'delivered' && took <= quick ? 'quickly' : 'badly'

  /** If there was none before, somebody may have waited for it. */
  function makeRoom(letter: Letter, manner?: Manner): void {
    const hadRoom = shares.hasRoom(letter)
    shares.end(letter, manner)
    if (!hadRoom) nudge()
  }

  /** Answers what came of it; nothing, if it was not sent, or if that could not be written down. */
  async function deliver(letter: Letter): Promise<Outcome['kind'] | undefined> {
    try {
      const outcome = await attempt(letter)
      if (outcome === 'stopped') await outbox.handBack(letter, clock.now())
      else await record(letter, outcome)
      return outcome === 'stopped' ? undefined : outcome.kind
    } catch (error) {
      // The lease will end by itself, and then somebody takes it on again.
      log.error({ event: 'outbox.record_failed', notification: letter.id, error })
      return undefined
    }
  }

  async function attempt(letter: Letter): Promise<Outcome | 'stopped'> {
    if (stopping.signal.aborted) return 'stopped'
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
    const subject = needs.isAboutUser?.(letter.kind) ? { user: letter.subject } : { request: letter.subject }
    const about = { ...subject, by: letter.kind, about: letter.id, attempt: letter.attempts }
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
    if (sending.size + posting.size > 0) return
    const told = waitingForIdle
    waitingForIdle = []
    for (const tell of told) tell()
  }

  return {
    post(letters, step) {
      if (letters.length === 0) return step([], [])
      const posted = keepAndSend(letters, step).finally(() => {
        posting.delete(posted)
        if (waitingForIdle.length > 0) nudge()
      })
      posting.add(posted)
      return posted
    },
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
      while (posting.size + sending.size > 0) await Promise.allSettled([...posting, ...sending])
      cancel()
      for (const tell of waitingForIdle.splice(0)) tell()
    },
  }
}
