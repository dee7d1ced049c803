/** Looks, now and then, for requests whose time is over: the row is told, and so is a push client (M14). */
import type { Clock } from '../../platform/clock.ts'
import { createPeriodicTask } from '../../platform/periodic-task.ts'
import { type DecisionNeeds, expire } from './decide.ts'

export interface ExpirySweep {
  start(): void
  /** One look. Answers how many requests it settled. */
  sweep(): Promise<number>
  stop(): Promise<void>
}

/** Milliseconds between two looks. Polls and decisions do not wait for it: they compare with the deadline themselves. */
const pauseMs = 1_000
const batch = 200

export function createExpirySweep(
  needs: DecisionNeeds,
  alsoForget: ((now: number) => Promise<unknown>)[],
): ExpirySweep {
  const { clock, log } = needs
  let lastForgot = 0

  async function sweep(): Promise<number> {
    let settled = 0
    for (;;) {
      const over = await needs.requests.runOut(clock.now(), batch)
      const done = await Promise.all(over.map((request) => expire(request, needs)))
      settled += done.filter(Boolean).length
      // Another node may be sweeping too: what it took is not in the next batch.
      if (over.length < batch) return settled
    }
  }

  async function look(): Promise<number> {
    try {
      await sweep()
      await forgetOnceAMinute(clock)
    } catch (error) {
      log.error({ event: 'sweep.failed', error }, 'the sweep for expired requests failed; it will be tried again')
    }
    return pauseMs
  }

  async function forgetOnceAMinute({ now }: Clock): Promise<void> {
    if (now() - lastForgot < 60_000) return
    lastForgot = now()
    for (const forget of alsoForget) await forget(now())
  }

  const looking = createPeriodicTask({ work: look, clock })
  return { start: () => looking.start(pauseMs), sweep, stop: looking.stop }
}
