/**
 * Decides whether a poll is too early, and changes the interval of a request. Polls are counted either in memory or in
 * the table, by the same rules. So each rule exists in TypeScript and in SQL.
 */

/**
 * The interval of a request. After the interval was lengthened, `keptPolls` counts the consecutive polls that were not
 * too early.
 */
export interface PollInterval {
  /** Seconds that the client has to wait between two polls. */
  interval: number
  /** The interval that the client was told in the acknowledgement, in seconds. */
  firstInterval: number
  keptPolls: number
}

/** Seconds by which `slow_down` lengthens the interval (CIBA Core §11). */
const growthSeconds = 5

/**
 * A lengthened interval is reset to the first interval after this number of consecutive polls that were not too early.
 */
const keptEnough = 2

/** The smallest tolerance, in milliseconds, for polls that arrive early. */
const leastTolerance = 500

/** The default of `requests.longestInterval`, in seconds. */
export const usualLongestInterval = 30

/**
 * Returns the minimum time between the arrivals of two polls, in milliseconds. It is the interval minus a tolerance of
 * a tenth of the interval, but of at least half a second. The tolerance is needed because the client measures the time
 * between sending two polls. If the first poll takes longer to arrive than the second, the time between the arrivals is
 * shorter.
 */
export function leastPauseMs(interval: number): number {
  return interval * 1000 - Math.max(leastTolerance, interval * 100)
}

/** SQL for `leastPauseMs`. */
export const leastPauseSql = (interval: string) =>
  `(${interval}) * 1000 - case when (${interval}) * 100 < ${leastTolerance} then ${leastTolerance} else (${interval}) * 100 end`

/**
 * Whether a poll that arrives `elapsedMs` after the previous poll is too early. If `elapsedMs` is negative, a clock was
 * set back and the real time between the polls is unknown. The poll then does not count as too early.
 */
export function isTooEarly(elapsedMs: number, interval: number): boolean {
  return elapsedMs >= 0 && elapsedMs < leastPauseMs(interval)
}

/**
 * Changes the interval after the second or a later poll of a pending request.
 *
 * @param longest the interval does not grow beyond this number of seconds
 */
export function countPoll(polls: PollInterval, isEarly: boolean, longest: number): void {
  if (isEarly) {
    polls.interval = Math.max(polls.interval, Math.min(polls.interval + growthSeconds, longest))
    polls.keptPolls = 0
  } else if (polls.interval > polls.firstInterval && ++polls.keptPolls >= keptEnough) {
    polls.interval = polls.firstInterval
    polls.keptPolls = 0
  }
}

/** SQL expressions for the members of `PollInterval` and for the longest interval. */
interface PollIntervalSql {
  interval: string
  first: string
  kept: string
  longest: string
}

/** SQL for `countPoll`: the new values of the interval and of `keptPolls`. */
export function countPollSql(early: string, { interval, first, kept, longest }: PollIntervalSql) {
  const isKept = `(${interval}) > (${first}) and ${kept} + 1 >= ${keptEnough}`
  return {
    interval: `case
        when ${early} then case
          when (${interval}) + ${growthSeconds} <= ${longest} then (${interval}) + ${growthSeconds}
          when (${interval}) < ${longest} then ${longest} else (${interval}) end
        when ${isKept} then (${first}) else (${interval}) end`,
    kept: `case when ${early} or ${isKept} or (${interval}) <= (${first}) then 0 else ${kept} + 1 end`,
  }
}
