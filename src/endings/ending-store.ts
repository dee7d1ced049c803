/** What an ending does to each table, in one place: a test compares this list with the schema. */
import { decoyUserId } from '../ciba/authentication-request/authentication-request.ts'
import type { Statement } from '../platform/storage/database.ts'

/**
 * `signed_out`: everything issued ends, and browsers are no longer notified. `locked`: also, nothing is requested, decided or
 * issued until the user is unlocked. `removed`: everything that belongs to the user is deleted, except decisions, which stay
 * as evidence. `erased`: these are deleted too.
 */
export type UserEnding = 'signed_out' | 'locked' | 'removed' | 'erased'

/** The user that ends, and when, in milliseconds since 1970. */
export interface Ended {
  userId: string
  /** Replaces an erased id, so that the id is not assigned again: a keyed hash. */
  erasedAs: string
  now: number
}

interface TableOfUser {
  table: string
  /** The endings in which the statements are executed. */
  in: readonly UserEnding[]
  statements(ended: Ended): Statement[]
  /** What stays, and why. */
  keeps?: string
}

const all: readonly UserEnding[] = ['signed_out', 'locked', 'removed', 'erased']
const gone: readonly UserEnding[] = ['removed', 'erased']

/** In order of execution: rows that are found through other rows come before those. */
export const tablesOfUser: readonly TableOfUser[] = [
  { table: 'users', in: ['locked'], statements: ({ userId }) => [{ sql: disabling, values: [userId] }] },
  { table: 'users', in: gone, statements: deleting('users', 'id') },
  { table: 'configured_users', in: gone, statements: deleting('configured_users') },
  {
    table: 'user_generations',
    in: ['erased'],
    statements: ({ userId, erasedAs }) => [
      { sql: 'delete from user_generations where user_id = $1', values: [erasedAs] },
      { sql: 'update user_generations set user_id = $2 where user_id = $1', values: [userId, erasedAs] },
    ],
    keeps: 'each ending begins the next generation; the row stays, so that no other user gets the same id',
  },
  {
    table: 'oidc_models',
    in: all,
    statements: ({ userId }) => [
      { sql: deletingIssued, values: [userId] },
      { sql: deletingIssuing, values: [userId] },
    ],
    keeps:
      'models without a grant, and those being issued now: invalid in the next generation, and removed when expired',
  },
  // An erased id has no generation any more: models that stayed would be valid again for the next user with the id.
  { table: 'oidc_models', in: ['erased'], statements: deleting('oidc_models') },
  { table: 'user_sessions', in: all, statements: deleting('user_sessions') },
  {
    table: 'passkeys',
    in: gone,
    statements: deleting('passkeys'),
    keeps: 'locked: the user has them again when unlocked',
  },
  // Subscriptions end with the sessions: a browser on a lost device is no longer notified.
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
    keeps: 'evidence, by request id alone',
  },
  {
    table: 'notifications',
    in: ['erased'],
    statements: ({ userId }) => [{ sql: deletingNotices, values: [userId, `web_push/${userId}`] }],
    keeps: 'notices of a request that has ended are not sent; notifications of clients are',
  },
  {
    table: 'backchannel_auth_consent_history',
    in: ['erased'],
    statements: deleting('backchannel_auth_consent_history'),
    keeps: 'evidence of what was decided; `retention.history` says how long',
  },
  {
    table: 'backchannel_auth_requests',
    in: ['erased'],
    statements: ({ userId, erasedAs, now }) => [
      { sql: anonymizing, values: [userId, decoyUserId(erasedAs), now] },
      ...deleting('backchannel_auth_requests')({ userId }),
    ],
    keeps: 'open ones are denied (`endRequests`), finished ones stay for `retention.requests`',
  },
]

