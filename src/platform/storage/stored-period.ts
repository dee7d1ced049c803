/** A period whose times are stored: the window of a limit, a lock after wrong codes, a pause after a denial. */
export interface StoredPeriod {
  /** SQL: when the period begins, in milliseconds since 1970. */
  begin: string
  /** SQL: how long it lasts, in milliseconds. */
  length: string | number
}

/**
 * The beginning of a period may lie up to this many milliseconds in the future, because the clock of the node that
 * stored the period may be ahead. For counters of attempts and for pauses, all nodes use the clock of the database
 * instead of their own (`DatabaseClock`). If they used their own clocks, and two clocks differed by more than this, a
 * count that both nodes write would begin again and again.
 */
export const mostAheadMs = 60_000

/**
 * Returns the SQL condition that a period is not over at `now` (SQL: milliseconds since 1970).
 *
 * A period that begins more than a minute in the future counts as over, because it was stored before the wall clock was
 * set back. If only the end of the period were compared, the period would last longer by as much as the clock was set
 * back. Users could be locked out for hours or days.
 */
export function isNotOver({ begin, length }: StoredPeriod, now: string): string {
  const present = `cast(${now} as bigint)`
  return `(${begin} > ${present} - ${length} and ${begin} <= ${present} + ${mostAheadMs})`
}

/**
 * Returns an SQL expression by whose value rows are sorted by age. It is for tables in which only the newest rows are
 * kept. The value of the expression is `value`, with one exception: it is 0 if the stored time of the row is more than
 * a minute in the future. Then the clock has been set back since the row was stored, and the row is old. Without the
 * exception, this row would always count as the newest, and each new row would replace the previous new row.
 */
export function byAge({ storedAt, value = storedAt }: { storedAt: string; value?: string }, now: string): string {
  return `case when ${storedAt} > cast(${now} as bigint) + ${mostAheadMs} then 0 else ${value} end`
}
