/**
 * The statements that each ending executes in each table. An ending is the sign-out, lock, removal or erasure of a
 * user, or the removal of a client. A test checks that all tables with data about users or clients are listed here.
 */
import { decoyUserId } from '../ciba/authentication-request/authentication-request.ts'
import { markPushesOfUser } from '../ciba/client-notification/revoked-push-store.ts'
import { openRequestsOfClient } from '../client/client-store.ts'
import type { Statement } from '../platform/storage/database.ts'

/**
 * The endings of a user:
 * - `signed_out`: all sessions, grants and tokens of the user are removed, and browsers are no longer notified.
 * - `locked`: in addition, requests for the user are not accepted or decided, and no tokens are issued, until the user
 *   is unlocked.
 * - `removed`: everything that belongs to the user is deleted, except requests, signed requests, notifications and
 *   decisions. These stay as evidence until they are removed by age.
 * - `erased`: in addition, requests, signed requests, notifications and decisions are deleted or made anonymous.
 */
export type UserEnding = 'signed_out' | 'locked' | 'removed' | 'erased'

/** The values that the statements of an ending need. */
export interface Ended {
  userId: string
  /**
   * A keyed hash that is stored instead of the id of an erased user, so that the id is not assigned to another user.
   */
  erasedAs: string
  /** The time of the ending, in milliseconds since 1970. */
  now: number
}

interface TableOfUser {
  table: string
  /** The endings that execute these statements. */
  in: readonly UserEnding[]
  statements(ended: Ended): Statement[]
  /** Which rows are not deleted, and why. */
  keeps?: string
  /** Set if the statements delete no rows, but only change rows. */
  deletesNothing?: true
}

const all: readonly UserEnding[] = ['signed_out', 'locked', 'removed', 'erased']
const gone: readonly UserEnding[] = ['removed', 'erased']

/**
 * The tables with data about users, in the order in which the statements are executed. If a statement finds rows of one
 * table through rows of a second table, the rows of the second table are deleted later.
 */
