/**
 * Forgetting what is finished and old enough: a little at a time, with a rest in between, so that whoever is being
 * served does not wait for it.
 */
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import { createPeriodicTask } from '../platform/periodic-task.ts'

/** One kind of rows that are not kept for ever. */
export interface Kept {
  what: string
  /** Days they are kept after they have no use any more; nothing: for ever. */
  days: number | undefined
  /**
   * Removes rows that have had no use since before `before`, at most so many, in one step. Answers how many it were.
   * Several nodes may do so at the same time.
   */
  forget(before: number, atMost: number): Promise<number>
}

export interface Pruning {
  start(): void
  /** Forgets everything that is old enough now. Answers how many rows it were. */
  prune(): Promise<number>
  stop(): Promise<void>
}

/** Milliseconds between two looks, and between two batches as long as there is more. */
const pauseMs = 10_000
const restMs = 25

/** Rows of a kind in one step: some milliseconds, for which SQLite answers nobody else. */
const batch = 100

const day = 86_400_000

export function createPruning({ kept, clock, log }: { kept: Kept[]; clock: Clock; log: Log }): Pruning {
  /** One batch of each kind, and whether one of them was full. */
  async function once(): Promise<{ gone: number; more: boolean }> {
    let gone = 0
    let more = false
    for (const { what, days, forget } of kept) {
      if (days === undefined) continue
      const forgotten = await forget(Math.floor(clock.now() - days * day), batch)
      if (forgotten > 0) log.debug({ event: 'retention.pruned', what, rows: forgotten }, 'pruned')
      gone += forgotten
      more ||= forgotten >= batch
    }
    return { gone, more }
  }

  async function prune(): Promise<number> {
    let all = 0
    for (;;) {
      const { gone, more } = await once()
      all += gone
      if (!more) return all
    }
  }

  async function look(): Promise<number> {
    try {
      return (await once()).more ? restMs : pauseMs
    } catch (error) {
      log.error({ event: 'retention.failed', error }, 'old rows could not be removed; it will be tried again')
      return pauseMs
    }
  }

  const looking = createPeriodicTask({ work: look, clock })
  return { start: () => looking.start(pauseMs), prune, stop: looking.stop }
}
