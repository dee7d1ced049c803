/** Ends open requests in the same step as the change that causes it. */
import type { Change, Database, ListStatement, Statement } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { type RequestRow, toRequest } from './request-row.ts'

/** Statements and announcements for the requests that were found, all in the same step. */
export interface Followed {
  statements: Statement[]
  changes: Change[]
}

type Follow = (found: AuthenticationRequest[]) => Followed

/** Condition for the step: the user is in the built-in directory, in the configuration, or may be any user. */
export type MustBe = 'added' | 'configured' | 'anybody'

export type OpenRequestStore = ReturnType<typeof createOpenRequestStore>

/**
 * Each step first locks the requests that it finds, so that they do not change before it ends: a concurrent decision,
 * redemption or expiry either comes before the step, or finds its condition false.
 */
export function createOpenRequestStore(database: Database) {
  async function step(first: Statement, follow: Follow, userId: string) {
    const followed = once((rows: FoundRow[]) => follow(requestsOf(rows)))
    const rows = await database.step<FoundRow>(first, {
      also: (rows) => followed(rows).statements,
      announce: (rows) => followed(rows).changes,
      // Otherwise a request could be accepted meanwhile, which the step would not see.
      lockKeys: `requests of ${userId}`,
    })
    return rows.length > 0 ? requestsOf(rows) : undefined
  }

  return {
    /** Ends a user's open requests. @returns them; undefined if `mustBe` is not met: then nothing was changed */
    endOfUser: (userId: string, mustBe: MustBe, now: number, follow: Follow) =>
      step({ sql: ofUser, values: [userId, now, mustBe] }, follow, userId),

    /** Ends the open requests of a client about a user. @returns them */
    endOfPair: async (userId: string, clientId: string, now: number, follow: Follow) =>
      (await step({ sql: ofPair, values: [userId, now, clientId] }, follow, userId)) ?? [],

    /** Ends one request of a user, in any state. @returns it as it was, and whether tokens have been issued for it */
    async endOne(id: string, userId: string, follow: (found: AuthenticationRequest) => Followed) {
      const followed = once(([row]: FoundRow[]) => follow(toRequest(row as RequestRow)))
      const [row] = await database.step<RequestRow & { has_issued: number }>(
        { sql: one, values: [id, userId] },
        { also: (rows) => followed(rows).statements, announce: (rows) => followed(rows).changes },
      )
      return row && { request: toRequest(row), hasIssued: row.has_issued === 1 }
    },
  }
}

/** pending or approved → denied, for a step that has locked the request. @param settledBy id of the history row */
export function endOpen(id: string, settledBy: string, now: number): ListStatement {
  return {
    sql: `update backchannel_auth_requests
          set status = 'denied', settled_by = ended.decision, settled_at = ended.at, call_back_sealed = null
          from rows($1) as ended (id text, decision text, at bigint)
          where backchannel_auth_requests.id = ended.id and status in ('pending', 'approved')`,
    rows: [{ id, decision: settledBy, at: now }],
  }
}

/** A step continues only if its first statement returns a row: without open requests it is a row of nulls. */
type FoundRow = RequestRow | { id: null }

const open = (whose: string) => `
  with open as materialized (
    select * from backchannel_auth_requests
    where ${whose} and status in ('pending', 'approved') and expires_at > $2
    order by id /* for update */
  )`

const ofUser = `${open('user_id = $1')}
  select open.* from (
    select 1 as present where $3 = 'anybody'
      or $3 = 'added' and exists (select 1 from users where id = $1)
      or $3 = 'configured' and exists (select 1 from configured_users where user_id = $1)
  ) as present left join open on true`

const ofPair = `${open("user_id = $1 and client_id || '' = $3")}
  select open.* from (select 1 as present) as present left join open on true`

const one = `
  with named as materialized (
    select * from backchannel_auth_requests where id = $1 and user_id = $2 /* for update */
  )
  select named.*, case when exists (select 1 from oidc_models where request_id = $1) then 1 else 0 end as has_issued
  from named`

function requestsOf(rows: readonly FoundRow[]): AuthenticationRequest[] {
  return rows.filter((row) => row.id !== null).map(toRequest)
}

/** Calls `work` once for the rows of one attempt, so that statements and announcements agree (ids are generated). */
function once<Row>(work: (rows: Row[]) => Followed): (rows: Row[]) => Followed {
  let last: { rows: Row[]; followed: Followed } | undefined
  return (rows) => {
    if (last?.rows !== rows) last = { rows, followed: work(rows) }
    return last.followed
  }
}
