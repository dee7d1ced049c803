/** A period whose times are stored: the window of a limit, a lock after wrong codes, a pause after a denial. */
export interface StoredPeriod {
  /** SQL: when the period begins, in milliseconds since 1970. */
  begin: string
  /** SQL: how long it lasts, in milliseconds. */
  length: string | number
}

/**
 * Milliseconds by which the beginning of a period may lie in the future, because the clock of the node that has stored it
 * is ahead. For counters of attempts and pauses, the nodes use the clock of the database instead of their own
 * (`DatabaseClock`): if two nodes with clocks further apart than this wrote one counter, its count would begin again and
 * again.
 */
export const mostAheadMs = 60_000

/**
 * Returns the SQL condition that a period is not over at `now` (SQL: milliseconds since 1970).
 *
 * A period that begins more than a minute in the future counts as over: it was stored before the wall clock was set
 * back. If only its end were compared, it would last longer by as much as the clock was set back: users could be locked
 * out for hours or days.
 */
export function isNotOver({ begin, length }: StoredPeriod, now: string): string {
  const present = `cast(${now} as bigint)`
  return `(${begin} > ${present} - ${length} and ${begin} <= ${present} + ${mostAheadMs})`
}

/**
 * Returns the SQL value that orders rows by age, where only the newest rows are kept. The value is `value`. If the
 * stored time of a row is more than a minute in the future, the clock has been set back since then: the row is old, and
 * its value is 0. Otherwise it would always count as the newest row, and each new row would replace the previous new
 * row.
 */
export function byAge({ storedAt, value = storedAt }: { storedAt: string; value?: string }, now: string): string {
  return `case when ${storedAt} > cast(${now} as bigint) + ${mostAheadMs} then 0 else ${value} end`
}
