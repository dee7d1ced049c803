/** Ends open requests in one step with whatever ends them. */
import type { Change, Database, ListStatement, Statement } from '../../platform/storage/database.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { type RequestRow, toRequest } from './request-row.ts'

/** What follows from the requests that were found, in the same step. */
export interface Followed {
  statements: Statement[]
  changes: Change[]
}

type Follow = (found: AuthenticationRequest[]) => Followed

/** Who the user has to be for anything to happen: of the built-in directory, of the configuration, or whoever. */
export type MustBe = 'added' | 'configured' | 'anybody'

export type OpenRequestStore = ReturnType<typeof createOpenRequestStore>

/**
 * Each step locks the requests it is about first, so that what it found stays as it was found: of a decision, a
 * redemption or an expiry at the same moment one comes before the step, or finds its condition gone.
 */
export function createOpenRequestStore(database: Database) {
  async function step(first: Statement, follow: Follow, userId: string) {
    const followed = once((rows: FoundRow[]) => follow(requestsOf(rows)))
    const rows = await database.step<FoundRow>(first, {
      also: (rows) => followed(rows).statements,
      announce: (rows) => followed(rows).changes,
      // No request is accepted in between, which the step would not see.
      lockKeys: `requests of ${userId}`,
    })
    return rows.length > 0 ? requestsOf(rows) : undefined
  }

  return {
    /** Of a user. @returns those that were open; undefined if the user is not who `mustBe` says, and nothing happened */
    endOfUser: (userId: string, mustBe: MustBe, now: number, follow: Follow) =>
      step({ sql: ofUser, values: [userId, now, mustBe] }, follow, userId),

    /** Of a client about a user. @returns those that were open */
    endOfPair: async (userId: string, clientId: string, now: number, follow: Follow) =>
      (await step({ sql: ofPair, values: [userId, now, clientId] }, follow, userId)) ?? [],

    /** One of a user's requests, in whatever state. @returns it as it was, and whether something came out of it */
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

/** pending or approved → denied. For a step that has locked the request. @param settledBy the history row that says why */
export function endOpen(id: string, settledBy: string, now: number): ListStatement {
  return {
    sql: `update backchannel_auth_requests
          set status = 'denied', settled_by = ended.decision, settled_at = ended.at, call_back_sealed = null
          from rows($1) as ended (id text, decision text, at bigint)
          where backchannel_auth_requests.id = ended.id and status in ('pending', 'approved')`,
    rows: [{ id, decision: settledBy, at: now }],
  }
}

/** A step's first statement has to return a row for anything to happen: without open requests it is one of nulls. */
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

/** What follows is worked out once for the rows of one attempt: statements and announcements are about the same. */
function once<Row>(work: (rows: Row[]) => Followed): (rows: Row[]) => Followed {
  let last: { rows: Row[]; followed: Followed } | undefined
  return (rows) => {
    if (last?.rows !== rows) last = { rows, followed: work(rows) }
    return last.followed
  }
}
