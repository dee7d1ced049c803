/** Describes the rows of a list one by one, so that an error in one row does not hide the other rows. */
import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import { visible } from '../../authorization-details/detail-types.ts'
import type { Log } from '../../platform/log.ts'

export interface Describers<Row, Shown, Less> {
  describe: (row: Row) => Shown
  /** Describes a row for which `describe` threw. This function must not throw for any content of the row. */
  describeLess: (row: Row) => Less
  idOf: (row: Row) => string
  log: Log
}

/**
 * Describes each row. If `describe` throws for a row, for example because an earlier version with fewer checks stored
 * the row, the error is logged and `describeLess` describes the row. So the user sees every row, and can deny every
 * request that is pending.
 */
export function describeEach<Row, Shown, Less>(
  rows: readonly Row[],
  { describe, describeLess, idOf, log }: Describers<Row, Shown, Less>,
): (Shown | Less)[] {
  return rows.map((row) => {
    try {
      return describe(row)
    } catch (error) {
      log.error(
        { event: 'request.not_described', request: idOf(row), error },
        'a request cannot be described completely',
      )
      return describeLess(row)
    }
  })
}

/** Returns authorization details as JSON text, for users. This function does not throw for any stored value. */
export function detailsAsJson(stored: readonly AuthorizationDetail[] | undefined): { lines: string[] }[] | undefined {
  return stored && [stored].flat().map((detail) => ({ lines: [visible(JSON.stringify(detail))] }))
}
