/** Stores when a request was last polled, and the interval between its polls. */
import { fingerprint } from '../../platform/crypto.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { its, type RequestRow, toRequest } from './request-row.ts'

/** A poll that was counted: the request as it is after the poll, and whether the poll came too early. */
export interface Poll {
  request: AuthenticationRequest
  tooEarly: boolean
}

/** Polls of a request that are not in the table yet. */
export interface UnwrittenPolls {
  /** The time of the last of these polls, in milliseconds since 1970; 0 if there was none. */
  lastPolledAt: number
  /** Seconds by which these polls have lengthened the interval. */
  growth: number
}

/** Polls of one request that are to be written to the table. */
export interface KeptPoll extends UnwrittenPolls {
  authReqIdHash: string
}

/** Counts polls in the table. */
export function pollsIn(database: Database) {
  return {
    /**
     * Counts a poll by the client that owns the request, and lengthens the interval by five seconds if a pending request
     * is polled too early (CIBA §11). The first poll is never too early. All of this is one statement, so the second of
     * two concurrent polls takes the first into account. Resolves to undefined, and changes nothing, if the request is
     * unknown or belongs to another client.
     *
     * @param arrivedAt when the poll arrived, not when it is answered
     * @param unwritten polls that were counted in memory and are written together with this poll
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

    /** Writes polls that were counted in memory. @returns the new intervals in seconds, by `authReqIdHash` */
    async keepPolls(polls: KeptPoll[]): Promise<Map<string, number>> {
      // Each poll is one string with fields of fixed width, because `each` takes a list of strings.
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

/**
 * SQL: whether a poll is too early. This is the case if the request is pending and less than the interval has passed
 * since the last poll.
 */
const early = `status = 'pending' and expires_at > $3
                  and (coalesce($3 < last_polled_at + (${grown}) * 1000, false)
                    or cast($4 as bigint) > 0 and $3 < cast($4 as bigint) + (${grown}) * 1000)`

const lastPoll = 'cast(substr(each.value, 44, 15) as bigint)'
