import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Database, Statement } from '../../platform/storage/database.ts'

/** The lengths of clients' pauses after denials, in milliseconds. */
export interface PauseAfterDenial {
  /** The pause after the first denial. Each further denial doubles the pause. 0 means no pauses. */
  first: number
  /** The maximum length of a pause. */
  longest: number
}

export type DenialPauseStore = ReturnType<typeof createDenialPauseStore>

/**
 * Stores the pauses of clients. After a denial, or after an unanswered request with a short lifetime, further requests
 * of the client about the same user are refused until the pause is over.
 *
 * @param toDatabaseTime converts a time of this node's wall clock to the database's clock. Pauses are stored as times
 *   of the database's clock, because the clocks of nodes differ. Default: the time is not changed
 */
export function createDenialPauseStore(
  database: Database,
  limits: PauseAfterDenial,
  toDatabaseTime = (time: number) => time,
) {
  const lengthening = lengtheningBy(limits)

  return {
    /** Returns the statements for the transaction of a denial: they start a pause, or double the current pause. */
    lengthen(userId: string, clientId: string, now: number): Statement[] {
      if (limits.first === 0) return []
      return [{ sql: lengthening, rows: [{ user_id: userId, client_id: clientId, at: toDatabaseTime(now) }] }]
    },

    /** Returns the statements for the transaction of an approval: they clear the pause. */
    lift: (userId: string, clientId: string): Statement[] => [
      {
        sql: `delete from denial_pauses where (user_id, client_id) in (
                select user_id, client_id from rows($1) as forgiven (user_id text, client_id text))`,
        rows: [{ user_id: userId, client_id: clientId }],
      },
    ],

    /** Removes at most `atMost` pauses that ended more than a day ago. Resolves to the number of removed pauses. */
    async forgetOver(now: number, atMost: number): Promise<number> {
      const over = { where: 'paused_until < $1', by: 'paused_until', values: [now - day] }
      const old = { table: 'denial_pauses', key: 'user_id, client_id', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}

/**
 * Maximum number of doublings in one statement. It is high enough: after 17 doublings, the shortest possible pause (one
 * second) exceeds the longest possible pause (one day).
 */
const mostDoublings = 20

/**
 * Returns the SQL that starts or doubles the pauses of many pairs of user and client. It updates the pairs in sorted
 * order, so that no two transactions deadlock. If a pair has several denials in the input, each of them counts. `first`
 * and `longest` are part of the SQL, because they are constant in a process.
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