export const tablesOfUser: readonly TableOfUser[] = [
  {
    table: 'users',
    in: ['locked'],
    statements: ({ userId }) => [{ sql: disabling, values: [userId] }],
    deletesNothing: true,
  },
  { table: 'users', in: gone, statements: deleting('users', 'id') },
  { table: 'configured_users', in: gone, statements: deleting('configured_users') },
  {
    table: 'user_generations',
    in: ['removed'],
    // `removed_at` marks the user as removed. If another person gets the id later, the remaining rows of the removed
    // user are marked as rows of a former person (`markingFormerPersons`). Users whom an application supplies have
    // `is_closed = 0`. They are not marked, because the application decides who gets the id of a removed user.
    statements: ({ userId }) => [
      {
        sql: 'update user_generations set removed_at = changed_at where user_id = $1 and is_closed = 1',
        values: [userId],
      },
    ],
    deletesNothing: true,
  },
  {
    table: 'user_generations',
    in: ['erased'],
    statements: ({ userId, erasedAs, now }) => [
      { sql: keepingErased, values: [userId, erasedAs] },
      { sql: 'update user_generations set erased_at = $2 where user_id = $1', values: [userId, now] },
    ],
    keeps: `each ending begins the next generation; the row stays, so that no other user gets the same id. Of an erased user
      a hash of the id stays; the id itself stays for ten minutes (\`erasureMs\`), so that calls under way are refused`,
  },
  {
    table: 'notifications',
    in: all,
    statements: ({ userId, now }) => [markPushesOfUser(userId, now)],
    keeps: 'pushes of tokens that a client has not confirmed: the next attempt sends an error instead of the tokens',
    deletesNothing: true,
  },
  {
    table: 'notifications',
    in: ['removed'],
    statements: ({ userId, now }) => [
      { sql: parkingNoticesOfUser, values: [userId, 'the user no longer exists', now] },
    ],
    keeps: 'parked without their content: otherwise they could be sent to another person who gets the id',
    deletesNothing: true,
  },
  {
    table: 'oidc_models',
    in: all,
    statements: ({ userId }) => [
      { sql: deletingIssued, values: [userId] },
      { sql: deletingIssuing, values: [userId] },
    ],
    keeps: 'models without a grant, and models issued at the same time: not valid any more, and removed when expired',
  },
  // An erasure deletes all tokens of the user, because an erasure later also deletes the row in `user_generations`.
  // Without this row, tokens that were not deleted would be valid for the next user with the same id.
  { table: 'oidc_models', in: ['erased'], statements: deleting('oidc_models') },
  { table: 'user_sessions', in: all, statements: deleting('user_sessions') },
  {
    table: 'passkeys',
    in: gone,
    statements: deleting('passkeys'),
    keeps: 'a locked user can use them again when unlocked',
  },
  // Push subscriptions are removed when sessions are removed, so that a browser on a lost device is no longer notified.
  { table: 'push_subscriptions', in: all, statements: deleting('push_subscriptions') },
  { table: 'user_codes', in: gone, statements: deleting('user_codes') },
  { table: 'user_code_tries', in: gone, statements: deleting('user_code_tries') },
  { table: 'blocked_clients', in: gone, statements: deleting('blocked_clients') },
  { table: 'denial_pauses', in: gone, statements: deleting('denial_pauses') },
  { table: 'pairwise_subjects', in: gone, statements: deleting('pairwise_subjects') },
  {
    table: 'signed_requests',
    in: ['erased'],
    statements: ({ userId }) => [{ sql: deletingSigned, values: [userId] }],
    keeps: 'evidence; the rows name the request, not the user',
  },
  {
    table: 'notifications',
    in: ['erased'],
    statements: ({ userId }) => [
      { sql: deletingNoticesOfRequests, values: [userId] },
      { sql: deletingNoticesOfUser, values: [userId] },
      { sql: deletingNoticesToBrowsers, values: [`web_push/${userId}`] },
    ],
    keeps: 'notices to devices about an ended request are not sent; notifications to clients are sent',
  },
  {
    table: 'backchannel_auth_consent_history',
    in: ['erased'],
    statements: deleting('backchannel_auth_consent_history'),
    keeps: 'evidence of what was decided; `retention.history` sets how long',
  },
  {
    table: 'backchannel_auth_requests',
    in: ['erased'],
    statements: ({ userId, erasedAs, now }) => [
      { sql: anonymizing, values: [userId, decoyUserId(erasedAs), now] },
      ...deleting('backchannel_auth_requests')({ userId }),
    ],
    keeps: 'open requests are denied (`endRequests`); finished requests stay for `retention.requests`',
  },
]

/** Tables with data about users that an ending does not change, and why. */
export const untouchedByUser: Record<string, string> = {
  ended_sessions: 'contains only hashes of sessions, removed by age; an ending must not bring a session back',
  passkey_challenges: 'only the purpose of a row names a user; valid for five minutes and only together with a session',
  sign_in_attempts: 'contains only keyed hashes, removed after a day; an ending must not reset a limit',
}

/** Returns the statements of an ending, in order of execution. */
export function statementsFor(ending: UserEnding, ended: Ended): Statement[] {
  return tablesOfUser.filter((one) => one.in.includes(ending)).flatMap(({ statements }) => statements(ended))
}

interface TableOfClient {
  table: string
  statements(clientId: string, now: number): Statement[]
  keeps?: string
}

/**
 * The statements for each table when a client is removed. The table of authentication requests comes first, because its
 * statements lock the requests. So if the client redeems a request at the same time, the redemption either is complete
 * before the removal, or fails.
 */
export const tablesOfClient: readonly TableOfClient[] = [
  {
    table: 'backchannel_auth_requests',
    statements: (clientId, now) => [
      { sql: recordingEnded, values: [clientId, now] },
      { sql: endingRequests, values: [clientId, now] },
    ],
    keeps: 'open requests are set to expired, and stay like all finished requests',
  },
  {
    table: 'notifications',
    statements: (clientId, now) => [{ sql: parking, values: [clientId, 'the client is gone', now] }],
    keeps: 'parked without their content, so that the operator sees them',
  },
  { table: 'oidc_models', statements: (clientId) => [{ sql: deletingOfClient, values: [clientId] }] },
]

