/** When a request was polled last, and how long its client has to pause. */
import { fingerprint } from '../../platform/crypto.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { its, type RequestRow, toRequest } from './request-row.ts'

/** A poll, accounted for: the request as it is now, and whether this poll came too early. */
export interface Poll {
  request: AuthenticationRequest
  tooEarly: boolean
}

/** What happened to a poll's clock that is not in the table yet. */
export interface UnwrittenPolls {
  /** Milliseconds since 1970; 0 for none. */
  lastPolledAt: number
  /** Seconds that the interval has grown by. */
  growth: number
}

export interface KeptPoll extends UnwrittenPolls {
  authReqIdHash: string
}

export function pollsIn(database: Database) {
  return {
    /**
     * Accounts for a poll by the client the request belongs to, and raises the interval by five seconds if a pending
     * request is polled too early (TE-1). The first poll is never too early (TK-18). One statement: of two polls at
     * once the second sees the first (M45). Somebody else's request is like none, and is not touched (TE-2, TE-9).
     *
     * @param arrivedAt when the poll arrived, not when it is answered (TK-4)
     * @param unwritten what was accounted for elsewhere and is written with it
     */
    async poll(
      authReqId: string,
      clientId: string,
      arrivedAt: number,
      unwritten: UnwrittenPolls = { lastPolledAt: 0, growth: 0 },
    ): Promise<Poll | undefined> {
      const [row] = await database.step<RequestRow>({
        sql: `update backchannel_auth_requests set
                interval_seconds = ${grown} + case when ${early} then 5 else 0 end,
                slowed_at = case when ${early} then $3 else slowed_at end,
                last_polled_at = $3
              where auth_req_id_hash = $1 and client_id = $2 returning *`,
        values: [fingerprint(authReqId), clientId, arrivedAt, unwritten.lastPolledAt, unwritten.growth],
      })
      return row && { request: toRequest(row), tooEarly: row.slowed_at === arrivedAt }
    },

    /** Writes down polls that were accounted for elsewhere. @returns the intervals as they are now, in seconds */
    async keepPolls(polls: KeptPoll[]): Promise<Map<string, number>> {
      // Fields of fixed width: both engines have lists of texts, but not of more than that.
      const texts = polls.map(
        ({ authReqIdHash, lastPolledAt, growth }) =>
          authReqIdHash.padEnd(43) + String(lastPolledAt).padStart(15, '0') + growth,
      )
      const rows = await database.step<{ hash: string; interval: number }>({
        sql: `update backchannel_auth_requests set
                interval_seconds = interval_seconds + cast(substr(each.value, 59) as bigint),
                last_polled_at = case when last_polled_at > ${lastPoll} then last_polled_at else ${lastPoll} end
              from each($1)
              where auth_req_id_hash = substr(each.value, 1, 43) and ${its('status')} = 'pending'
              returning auth_req_id_hash as hash, interval_seconds as interval`,
        values: [JSON.stringify(texts)],
      })
      return new Map(rows.map(({ hash, interval }) => [hash, interval]))
    },
  }
}

const grown = 'interval_seconds + cast($5 as bigint)'

/** A poll is early if a request that is still open was polled less than its interval ago. A ready answer never is (TK-15). */
const early = `status = 'pending' and expires_at > $3
                  and (coalesce($3 < last_polled_at + (${grown}) * 1000, false)
                    or cast($4 as bigint) > 0 and $3 < cast($4 as bigint) + (${grown}) * 1000)`

const lastPoll = 'cast(substr(each.value, 44, 15) as bigint)'