/** Tables about users from which an ending takes nothing, and why. */
export const untouchedByUser: Record<string, string> = {
  passkey_challenges: 'names a user only with a purpose, is valid for five minutes, and only together with a session',
  sign_in_attempts: 'a keyed hash, forgotten after a day: an ending lifts no limit',
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

/** What each table loses with a client. Requests come first, so that a concurrent redemption is either done or fails. */
export const tablesOfClient: readonly TableOfClient[] = [
  {
    table: 'backchannel_auth_requests',
    statements: (clientId, now) => [
      { sql: endingRequests, values: [clientId, now] },
      { sql: recordingEnded, values: [clientId, now] },
    ],
    keeps: 'open requests have expired by then, and are history like the others',
  },
  {
    table: 'notifications',
    statements: (clientId, now) => [{ sql: parking, values: [clientId, 'the client is gone', now] }],
    keeps: 'parked, so that the operator sees them, without their content',
  },
  { table: 'oidc_models', statements: (clientId) => [{ sql: deletingOfClient, values: [clientId] }] },
]

/** Tables about clients from which an ending takes nothing, and why. */
export const untouchedByClient: Record<string, string> = {
  clients: 'the row itself goes in the statement that decides',
  blocked_clients: "the user's own wish: a client that is registered again with this id stays blocked",
  denial_pauses: 'also holds for a client that is registered again with this id; removed a day after the pause',
  backchannel_auth_consent_history: 'evidence of what was decided',
  unknown_users: 'an ending lifts no limit; forgotten after a minute',
  used_assertions: 'a used assertion stays used, even if the id is registered again; removed when it has expired',
  user_code_tries: 'a client that is registered again with this id stays locked out; removed by age',
}

/** Returns the statements that remove what belongs to a client, in order of execution. */
export function statementsForClient(clientId: string, now: number): Statement[] {
  return tablesOfClient.flatMap(({ statements }) => statements(clientId, now))
}

function deleting(table: string, column = 'user_id'): (ended: Pick<Ended, 'userId'>) => Statement[] {
  return ({ userId }) => [{ sql: `delete from ${table} where ${column} = $1`, values: [userId] }]
}

const disabling = 'update users set disabled = 1 where id = $1'

const issuing = `select id_hash from oidc_models where user_id = $1 and model in ('Session', 'Grant')`
const deletingIssued = `delete from oidc_models where grant_hash in (${issuing})`
const deletingIssuing = `delete from oidc_models where user_id = $1 and model in ('Session', 'Grant')`

const requestsOf = `select id from backchannel_auth_requests where user_id = $1
  union select request_id from backchannel_auth_consent_history where user_id = $1`
const deletingSigned = `delete from signed_requests where request_id in (${requestsOf})`
const deletingNotices = `delete from notifications where (subject in (${requestsOf})
  and (kind not in ('ping', 'push') or state in ('delivered', 'parked'))) or subject = $1 or lane = $2`

/** Denied requests that a client may still poll stay until they are pruned, with a decoy user id and without the details. */
const anonymizing = `update backchannel_auth_requests set user_id = $2, binding_message = null, acr_values = null,
    authorization_details = null, approved_details = null, acr = null, amr = null, auth_time = null
  where user_id = $1 and status = 'denied' and expires_at > $3`

/** Settled directly: a deadline of now would depend on the clocks of other nodes. The history row has the request's id. */
const endingRequests = `update backchannel_auth_requests
  set status = 'expired', settled_by = id, settled_at = $2, call_back_sealed = null
  where client_id = $1 and status in ('pending', 'approved')`
const recordingEnded = `insert into backchannel_auth_consent_history (id, request_id, client_id, user_id, outcome,
    decided_by, scope, binding_message, decided_at, authorization_details, resources, reason)
  select id, id, client_id, user_id, 'expired', 'application', scope, binding_message, settled_at,
    coalesce(approved_details, authorization_details), resources, 'client_removed'
  from backchannel_auth_requests where client_id = $1 and settled_by = id and settled_at = $2
  on conflict (id) do nothing`
const parking = `update notifications set state = 'parked', lease = null, sealed = null, last_outcome = $2, settled_at = $3
  where lane = $1 and kind in ('ping', 'push') and state in ('waiting', 'sending')`
const deletingOfClient = 'delete from oidc_models where client_id = $1'
