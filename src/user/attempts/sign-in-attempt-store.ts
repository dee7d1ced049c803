import type { Database } from '../../platform/storage/database.ts'

/** The first and the longest pause, in milliseconds. */
export interface GrowingPause {
  first: number
  longest: number
}

/** One counter of attempts. */
export interface AttemptCounter {
  /** A keyed hash of what the counted attempts have in common, such as the address. */
  subjectHash: string
  /** The number of attempts after which the first pause begins. */
  free: number
  /**
   * One attempt is forgotten each time this many milliseconds have passed. By default, all are forgotten a day after the last.
   */
  fadesEveryMs?: number | undefined
}

export type SignInAttemptStore = ReturnType<typeof createSignInAttemptStore>

/** Attempts to sign in, each counted under a keyed hash of what they have in common. */
export function createSignInAttemptStore(database: Database, pause: GrowingPause) {
  return {
    /**
     * Counts an attempt before its result is known, so that simultaneous attempts are all counted. Attempt number `free` and
     * each later attempt are followed by a pause, each twice as long as the one before. During a pause no attempt is allowed or
     * counted.
     *
     * @returns the end of the pause that follows the attempt (0 if there is none), or undefined if there is a pause now
     */
    async take(
      { subjectHash, free, fadesEveryMs = countedForMs }: AttemptCounter,
      now: number,
    ): Promise<number | undefined> {
      const [row] = await database.step<{ paused_until: number }>({
        sql: `insert into sign_in_attempts (subject_hash, attempts, paused_until, last_at)
              values ($1, 1, ${pausedAfter('1')}, $2)
              on conflict (subject_hash) do update set
                attempts = ${counted}, paused_until = ${pausedAfter(counted)}, last_at = ${fadedUpTo}
              where sign_in_attempts.paused_until <= $2
              returning paused_until`,
        values: [subjectHash, now, free, pause.first, pause.longest, now - countedForMs, fadesEveryMs],
      })
      return row?.paused_until
    },

    async pausedUntil(subjectHash: string): Promise<number | undefined> {
      const [row] = await database.read<{ paused_until: number }>(
        'select paused_until from sign_in_attempts where subject_hash = $1',
        [subjectHash],
      )
      return row?.paused_until
    },

    /** Resolves to the latest time at which a current pause of these counters ends, or to undefined if none is paused now. */
    async longestPauseOf(subjectHashes: readonly string[], now: number): Promise<number | undefined> {
      const [row] = await database.read<{ paused_until: number | null }>(
        `select max(paused_until) as paused_until from sign_in_attempts
         where subject_hash in (select subject_hash from rows($1) as counted (subject_hash text)) and paused_until > $2`,
        [JSON.stringify(subjectHashes.map((subject_hash) => ({ subject_hash }))), now],
      )
      return row?.paused_until ?? undefined
    },

    /** Removes a counter with all its attempts. */
    async forget(subjectHash: string): Promise<void> {
      await database.step({
        sql: 'delete from sign_in_attempts where subject_hash = $1 returning subject_hash',
        values: [subjectHash],
      })
    },

    /**
     * Removes one attempt from a counter, and the pause that ends at `itsPause`, if no later pause has replaced it. Other
     * attempts stay counted.
     */
    async uncount(subjectHash: string, itsPause: number): Promise<void> {
      await database.step({
        sql: `update sign_in_attempts set attempts = attempts - 1,
                paused_until = case when paused_until = $2 then 0 else paused_until end
              where subject_hash = $1 returning subject_hash`,
        values: [subjectHash, itsPause],
      })
    },

    async forgetOld(now: number): Promise<number> {
      const rows = await database.step({
        sql: 'delete from sign_in_attempts where last_at < $1 and paused_until <= $2 returning subject_hash',
        values: [now - countedForMs, now],
      })
      return rows.length
    },
  }
}

/** Milliseconds after the last attempt, after which no attempt counts any more. */
const countedForMs = 24 * 3600_000

/** SQL: how many attempts to forget. $7: the milliseconds after which one attempt is forgotten. */
const faded = '(cast($2 as bigint) - sign_in_attempts.last_at) / cast($7 as bigint)'

const counted = `case
  when sign_in_attempts.last_at < cast($6 as bigint) or sign_in_attempts.attempts <= ${faded} then 1
  when ${faded} < 0 then sign_in_attempts.attempts + 1
  else sign_in_attempts.attempts - ${faded} + 1 end`

/**
 * SQL: the new value of `last_at`. Usually it is the time of the attempt. If attempts fade, it is the time up to which attempts
 * were forgotten, so that the time since then counts towards the next one to forget. Otherwise a network with an attempt every
 * half a minute would never have an attempt forgotten.
 */
const fadedUpTo = `case
  when sign_in_attempts.last_at < cast($6 as bigint) or cast($7 as bigint) >= cast($2 as bigint) - cast($6 as bigint)
    then cast($2 as bigint)
  when ${faded} > 0 then sign_in_attempts.last_at + ${faded} * cast($7 as bigint)
  else sign_in_attempts.last_at end`

/**
 * SQL: the end of the pause after an attempt. From attempt number $3 on, the pause begins at $2; it lasts $4 milliseconds,
 * doubled with each further attempt, up to $5. Earlier attempts get 0 and not $2, because a node whose clock is slightly behind
 * would take $2 for a pause.
 */
function pausedAfter(attempts: string): string {
  const further = `(${attempts}) - cast($3 as bigint)`
  const doubled = `(cast($4 as bigint) << cast(${further} as integer))`
  return `case when ${further} < 0 then 0
    when ${further} > 16 or ${doubled} > cast($5 as bigint) then cast($2 as bigint) + cast($5 as bigint)
    else cast($2 as bigint) + ${doubled} end`
}
