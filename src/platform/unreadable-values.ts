/** Reports stored values that cannot be read. */
import type { Log } from './log.ts'

/** Called for a stored value that cannot be read. @param place its table and its row */
export type OnUnreadable = (place: string, error: unknown) => void

/** For commands, which stop at such a value. */
export const throwUnreadable: OnUnreadable = (_place, error) => {
  throw error
}

/** Parses a JSON column. Returns undefined, and reports it, if the value is not JSON. */
export function parseStored<Value>(text: string, place: string, onUnreadable: OnUnreadable): Value | undefined {
  try {
    return JSON.parse(text) as Value
  } catch (error) {
    onUnreadable(place, error)
    return undefined
  }
}

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
      'a stored value is treated as missing, because it cannot be read',
    )
  }
}