/** Tables with data about clients that the removal of a client does not change, and why. */
export const untouchedByClient: Record<string, string> = {
  clients: 'the row itself is deleted by the statement that removes the client',
  blocked_clients: "the user's own choice: a client that is registered again with this id stays blocked",
  passkey_challenges: 'only the purpose of a row names a request of a client; valid for five minutes',
  signed_requests: 'evidence; the rows name the request, not the client',
  denial_pauses: 'also apply to a client that is registered again with this id; removed a day after the pause',
  backchannel_auth_consent_history: 'evidence of what was decided',
  unknown_users: 'an ending must not reset a limit; removed after an hour',
  used_assertions:
    'a used assertion stays used, even if the id is registered again; removed an hour after it has expired',
  user_code_tries: 'a client that is registered again with this id stays locked out; removed by age',
}

/** Returns the statements for all tables when a client is removed, in order of execution. */
export function statementsForClient(clientId: string, now: number): Statement[] {
  return tablesOfClient.flatMap(({ statements }) => statements(clientId, now))
}

function deleting(table: string, column = 'user_id'): (ended: Pick<Ended, 'userId'>) => Statement[] {
  return ({ userId }) => [{ sql: `delete from ${table} where ${column} = $1`, values: [userId] }]
}

const keepingErased = `insert into user_generations (user_id, generation, is_closed, changed_at)
  select cast($2 as text), generation, 1, changed_at from user_generations where user_id = $1
  on conflict (user_id) do update set generation = excluded.generation, is_closed = 1, changed_at = excluded.changed_at`

const disabling = 'update users set disabled = 1 where id = $1'

const issuing = `select id_hash from oidc_models where user_id = $1 and model in ('Session', 'Grant')`
const deletingIssued = `delete from oidc_models where grant_hash in (${issuing})`
const deletingIssuing = `delete from oidc_models where user_id = $1 and model in ('Session', 'Grant')`

const requestsOf = `select id from backchannel_auth_requests where user_id = $1
  union select request_id from backchannel_auth_consent_history where user_id = $1`
const deletingSigned = `delete from signed_requests where request_id in (${requestsOf})`

// The three statements use different indexes. One statement with `or` would use no index and read the whole table.
const deletingNoticesOfRequests = `delete from notifications where subject in (${requestsOf})
  and (kind not in ('ping', 'push') or state in ('delivered', 'parked'))`
const deletingNoticesOfUser = 'delete from notifications where subject = $1'
const deletingNoticesToBrowsers = `delete from notifications where kind = 'web_push' and lane = $1`

/**
 * Denied requests whose deadline has not passed are not deleted yet, because the client may still poll for them. This
 * statement replaces the user id by the id of a decoy user, and erases the data about the user.
 */
const anonymizing = `update backchannel_auth_requests set user_id = $2, binding_message = null, acr_values = null,
    authorization_details = null, approved_details = null, acr = null, amr = null, auth_time = null
  where user_id = $1 and status = 'denied' and expires_at > $3`

/**
 * Writes a row in the history for each open request. The row gets the id of the request. This statement comes first,
 * because it finds the open requests and locks them. So these requests are still open when the next statement changes
 * them.
 */
const recordingEnded = `with open as materialized (
    select * from backchannel_auth_requests
    where id in (${openRequestsOfClient}) and status in ('pending', 'approved')
    order by id /* for update */
  )
  insert into backchannel_auth_consent_history (id, request_id, client_id, user_id, outcome,
    decided_by, scope, binding_message, decided_at, authorization_details, resources, reason)
  select id, id, client_id, user_id, 'expired', 'application', scope, binding_message, cast($2 as bigint),
    coalesce(approved_details, authorization_details), resources, 'client_removed'
  from open where true
  on conflict (id) do nothing`
/**
 * Sets the status of the requests to expired. It would not be enough to set the deadline of the requests to the current
 * time: a node whose clock is behind would still treat the requests as open.
 */
const endingRequests = `update backchannel_auth_requests
  set status = 'expired', settled_by = id, settled_at = $2, call_back_sealed = null
  where id in (${openRequestsOfClient}) and status in ('pending', 'approved')`
const parked = "state = 'parked', lease = null, sealed = null, last_outcome = $2, settled_at = $3"
const parking = `update notifications set ${parked}
  where lane = $1 and kind in ('ping', 'push') and state in ('waiting', 'sending')`
const parkingNoticesOfUser = `update notifications set ${parked} where subject = $1 and state in ('waiting', 'sending')`
const deletingOfClient = 'delete from oidc_models where client_id = $1'
