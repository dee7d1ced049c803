/** Logs failures of work that is repeated until it succeeds, without a line for each attempt. */
import type { Log } from './log.ts'

/** One kind of work that is repeated, with the log of its failures. */
export interface RepeatedFailures {
  /** Does the work. Resolves to its result, or to undefined if it fails; never rejects. */
  attempt<Result>(work: () => Promise<Result>): Promise<Result | undefined>
  /** Logs a failure of the same kind of work that happened outside `attempt`. */
  failed(error: unknown): void
}

/**
 * Logs the failures of one kind of work. Of several consecutive failures, only the first is logged. The success after
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

  function failed(error: unknown): void {
    failures += 1
    if (failures === 1) log[level]({ ...about, error }, `${message}; it will be tried again`)
  }

  function succeeded(): void {
    if (failures > 0)
      log.info(
        { event: 'failures.over', of: about.event, ...(about.what && { what: about.what }), failures },
        `${message}; now it has succeeded`,
      )
    failures = 0
  }

  return {
    async attempt(work) {
      try {
        const result = await work()
        succeeded()
        return result
      } catch (error) {
        failed(error)
        return undefined
      }
    },
    failed,
  }
}
