/** Removes finished rows that are old enough, in small batches with pauses, so that requests are not delayed. */
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import { createPeriodicTask } from '../platform/periodic-task.ts'
import { createRemovalFailures } from '../platform/removal-failures.ts'
import { createRepeatedFailures } from '../platform/repeated-failures.ts'

/** One kind of rows that are removed by age. */
export interface Kept {
  what: string
  /** Days for which rows are kept after they are finished; undefined means for ever. */
  days: number | undefined
  /**
   * Removes at most `atMost` rows that were finished before the time `before`, in one transaction. Resolves to the
   * number of removed rows. Several nodes may call this function at the same time.
   */
  forget(before: number, atMost: number): Promise<number>
}

export interface Pruning {
  start(): void
  /**
   * Removes all rows that are old enough now. Resolves to the number of removed rows. If the removal of one kind of
   * rows fails, the others are removed before the error is thrown.
   */
  prune(): Promise<number>
  stop(): Promise<void>
}

/** Milliseconds between two runs, if there is nothing more to remove. */
const pauseMs = 10_000
/** Milliseconds between two batches, if there are more rows to remove. */
const restMs = 25

/**
 * Upper limit for the rows that one transaction removes. Such a transaction takes some milliseconds. On SQLite, all
 * other statements wait until the transaction ends.
 */
const batch = 100

const day = 86_400_000

/** Returns the task that removes old rows. The task has to be started with `start`. */
export function createPruning({ kept, clock, log }: { kept: Kept[]; clock: Clock; log: Log }): Pruning {
  /** Removes one batch of a kind of rows. Resolves to the number of removed rows. */
  async function removeBatch({ what, days, forget }: Kept): Promise<number> {
    if (days === undefined) return 0
    const forgotten = await forget(Math.floor(clock.now() - days * day), batch)
    if (forgotten > 0) log.debug({ event: 'retention.pruned', what, rows: forgotten }, 'pruned')
    return forgotten
  }

  async function prune(): Promise<number> {
    let gone = 0
    const failures: unknown[] = []
    for (const each of kept) {
      try {
        for (let forgotten = batch; forgotten >= batch; gone += forgotten) forgotten = await removeBatch(each)
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
    return gone
  }

  const removeKind = createRemovalFailures(log)

  async function look(): Promise<number> {
    let more = false
    for (const each of kept) {
      const forgotten = (await removeKind(each.what, () => removeBatch(each))) ?? 0
      more ||= forgotten >= batch
    }
    return more ? restMs : pauseMs
  }

  const failures = createRepeatedFailures(log, { event: 'retention.failed' }, 'old rows could not be removed')
  const looking = createPeriodicTask({ work: look, failures, retryAfterMs: pauseMs, clock })
  return { start: () => looking.start(pauseMs), prune, stop: looking.stop }
}
