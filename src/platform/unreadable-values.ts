/** Reports stored values that cannot be decrypted. */
import type { OnUnreadable } from './crypto.ts'
import type { Log } from './log.ts'

/** Maximum number of reported places that are remembered. If it is reached, the oldest is forgotten, and may be reported again. */
const mostRemembered = 1_000

/**
 * Returns a function that logs each place once: such a value is read at every call that needs it, and a caller may repeat its
 * call.
 */
export function createUnreadableReport(log: Pick<Log, 'error'>): OnUnreadable {
  const reported = new Set<string>()

  return (place, error) => {
    if (reported.has(place)) return
    if (reported.size >= mostRemembered) reported.delete(reported.keys().next().value!)
    reported.add(place)
    log.error(
      { event: 'storage.unreadable', place, error },
      'a stored value is treated as missing, because it cannot be decrypted',
    )
  }
}
