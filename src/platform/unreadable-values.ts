/** Reports stored values that cannot be read. */
import type { Log } from './log.ts'

/** Called for a stored value that cannot be read. @param place the table and the row of the value */
export type OnUnreadable = (place: string, error: unknown) => void

/** Throws the error. Commands use this function, so that they stop at a value that cannot be read. */
export const throwUnreadable: OnUnreadable = (_place, error) => {
  throw error
}

/** Parses the value of a JSON column. If the value is not JSON, reports the error and returns undefined. */
export function parseStored<Value>(text: string, place: string, onUnreadable: OnUnreadable): Value | undefined {
  try {
    return JSON.parse(text) as Value
  } catch (error) {
    onUnreadable(place, error)
    return undefined
  }
}

/**
 * Maximum number of reported values that are remembered, by table and row. Beyond this number, the oldest is forgotten,
 * and can be reported again.
 */
const mostRemembered = 1_000

/**
 * Returns a function that reports each stored value only once. The value is read again by every call that needs it, so
 * it would be reported again and again.
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
