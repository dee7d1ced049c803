/** Lets work that removes several kinds of old rows continue with the next kind if one kind fails. */
import type { Log } from './log.ts'
import { createRepeatedFailures, type RepeatedFailures } from './repeated-failures.ts'

/**
 * Runs `remove` for one kind of rows. Resolves to its result, or to undefined if it fails.
 * @param what the kind of rows, for the log
 */
export type RemoveKind = <Result>(what: string, remove: () => Promise<Result>) => Promise<Result | undefined>

/**
 * Returns a function that removes one kind of rows, and does not reject if the removal fails. So the other kinds are
 * still removed, even if one kind fails each time. Of several consecutive failures of a kind, only the first is logged.
 */
export function createRemovalFailures(log: Pick<Log, 'error' | 'warn' | 'info'>): RemoveKind {
  const ofKinds = new Map<string, RepeatedFailures>()

  return (what, remove) => {
    const failures =
      ofKinds.get(what) ??
      createRepeatedFailures(log, { event: 'retention.failed', what }, 'old rows could not be removed')
    ofKinds.set(what, failures)
    return failures.attempt(remove)
  }
}
