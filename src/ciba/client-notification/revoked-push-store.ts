/**
 * Marks pushes whose tokens end by the user or an operator before the client has confirmed them. Otherwise nothing would tell
 * these tokens from tokens that have expired, because the rows of both are deleted.
 */
import type { Statement } from '../../platform/storage/database.ts'

/** Returns the statement for the request whose approval is revoked. It must come before the one that deletes the tokens. */
export const markPushOfRequest = (requestId: string, now: number): Statement => ({
  sql: marking('request_id = $1'),
  values: [requestId, now],
})

/** Returns the statement for all requests of a user. It must come before the statements that delete the tokens. */
export const markPushesOfUser = (userId: string, now: number): Statement => ({
  sql: marking("user_id = $1 and model = 'Grant' and request_id is not null"),
  values: [userId, now],
})

/** @param issued SQL: which models were issued for the requests. Models that have expired do not count */
const marking = (issued: string) => `
  with undelivered as materialized (
    select id from notifications
    where subject in (select request_id from oidc_models where ${issued} and expires_at > $2)
      and state <> 'delivered' and sealed is not null
    order by id /* for update */
  )
  update notifications set revoked_at = $2 where id in (select id from undelivered)`
