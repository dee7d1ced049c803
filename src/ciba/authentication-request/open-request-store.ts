/**
 * Denies open requests in the same transaction as the change that causes the denial, such as the removal of a user. A
 * request is open if its stored status is `pending` or `approved`. The deadline is not checked, because the clock of
 * this process may be ahead. A check would then leave out requests that the client can still redeem at another node. To
 * deny a request after its deadline does no harm.
 */
import {
  atMostRows,
  type Change,
  type Database,
  type ListStatement,
  type Statement,
} from '../../platform/storage/database.ts'
import type { OnUnreadable } from '../../platform/unreadable-values.ts'
import { isSignedIn, signedInLock, signOutLock } from '../../user/token-validity-store.ts'
import { type AuthenticationRequest, decoyUserId } from './authentication-request.ts'
import { type RequestRow, toRequest } from './request-row.ts'

/**
 * The further statements and the announcements of a transaction. They are made from the requests that the first
 * statement of the transaction returns.
 */
export interface Followed {
  statements: Statement[]
  changes: Change[]
}

/**
 * A user and a client. If a call of the user causes the change, `tokenHash` is the hash of the access token of this
 * call.
 */
export interface Pair {
  userId: string
  clientId: string
  tokenHash?: string | undefined
}

/**
 * Identifies one request of one user. If a call of the user changes the request, `tokenHash` is the hash of the access
 * token of this call.
 */
export interface OneRequest {
  id: string
  userId: string
  tokenHash?: string | undefined
}

type Follow = (found: AuthenticationRequest[]) => Followed

/**
 * The condition on the user. If it is false, the transaction changes nothing. The user must be:
 * - `added`: a user that was added to the built-in directory
 * - `configured`: a user of the configuration
 * - `configured_open`: a user of the configuration who is not locked
 * - `withPassword`: a user of the configuration whose password still has this hash
 * - `anybody`: any user
 */
export type MustBe = 'added' | 'configured' | 'configured_open' | { withPassword: string } | 'anybody'

export type OpenRequestStore = ReturnType<typeof createOpenRequestStore>

/**
 * Each transaction first locks the requests that it finds, so that no other transaction can change them before the
 * commit. A concurrent decision, redemption or expiry is either committed before the requests are locked, or finds its
 * condition false.
 */
export function createOpenRequestStore(database: Database, onUnreadable?: OnUnreadable) {
  const requestsOf = (rows: readonly FoundRow[]) =>
    rows.flatMap((row) => (row.id === null ? [] : [toRequest(row, onUnreadable)]))

  async function step(first: Statement, follow: Follow, userId: string) {
    const followed = once((rows: FoundRow[]) => follow(requestsOf(rows)))
    const rows = await database.step<FoundRow>(first, {
      also: (rows) => followed(rows).statements,
      announce: (rows) => followed(rows).changes,
      // Without this lock, a new request about the user could be accepted during this transaction, and would stay open.
      lockKeys: signOutLock(userId),
    })
    return rows.length > 0 ? requestsOf(rows) : undefined
  }

  return {
    /**
     * Locks a user's open requests. The same transaction executes the statements that `follow` returns for these
     * requests.
     * @returns the requests as they were before the transaction; undefined if the user does not meet the condition
     *   `mustBe`. In this case, nothing is changed
     */
    endOfUser: (userId: string, mustBe: MustBe, follow: Follow) => {
      const [kind, password] = typeof mustBe === 'string' ? [mustBe, null] : ['with_password', mustBe.withPassword]
      return step({ sql: ofUser, values: [userId, kind, password] }, follow, userId)
    },

    /**
     * Resolves to the ids of at most `most` users with pending requests, in ascending order. Decoy users are left out.
     * @param after only ids greater than this id are returned
     */
    async usersWithPending(after: string, most: number): Promise<string[]> {
      const rows = await database.read<{ user_id: string }>(
        `select distinct user_id from backchannel_auth_requests
         where status = 'pending' and user_id > $1 and user_id not like $2
         order by user_id ${atMostRows(most)}`,
        [after, `${decoyUserId('')}%`],
      )
      return rows.map((row) => row.user_id)
    },

    /**
     * Locks the open requests of one client about one user. The same transaction executes the statements that `follow`
     * returns for these requests.
     * @returns the requests as they were before the transaction; undefined if the access token is not valid any more.
     *   In this case, nothing is changed
     */
    endOfPair: ({ userId, clientId, tokenHash }: Pair, follow: Follow) =>
      step({ sql: ofPair, values: [userId, clientId, tokenHash ?? null] }, follow, userId),

    /**
     * Locks one request of a user, whatever its status is. The same transaction executes the statements that `follow`
     * returns for this request.
     * @returns the request as it was before the transaction, and whether tokens that were issued for it exist;
     *   undefined if the request is not found, or if the access token is not valid any more
     */
    async endOne({ id, userId, tokenHash }: OneRequest, follow: (found: AuthenticationRequest) => Followed) {
      const followed = once(([row]: FoundRow[]) => follow(toRequest(row as RequestRow, onUnreadable)))
      const [row] = await database.step<RequestRow & { has_issued: number }>(
        { sql: one, values: [id, userId, tokenHash ?? null] },
        {
          also: (rows) => followed(rows).statements,
          announce: (rows) => followed(rows).changes,
          lockKeys: signedInLock(userId, tokenHash),
        },
      )
      return row && { request: toRequest(row, onUnreadable), hasIssued: row.has_issued === 1 }
    },
  }
}

