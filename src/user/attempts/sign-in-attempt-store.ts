import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Database } from '../../platform/storage/database.ts'
import { isNotOver, mostAheadMs } from '../../platform/storage/stored-period.ts'

/** The first and the longest pause, in milliseconds. */
export interface GrowingPause {
  first: number
  longest: number
}

/** One counter of attempts. */
export interface AttemptCounter {
  /** A keyed hash of the property that the counted attempts share, such as the address. */
  subjectHash: string
  /** The number of attempts after which the first pause begins. */
  free: number
  /**
   * If set, the counter is reduced by one for each full interval of this many milliseconds. By default, the counter
   * starts again a day after the last attempt.
   */
  fadesEveryMs?: number | undefined
}

export type SignInAttemptStore = ReturnType<typeof createSignInAttemptStore>

/**
 * Counts attempts to sign in. Each counter counts the attempts that share a property, for example the name or the
 * network. `subjectHash` is a keyed hash of this property. All times are times of the clock of the database.
 */
export function createSignInAttemptStore(database: Database, pause: GrowingPause) {
  return {
    /**
     * Counts an attempt before its result is known, so that simultaneous attempts are all counted. A pause follows
     * attempt number `free` and each later attempt. Each pause is twice as long as the pause before it, up to
     * `pause.longest`. During a pause, no attempt is allowed or counted.
     *
     * @returns the end of the pause that follows the attempt (0 if there is none), or undefined if there is a pause now
     */
    async take(
      { subjectHash, free, fadesEveryMs = countedForMs }: AttemptCounter,
      now: number,
    ): Promise<number | undefined> {
      const first = {
        sql: `insert into sign_in_attempts (subject_hash, attempts, pause, paused_until, last_at)
              values ($1, 1, ${pauseAfter('1')}, ${pausedAfter('1')}, $2)
              on conflict (subject_hash) do update set attempts = ${counted},
                pause = ${pauseAfter(counted)}, paused_until = ${pausedAfter(counted)}, last_at = ${fadedUpTo}
              where not ${isPaused}
              returning paused_until`,
        values: [subjectHash, now, free, pause.first, pause.longest, now - countedForMs, fadesEveryMs],
      }
      const [row] = await database.step<{ paused_until: number }>(first, { rowKeys: [counterKey(subjectHash)] })
      return row?.paused_until
    },

    /**
     * Resolves to the end of the last pause of a counter (0 if there was no pause), or to undefined if the counter does
     * not exist.
     */
    async pausedUntil(subjectHash: string): Promise<number | undefined> {
      const [row] = await database.read<{ paused_until: number }>(
        'select paused_until from sign_in_attempts where subject_hash = $1',
        [subjectHash],
      )
      return row?.paused_until
    },

    /**
     * Resolves to the time at which the longest current pause of these counters ends, or to undefined if none of the
     * counters is paused now.
     */
    async longestPauseOf(subjectHashes: readonly string[], now: number): Promise<number | undefined> {
      const [row] = await database.read<{ paused_until: number | null }>(
        `select max(paused_until) as paused_until from sign_in_attempts
         where subject_hash in (select subject_hash from rows($1) as counted (subject_hash text)) and ${isPaused}`,
        [JSON.stringify(subjectHashes.map((subject_hash) => ({ subject_hash }))), now],
      )
      return row?.paused_until ?? undefined
    },

    /** Removes a counter with all its attempts. */
    async forget(subjectHash: string): Promise<void> {
      const first = {
        sql: 'delete from sign_in_attempts where subject_hash = $1 returning subject_hash',
        values: [subjectHash],
      }
      await database.step(first, { rowKeys: [counterKey(subjectHash)] })
    },

    /**
     * Removes one attempt from a counter. If the current pause ends at `itsPause`, it is the pause that followed this
     * attempt, and is also removed. If it ends at another time, it is the pause of a later attempt, and stays. Other
     * attempts stay counted.
     */
    async uncount(subjectHash: string, itsPause: number): Promise<void> {
      const first = {
        sql: `update sign_in_attempts set attempts = attempts - 1,
                paused_until = case when paused_until = $2 then 0 else paused_until end
              where subject_hash = $1 returning subject_hash`,
        values: [subjectHash, itsPause],
      }
      await database.step(first, { rowKeys: [counterKey(subjectHash)] })
    },

    /**
     * Removes at most `atMost` counters whose `last_at` is more than a day ago and that are not paused now. Resolves to
     * the number of removed counters.
     */
    async forgetOld(now: number, atMost: number): Promise<number> {
      const over = { where: 'last_at < $1 and paused_until <= $2', by: 'last_at', values: [now - countedForMs, now] }
      const old = { table: 'sign_in_attempts', key: 'subject_hash', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}

/** If this many milliseconds have passed since the `last_at` of a counter, the next attempt counts as its first. */
const countedForMs = 24 * 3600_000

/** SQL: whether the counter is paused at the time $2. */
const isPaused = isNotOver(
  { begin: 'sign_in_attempts.paused_until - sign_in_attempts.pause', length: 'sign_in_attempts.pause' },
  '$2',
)

const counterKey = (subjectHash: string) => `sign-in attempts ${subjectHash}`

/**
 * SQL: the number of attempts to forget. It is one for each full interval of $7 milliseconds (`fadesEveryMs`) since
 * `last_at`.
 */
const faded = '(cast($2 as bigint) - sign_in_attempts.last_at) / cast($7 as bigint)'

/** SQL: the new number of attempts, which includes the current attempt. */
const counted = `case
  when sign_in_attempts.last_at < cast($6 as bigint) or sign_in_attempts.attempts <= ${faded} then 1
  when ${faded} < 0 then sign_in_attempts.attempts + 1
  else sign_in_attempts.attempts - ${faded} + 1 end`

/**
 * SQL: the new value of `last_at`. Without `fadesEveryMs`, it is the time of the attempt. With `fadesEveryMs`, it is
 * the time of the attempt in two cases. First, if the old value is more than a day old. Second, if the old value is so
 * far in the future that the wall clock must have been set back. If this value stayed, no attempt would be forgotten
 * until the clock reaches it again.
 *
 * In all other cases, one attempt is forgotten for each full interval since `last_at`, and `last_at` moves forward by
 * these full intervals only. So the remaining time counts towards the next interval. For example, with an interval of
 * one minute, an attempt 90 seconds after `last_at` causes one attempt to be forgotten, and `last_at` moves forward by
 * 60 seconds. If `last_at` were the time of each attempt, and a network made an attempt every half a minute, no attempt
 * would ever be forgotten.
 */
const fadedUpTo = `case
  when sign_in_attempts.last_at < cast($6 as bigint) or cast($7 as bigint) >= cast($2 as bigint) - cast($6 as bigint)
    or sign_in_attempts.last_at > cast($2 as bigint) + ${mostAheadMs} then cast($2 as bigint)
  when ${faded} > 0 then sign_in_attempts.last_at + ${faded} * cast($7 as bigint)
  else sign_in_attempts.last_at end`

/**
 * SQL: the milliseconds of the pause after an attempt. The pause after attempt number $3 lasts $4 milliseconds. After
 * each further attempt it is twice as long, up to $5 milliseconds. Before attempt number $3 there is no pause.
 */
function pauseAfter(attempts: string): string {
  const further = `(${attempts}) - cast($3 as bigint)`
  const doubled = `(cast($4 as bigint) << cast(${further} as integer))`
  return `case when ${further} < 0 then 0
    when ${further} > 16 or ${doubled} > cast($5 as bigint) then cast($5 as bigint)
    else ${doubled} end`
}

/**
 * SQL: the end of the pause that follows an attempt. The pause begins at $2. If there is no pause, the value is 0. It
 * is not $2, because a node whose clock is slightly behind would take $2 for the end of a pause.
 */
const pausedAfter = (attempts: string) =>
  `case when (${attempts}) < cast($3 as bigint) then 0 else cast($2 as bigint) + ${pauseAfter(attempts)} end`
