/** Removes finished rows that are old enough, in small batches with pauses, so that requests are not delayed. */
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import { createPeriodicTask } from '../platform/periodic-task.ts'

/** One kind of rows that are removed by age. */
export interface Kept {
  what: string
  /** Days for which rows are kept after they are finished; undefined means for ever. */
  days: number | undefined
  /**
   * Removes at most `atMost` rows that were finished before the time `before`, in one transaction. Resolves to the number of
   * removed rows. Several nodes may call this function at the same time.
   */
  forget(before: number, atMost: number): Promise<number>
}

export interface Pruning {
  start(): void
  /** Removes all rows that are old enough now. Resolves to the number of removed rows. */
  prune(): Promise<number>
  stop(): Promise<void>
}

/** Milliseconds between two runs. */
const pauseMs = 10_000
/** Milliseconds between two batches, if there are more rows to remove. */
const restMs = 25

/**
 * Upper limit for the rows that one transaction removes. Such a transaction takes some milliseconds. In this time SQLite
 * does nothing else.
 */
const batch = 100

const day = 86_400_000

/** Returns the task, which has not been started. */
export function createPruning({ kept, clock, log }: { kept: Kept[]; clock: Clock; log: Log }): Pruning {
  /**
   * Removes one batch of each kind of rows. Resolves to `gone`, the number of removed rows, and `more`, whether any batch
   * was full.
   */
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
