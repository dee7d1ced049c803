import type { Database, Statement } from '../storage/database.ts'

/** Milliseconds. */
export interface PauseAfterDenial {
  /** After the first denial; each further one makes it twice as long. 0: there is none. */
  first: number
  longest: number
}

export type DenialPauseStore = ReturnType<typeof createDenialPauseStore>

/** How long clients wait before they may ask a user again who has denied them something. */
export function createDenialPauseStore(database: Database, { first, longest }: PauseAfterDenial) {
  return {
    /** The statements for the step of a denial: the pair waits, and the next time twice as long. */
    lengthen(userId: string, clientId: string, now: number): Statement[] {
      if (first === 0) return []
      const doubled = `case when denial_pauses.pause * 2 > $5 then cast($5 as bigint) else denial_pauses.pause * 2 end`
      return [
        {
          sql: `insert into denial_pauses (user_id, client_id, pause, paused_until)
                values ($1, $2, $3, cast($4 as bigint) + cast($3 as bigint))
                on conflict (user_id, client_id)
                do update set pause = ${doubled}, paused_until = cast($4 as bigint) + ${doubled}`,
          values: [userId, clientId, Math.min(first, longest), now, longest],
        },
      ]
    },

    /** The statements for the step of an approval: whatever was denied before is forgiven. */
    lift: (userId: string, clientId: string): Statement[] => [
      {
        sql: `delete from denial_pauses where (user_id, client_id) in (
                select user_id, client_id from rows($1) as forgiven (user_id text, client_id text))`,
        rows: [{ user_id: userId, client_id: clientId }],
      },
    ],

    /** Forgets denials whose pause has been over for a day. */
    async forgetOver(now: number): Promise<number> {
      const rows = await database.step({
        sql: 'delete from denial_pauses where paused_until < $1 returning user_id',
        values: [now - day],
      })
      return rows.length
    },
  }
}

const day = 24 * 3600_000
