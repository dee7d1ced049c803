/**
 * Removes old rows from a table in which some old rows are still needed. Each call continues at the row at which the
 * previous call stopped. If each call started at the beginning, it would check again all rows that must stay.
 */
export interface PruneSteps {
  /**
   * Resolves to at most `atMost` ids of rows older than `before`: those that follow the id `after`, in ascending order.
   */
  next(after: string, before: number, atMost: number): Promise<string[]>
  /** Removes the rows with these ids, except the rows that are still needed. @returns the number of removed rows */
  remove(ids: string[]): Promise<number>
}

/** Upper limit for the calls of `next` in one run, so that a run ends soon even if no row can be removed. */
const maxLookups = 10

/** Returns a function that removes at most `atMost` rows and resolves to the number of removed rows. */
export function pruneByCursor({ next, remove }: PruneSteps): (before: number, atMost: number) => Promise<number> {
  let after = ''

  return async (before, atMost) => {
    let gone = 0
    for (let look = 0; look < maxLookups && gone < atMost; look++) {
      const wanted = atMost - gone
      // The limit is `atMost` at each lookup, even if fewer ids are wanted, so that the SQL statement is always the
      // same.
      const ids = (await next(after, before, atMost)).slice(0, wanted)
      after = ids.length < wanted ? '' : ids.at(-1)!
      if (ids.length > 0) gone += await remove(ids)
      if (after === '') break
    }
    return gone
  }
}
