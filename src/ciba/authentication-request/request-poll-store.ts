/** Stores when a request was last polled, and the interval between its polls. */
import { fingerprint } from '../../platform/crypto.ts'
import type { Database } from '../../platform/storage/database.ts'
import type { OnUnreadable } from '../../platform/unreadable-values.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { countPollSql, leastPauseSql, usualLongestInterval } from './poll-interval.ts'
import { its, type RequestRow, toRequest } from './request-row.ts'

/** A counted poll: the request as it is after the poll, and whether the poll was too early. */
export interface Poll {
  request: AuthenticationRequest
  tooEarly: boolean
  /** The number of consecutive polls that were not too early since the interval was lengthened. */
  keptPolls: number
}

/** Polls of one request that a node has counted in memory and not written to the table yet. */
export interface UnwrittenPolls {
  /**
   * The time of the last poll that the node knows, in milliseconds since 1970 by the clock of the database; 0 if it
   * knows none.
   */
  lastPolledAt: number
  /** The interval after the unwritten polls; undefined if the polls have not changed it. */
  changed?: { interval: number; keptPolls: number } | undefined
}

/** Polls counted in memory that are to be written to the table, and the request that they belong to. */
export interface KeptPoll extends UnwrittenPolls {
  authReqIdHash: string
}

export interface PollStoreNeeds {
  /** The interval does not grow beyond this number of seconds. */
  longestInterval?: number | undefined
  /** Called for each stored value of a request that cannot be parsed. Default: throws the error. */
  onUnreadable?: OnUnreadable | undefined
}

/** Counts polls in the table. */
export function pollsIn(
  database: Database,
  { longestInterval = usualLongestInterval, onUnreadable }: PollStoreNeeds = {},
) {
  return {
    /**
     * Counts a poll by the client that owns the request, and changes the interval (`poll-interval.ts`) if the request
     * is pending. The first poll is never too early. The poll is counted in one SQL statement. So if two polls are
     * counted at the same time, the second takes the first into account. If the request is unknown or belongs to
     * another client, the function resolves to undefined and changes nothing.
     *
     * @param polledAt when the poll arrived, in milliseconds since 1970 by the clock of the database. All nodes use
     *   this clock, because several nodes may count the polls of one request
     * @param unwritten polls that were counted in memory and are written together with this poll
     */
    async poll(
      authReqId: string,
      clientId: string,
      polledAt: number,
      { lastPolledAt, changed }: UnwrittenPolls = { lastPolledAt: 0 },
    ): Promise<Poll | undefined> {
      const authReqIdHash = fingerprint(authReqId)
      const first = {
        sql: counting,
        values: [
          authReqIdHash,
          clientId,
          polledAt,
          lastPolledAt,
          changed?.interval ?? null,
          changed?.keptPolls ?? null,
          longestInterval,
        ],
      }
      const [row] = await database.step<RequestRow>(first, { rowKeys: [`polls of ${authReqIdHash}`] })
      return (
        row && {
          request: toRequest(row, onUnreadable),
          tooEarly: row.slowed_at === polledAt,
          keptPolls: row.kept_polls ?? 0,
        }
      )
    },

    /** Writes polls that were counted in memory. */
    async keepPolls(polls: KeptPoll[]): Promise<void> {
      // Each poll is encoded as one string with fields at fixed positions, because `each` takes a list of strings.
      const texts = polls.map(
        ({ authReqIdHash, lastPolledAt, changed }) =>
          authReqIdHash.padEnd(43) +
          String(lastPolledAt).padStart(15, '0') +
          (changed === undefined ? '' : changed.keptPolls + String(changed.interval)),
      )
      await database.step({
        sql: `update backchannel_auth_requests set
                interval_seconds = case when ${isChanged} then cast(substr(each.value, 60) as bigint) else interval_seconds end,
                kept_polls = case when ${isChanged} then cast(substr(each.value, 59, 1) as bigint) else kept_polls end,
                last_polled_at = case when last_polled_at > ${lastPoll} then last_polled_at else ${lastPoll} end
              from each($1)
              where auth_req_id_hash = substr(each.value, 1, 43) and ${its('status')} = 'pending'
              returning auth_req_id_hash as hash`,
        values: [JSON.stringify(texts)],
      })
    },
  }
}

const lastPoll = 'cast(substr(each.value, 44, 15) as bigint)'
const isChanged = 'length(each.value) > 58'

const longest = 'cast($7 as bigint)'
const atMostLongest = (seconds: string) => `case when ${seconds} > ${longest} then ${longest} else ${seconds} end`

/** SQL: the interval before the poll. The stored interval may exceed the configured maximum, so it is limited here. */
const interval = atMostLongest('coalesce(cast($5 as bigint), interval_seconds)')
const first = atMostLongest('coalesce(first_interval_seconds, interval_seconds)')
const kept = 'coalesce(cast($6 as bigint), kept_polls, 0)'

/** SQL: whether the time since `time` is shorter than `leastPauseMs`. False if `time` is null or lies in the future. */
const isJustAfter = (time: string) => `coalesce($3 >= ${time} and $3 < ${time} + ${leastPauseSql(interval)}, false)`

/**
 * SQL: whether a poll is too early. It is too early if the request is pending and the time since its last poll is
 * shorter than `leastPauseMs`.
 */
const early = `(status = 'pending' and expires_at > $3
  and (${isJustAfter('last_polled_at')} or cast($4 as bigint) > 0 and ${isJustAfter('cast($4 as bigint)')}))`

const counted = countPollSql(early, { interval, first, kept, longest })

const counting = `
  update backchannel_auth_requests set
    interval_seconds = ${counted.interval},
    kept_polls = ${counted.kept},
    slowed_at = case when ${early} then $3 else slowed_at end,
    last_polled_at = $3
  where auth_req_id_hash = $1 and client_id = $2 returning *`
