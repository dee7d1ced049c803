/**
 * Marks a push as revoked if the user or an operator revokes its tokens before the client has confirmed the push.
 * Without this mark, revoked tokens could not be distinguished from expired tokens, because the rows of both are
 * deleted.
 */
import type { Statement } from '../../platform/storage/database.ts'

/** Returns the statement that marks the push of a request. It must be executed before the tokens are deleted. */
export const markPushOfRequest = (requestId: string, now: number): Statement => ({
  sql: marking('request_id = $1'),
  values: [requestId, now],
})

/**
 * Returns the statement that marks the pushes of all requests of a user. It must be executed before the tokens are
 * deleted.
 */
export const markPushesOfUser = (userId: string, now: number): Statement => ({
  sql: marking("user_id = $1 and model = 'Grant' and request_id is not null"),
  values: [userId, now],
})

/**
 * @param issued SQL condition that is true for the rows of `oidc_models` that were issued for the requests. Expired
 *   rows do not count
 */
const marking = (issued: string) => `
  with undelivered as materialized (
    select id from notifications
    where subject in (select request_id from oidc_models where ${issued} and expires_at > $2)
      and state <> 'delivered' and sealed is not null
    order by id /* for update */
  )
  update notifications set revoked_at = $2 where id in (select id from undelivered)`