/**
 * Returns the statement that denies a pending or approved request. The transaction must have locked the request before.
 * @param settledBy id of the history row
 */
export function endOpen(id: string, settledBy: string, now: number): ListStatement {
  return {
    sql: `update backchannel_auth_requests
          set status = 'denied', settled_by = ended.decision, settled_at = ended.at, call_back_sealed = null
          from rows($1) as ended (id text, decision text, at bigint)
          where backchannel_auth_requests.id = ended.id and status in ('pending', 'approved')`,
    rows: [{ id, decision: settledBy, at: now }],
  }
}

/**
 * A row that the first statement of a transaction returns. `database.step` executes the other statements only if the
 * first statement returns a row. So if the condition on the user is true but there are no open requests, the first
 * statement returns one row of nulls.
 */
type FoundRow = RequestRow | { id: null }

const open = (whose: string) => `
  with open as materialized (
    select * from backchannel_auth_requests
    where ${whose} and status in ('pending', 'approved')
    order by id /* for update */
  )`

const ofUser = `${open('user_id = $1')}
  select open.* from (
    select 1 as present where $2 = 'anybody'
      or $2 = 'added' and exists (select 1 from users where id = $1)
      or $2 in ('configured', 'configured_open') and exists (select 1 from configured_users where user_id = $1)
        and ($2 = 'configured' or not exists (select 1 from user_generations where user_id = $1 and is_closed = 1))
      or $2 = 'with_password' and exists (select 1 from configured_users where user_id = $1 and password_hash = $3)
  ) as present left join open on true`

const ofPair = `${open("user_id = $1 and client_id || '' = $2")}
  select open.* from (select 1 as present where ${isSignedIn('$3')}) as present left join open on true`

const one = `
  with named as materialized (
    select * from backchannel_auth_requests where id = $1 and user_id = $2 and ${isSignedIn('$3')} /* for update */
  )
  select named.*, case when exists (select 1 from oidc_models where request_id = $1) then 1 else 0 end as has_issued
  from named`

/**
 * Returns a function that calls `work` only once for the same rows, and returns the same result at each further call
 * with these rows. The reason is that `work` generates ids, which must be the same in the statements and in the
 * announcements.
 */
function once<Row>(work: (rows: Row[]) => Followed): (rows: Row[]) => Followed {
  let last: { rows: Row[]; followed: Followed } | undefined
  return (rows) => {
    if (last?.rows !== rows) last = { rows, followed: work(rows) }
    return last.followed
  }
}
