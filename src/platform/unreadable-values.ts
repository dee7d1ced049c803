/** Reports stored values that cannot be read. */
import type { Log } from './log.ts'

/** Called for a stored value that cannot be read. @param place the table and the row of the value */
export type OnUnreadable = (place: string, error: unknown) => void

/** Throws the error: a command stops at a value that cannot be read. */
export const throwUnreadable: OnUnreadable = (_place, error) => {
  throw error
}

/** Parses the value of a JSON column. If it is not JSON, reports it and returns undefined. */
export function parseStored<Value>(text: string, place: string, onUnreadable: OnUnreadable): Value | undefined {
  try {
    return JSON.parse(text) as Value
  } catch (error) {
    onUnreadable(place, error)
    return undefined
  }
}

/**
 * Maximum number of reported places that are remembered. Beyond this number, the oldest is forgotten and can be
 * reported again.
 */
const mostRemembered = 1_000

/** Returns a function that logs each place only once, because every call that needs the value reads it again. */
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
