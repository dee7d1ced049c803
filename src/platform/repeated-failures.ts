/** Logs failures of work that is repeated until it succeeds, without a line for each attempt. */
import type { Log } from './log.ts'

/** The log of one kind of repeated work. */
export interface RepeatedFailures {
  /** Must be called after each attempt that has failed. */
  failed(error: unknown): void
  /** Must be called after each attempt that has succeeded. */
  succeeded(): void
}

/**
 * Returns the log of one kind of work. Of several consecutive failures, only the first is logged. The success after
 * them is logged too (`failures.over`), with the number of failures. If each failure were logged, a database outage of
 * an hour would cause thousands of lines with a stack, and hide other lines.
 *
 * @param about the name of the event of a failure, and further fields
 * @param message what failed
 */
export function createRepeatedFailures(
  log: Pick<Log, 'error' | 'warn' | 'info'>,
  about: { event: string; what?: string },
  message: string,
  level: 'error' | 'warn' = 'error',
): RepeatedFailures {
  let failures = 0

  return {
    failed(error) {
      failures += 1
      if (failures === 1) log[level]({ ...about, error }, `${message}; it will be tried again`)
    },
    succeeded() {
      if (failures > 0) log.info({ event: 'failures.over', failures }, `${message}; now it has succeeded`)
      failures = 0
    },
  }
}
