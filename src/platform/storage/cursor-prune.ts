/**
 * Removes old rows from a table in which some old rows are still needed. Each call continues where the previous one stopped;
 * from the beginning, it would look again and again at all rows that must stay.
 */
export interface PruneSteps {
  /** Resolves to the next ids after `after` of rows older than `before`, in order, at most `atMost`. */
  next(after: string, before: number, atMost: number): Promise<string[]>
  /** Removes the rows that are no longer needed. @returns the number of removed rows */
  remove(ids: string[]): Promise<number>
}

/** Lookups in one call at most, so that a call ends even if all rows must stay. */
const maxLookups = 10

/** Returns a function that removes at most `atMost` rows and resolves to their number. */
export function pruneByCursor({ next, remove }: PruneSteps): (before: number, atMost: number) => Promise<number> {
  let after = ''

  return async (before, atMost) => {
    let gone = 0
    for (let look = 0; look < maxLookups && gone < atMost; look++) {
      const wanted = atMost - gone
      // Always with the same limit, so that the statement stays the same.
      const ids = (await next(after, before, atMost)).slice(0, wanted)
      after = ids.length < wanted ? '' : ids.at(-1)!
      if (ids.length > 0) gone += await remove(ids)
      if (after === '') break
    }
    return gone
  }
}
