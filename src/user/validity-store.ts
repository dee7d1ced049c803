/**
 * SQL conditions for what was issued to a user: whether a session, a grant or a token is still valid. They are parts of the
 * statements that read or write. So no further query is needed, and no cached value can be out of date.
 */

/**
 * The condition that the row `found` of `oidc_models` is valid: the user's generation and the client's registration are those
 * at the time of issue, the grant of the model exists, and the session was not ended. An ended session stays invalid even if a
 * call that began before the sign-out has written its row again.
 */
export const isValid = `
  not exists (select 1 from user_generations ended
    where ended.user_id = found.user_id and ended.generation > found.user_generation)
  and (found.client_id is null or exists (select 1 from clients
    where clients.id = found.client_id and clients.registration_id = found.client_registration_id))
  and (found.grant_hash is null or exists (select 1 from oidc_models issuing
    where issuing.model = 'Grant' and issuing.id_hash = found.grant_hash))
  and (found.uid_hash is null or not exists (select 1 from ended_sessions
    where ended_sessions.uid_hash = found.uid_hash))`

/**
 * Returns the condition that an access token is valid, for statements that write on behalf of its user. A sign-out that
 * happens after the call was authenticated makes the condition false. It is true if there is no token: a device service and a
 * command authenticate in other ways.
 *
 * @param hash SQL: the hash of the token, or null
 */
export const isSignedIn = (hash: string) => `(cast(${hash} as text) is null or exists (select 1 from oidc_models found
  where found.model = 'AccessToken' and found.id_hash = cast(${hash} as text) and ${isValid}))`

/**
 * The lock keys of a step with `isSignedIn`. Every ending of the user takes the same lock: it comes before the step, which then
 * sees it, or after the step is committed, and then ends what the step wrote.
 *
 * @param tokenHash without a token, nothing is locked
 */
export const signedInLock = (userId: string, tokenHash: string | undefined): string[] =>
  tokenHash === undefined ? [] : [`requests of ${userId}`]
