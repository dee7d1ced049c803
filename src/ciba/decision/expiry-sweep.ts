/**
 * Periodically changes the status of requests whose deadline has passed to `expired`, so that the rows are up to date
 * and push clients are notified.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { steadyTime } from '../../platform/clock.ts'
import { createPeriodicTask } from '../../platform/periodic-task.ts'
import { createRemovalFailures } from '../../platform/removal-failures.ts'
import { createRepeatedFailures } from '../../platform/repeated-failures.ts'
import { isDatabaseUnavailable } from '../../platform/storage/unavailable.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import { type DecisionNeeds, expire } from './decide.ts'

export interface ExpirySweep {
  start(): void
  /** Settles the expired requests. Resolves to the number of requests that this call has settled. */
  sweep(): Promise<number>
  stop(): Promise<void>
}

/** The sweep ends when this number of requests could not be settled. */
const mostFailed = 1_000
/**
 * Milliseconds between two sweeps. Polls and decisions do not depend on the sweeps, because they check the deadline
 * themselves.
 */
const pauseMs = 1_000
const batch = 200
/**
 * Maximum number of rows that one transaction removes. The number is small, because SQLite executes no other statement
 * during the transaction.
 */
const atMost = 100
/**
 * Maximum number of transactions in which one sweep removes rows of one kind, so that the next sweep is not delayed.
 */
const mostTransactions = 5

/**
 * Removes at most `atMost` rows of one kind that are old enough to be removed at the time `now`. Resolves to the number
 * of removed rows.
 */
export type Forget = (now: number, atMost: number) => Promise<number>

/** One kind of rows that are removed when they are old. `what` is its name in the log. */
export interface OldRows {
  what: string
  forget: Forget
}

/**
 * @param alsoForget the kinds of old rows that are also removed, once a minute. If old rows may be left after a sweep,
 *   the next sweep removes more of them. The kinds are removed one after the other. If the removal of one kind fails,
 *   the other kinds are still removed
 */
export function createExpirySweep(needs: DecisionNeeds, alsoForget: readonly OldRows[]): ExpirySweep {
  const { clock, log } = needs
  const removeKind = createRemovalFailures(log)
  let lastForgot = Number.NEGATIVE_INFINITY

  async function sweep(): Promise<number> {
    let settled = 0
    const failed = new Set<string>()
    for (;;) {
      const found = await needs.requests.runOut(clock.now(), batch + failed.size)
      const over = found.filter(({ id }) => !failed.has(id))
      const done = await Promise.all(over.map((request) => settle(request, failed)))
      settled += done.filter(Boolean).length
      // The loop cannot run forever: a request that this node or another node has settled is not read again, and the
      // number of requests that could not be settled is limited by `mostFailed`.
      if (over.length < batch || failed.size >= mostFailed) break
    }
    failedBefore = failed
    return settled
  }

  /** The requests that the last sweep could not settle. Each of them is tried again, but logged only once. */
  let failedBefore: ReadonlySet<string> = new Set()

  /**
   * Settles one request. If this fails, for example because the row is damaged, the error is logged and the other
   * requests are still settled.
   */
  async function settle(request: AuthenticationRequest, failed: Set<string>): Promise<boolean> {
    try {
      return await expire(request, needs)
    } catch (error) {
      if (isDatabaseUnavailable(error)) throw error
      failed.add(request.id)
      if (!failedBefore.has(request.id)) {
        log.error({ event: 'sweep.request_failed', request: request.id, error }, 'an expired request cannot be settled')
      }
      return false
    }
  }

  async function run(): Promise<number> {
    await sweep()
    await forgetOnceAMinute()
    return pauseMs
  }

  async function forgetOnceAMinute(): Promise<void> {
    const steadyAt = steadyTime(clock)
    if (steadyAt - lastForgot < 60_000) return
    const now = clock.now()
    let more = false
    for (const { what, forget } of alsoForget) {
      more = (await removeKind(what, () => forgetSome(forget, now))) || more
    }
    if (!more) lastForgot = steadyAt
  }

  /** Resolves to whether there may be more rows to remove. */
  async function forgetSome(forget: Forget, now: number): Promise<boolean> {
    for (let transaction = 0; transaction < mostTransactions; transaction++) {
      if ((await forget(now, atMost)) < atMost) return false
      // Lets other work of this process run between two transactions, even if SQLite answers at once.
      await nextTurn()
    }
    return true
  }

  const task = createPeriodicTask({
    work: run,
    failures: createRepeatedFailures(log, { event: 'sweep.failed' }, 'the sweep for expired requests failed'),
    retryAfterMs: pauseMs,
    clock,
  })
  return { start: () => task.start(pauseMs), sweep, stop: task.stop }
}
