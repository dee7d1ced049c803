import type { Database, Statement } from '../../platform/storage/database.ts'

/** Milliseconds. */
export interface PauseAfterDenial {
  /** After the first denial; each further one makes it twice as long. 0: there is none. */
  first: number
  longest: number
}

export type DenialPauseStore = ReturnType<typeof createDenialPauseStore>

/**
 * How long clients wait before they may ask a user again who has denied them something, or has not answered what ran out
 * soon.
 */
export function createDenialPauseStore(database: Database, limits: PauseAfterDenial) {
  const lengthening = lengtheningBy(limits)

  return {
    /** The statements for the step of a denial: the pair waits, and the next time twice as long. */
    lengthen(userId: string, clientId: string, now: number): Statement[] {
      if (limits.first === 0) return []
      return [{ sql: lengthening, rows: [{ user_id: userId, client_id: clientId, at: now }] }]
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

/** More doublings than lead from the shortest first pause to the longest one. */
const mostDoublings = 20

/**
 * One statement for many pairs, in the order of their names, so that no two steps wait for each other. A pair that comes
 * more than once in a step is doubled as often. The two settings are the same for every call of this process.
 */
function lengtheningBy({ first, longest }: PauseAfterDenial): string {
  const shortest = Math.min(first, longest)
  const atMost = (pause: string) => `case when ${pause} > ${longest} then ${longest} else ${pause} end`
  const started = atMost(`${shortest} * (cast(1 as bigint) << cast(doublings as int))`)
  const doubled = atMost(`denial_pauses.pause * 2 * (excluded.pause / ${shortest})`)
  return `
    insert into denial_pauses (user_id, client_id, pause, paused_until)
    select user_id, client_id, ${started}, at + ${started}
    from (select user_id, client_id, max(at) as at,
            case when count(*) > ${mostDoublings} then ${mostDoublings} else count(*) - 1 end as doublings
          from rows($1) as denied (user_id text, client_id text, at bigint) group by user_id, client_id) as denials
    where true order by user_id, client_id
    on conflict (user_id, client_id) do update set
      pause = ${doubled}, paused_until = excluded.paused_until - excluded.pause + ${doubled}`
}

const day = 24 * 3600_000
