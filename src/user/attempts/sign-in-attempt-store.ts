import type { Database } from '../../platform/storage/database.ts'

/** In milliseconds. */
export interface GrowingPause {
  first: number
  longest: number
}

/** One counter of attempts. */
export interface AttemptCounter {
  /** A keyed hash of what its attempts have in common. */
  subjectHash: string
  /** Attempts that are not followed by a pause. */
  free: number
  /** One attempt is forgotten each time this period has passed; by default, all are forgotten a day after the last. */
  fadesEveryMs?: number | undefined
}

export type SignInAttemptStore = ReturnType<typeof createSignInAttemptStore>

/** Attempts to sign in, each counted under a keyed hash of what they have in common. */
export function createSignInAttemptStore(database: Database, pause: GrowingPause) {
  return {
    /**
     * Counts an attempt before its result is known, so that simultaneous attempts are all counted. From the `free`th on, an
     * attempt is followed by a pause, twice as long each time. During a pause no attempt is made or counted.
     *
     * @returns the end of the pause that follows, or undefined if there is a pause now
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

    /** Resolves to the end of the longest pause of these counters, or undefined if there is none now. */
    async longestPauseOf(subjectHashes: readonly string[], now: number): Promise<number | undefined> {
      const [row] = await database.read<{ paused_until: number | null }>(
        `select max(paused_until) as paused_until from sign_in_attempts
         where subject_hash in (select subject_hash from rows($1) as counted (subject_hash text)) and paused_until > $2`,
        [JSON.stringify(subjectHashes.map((subject_hash) => ({ subject_hash }))), now],
      )
      return row?.paused_until ?? undefined
    },

    /** Forgets all attempts. */
    async forget(subjectHash: string): Promise<void> {
      await database.step({
        sql: 'delete from sign_in_attempts where subject_hash = $1 returning subject_hash',
        values: [subjectHash],
      })
    },

    /** Takes one attempt back, with the pause that would have followed it; other attempts stay. */
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

/** Milliseconds after which attempts no longer count. */
const countedForMs = 24 * 3600_000

/** $7: milliseconds after which one attempt is forgotten. */
const faded = '(cast($2 as bigint) - sign_in_attempts.last_at) / cast($7 as bigint)'

const counted = `case
  when sign_in_attempts.last_at < cast($6 as bigint) or sign_in_attempts.attempts <= ${faded} then 1
  when ${faded} < 0 then sign_in_attempts.attempts + 1
  else sign_in_attempts.attempts - ${faded} + 1 end`

/**
 * When the attempt came; or, where attempts fade, the time up to which fading was applied: what has passed since then counts
 * towards the next. Else a network with a sign-in every half a minute would never have an attempt forgotten.
 */
const fadedUpTo = `case
  when sign_in_attempts.last_at < cast($6 as bigint) or cast($7 as bigint) >= cast($2 as bigint) - cast($6 as bigint)
    then cast($2 as bigint)
  when ${faded} > 0 then sign_in_attempts.last_at + ${faded} * cast($7 as bigint)
  else sign_in_attempts.last_at end`

/**
 * The end of the pause: $3 attempts are free, then $4 milliseconds from $2, doubled for each further one, $5 at most. Free
 * attempts are followed by no pause at all, not even one from a node whose clock is slightly behind.
 */
function pausedAfter(attempts: string): string {
  const further = `(${attempts}) - cast($3 as bigint)`
  const doubled = `(cast($4 as bigint) << cast(${further} as integer))`
  return `case when ${further} < 0 then 0
    when ${further} > 16 or ${doubled} > cast($5 as bigint) then cast($2 as bigint) + cast($5 as bigint)
    else cast($2 as bigint) + ${doubled} end`
}
