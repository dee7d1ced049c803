/**
 * Removing what is old from a table in which some of what is old is still of use. Each time it goes on where it was before:
 * from the beginning it would look at all that has to stay, again and again, to find the few that may go.
 */
export interface Walk {
  /** The next old ids after `after`, in their order, at most so many. */
  next(after: string, before: number, atMost: number): Promise<string[]>
  /** Removes those of them that nothing needs any more. @returns how many it were */
  remove(ids: string[]): Promise<number>
}

/** Looks at a time: of rows that all have to stay it is content with these, until the next time. */
const looks = 10

/** @returns removes at most `atMost`, and answers how many it were: fewer, if it has come to the end or found few */
export function pruneByCursor({ next, remove }: Walk): (before: number, atMost: number) => Promise<number> {
  let after = ''

  return async (before, atMost) => {
    let gone = 0
    for (let look = 0; look < looks && gone < atMost; look++) {
      const wanted = atMost - gone
      // Always as many as may go in all, so that it is always the same statement.
      const ids = (await next(after, before, atMost)).slice(0, wanted)
      after = ids.length < wanted ? '' : ids.at(-1)!
      if (ids.length > 0) gone += await remove(ids)
      if (after === '') break
    }
    return gone
  }
}
