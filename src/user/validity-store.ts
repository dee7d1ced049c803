/**
 * SQL conditions that check whether a session, a grant or a token of a user is still valid. The conditions are parts of
 * the statements that read or write. So no further query is needed, and no cached value can be out of date.
 */

/**
 * The condition that the row `found` of `oidc_models` is valid. The user's generation and the client's registration
 * must be those at the time of issue, the grant of the model must exist, and the session must not have ended. An ended
 * session stays invalid even if a call that began before the sign-out has written the row of the session again.
 *
 * For a token of an approval, only the generation of its grant is compared, not that of the token. The reason: "Sign
 * out everywhere" keeps approvals, and moves their grants to the new generation. But it cannot move a token that is
 * being written at that moment, by a refresh for example, because its row is not visible yet. Such a token must stay
 * valid too.
 */
export const isValid = `
  not exists (select 1 from user_generations ended
    where ended.user_id = found.user_id and ended.generation > found.user_generation
      and not exists (select 1 from oidc_models approval
        where approval.model = 'Grant' and approval.id_hash = found.grant_hash and approval.request_id is not null
          and approval.user_generation >= ended.generation))
  and (found.client_id is null or exists (select 1 from clients
    where clients.id = found.client_id and clients.registration_id = found.client_registration_id))
  and (found.grant_hash is null or exists (select 1 from oidc_models issuing
    where issuing.model = 'Grant' and issuing.id_hash = found.grant_hash))
  and (found.uid_hash is null or not exists (select 1 from ended_sessions
    where ended_sessions.uid_hash = found.uid_hash))`

/**
 * Returns the condition that an access token is valid, for statements that write on behalf of its user. If the user
 * signs out after the call was authenticated, the condition is false. If there is no token, the condition is true: a
 * device service and a command authenticate in other ways.
 *
 * @param hash SQL: the hash of the token, or null
 */
export const isSignedIn = (hash: string) => `(cast(${hash} as text) is null or exists (select 1 from oidc_models found
  where found.model = 'AccessToken' and found.id_hash = cast(${hash} as text) and ${isValid}))`

/**
 * Returns the lock keys of a transaction that uses `isSignedIn`. A transaction that signs the user out, locks or
 * removes the user, or ends one session, uses the same key. If the other transaction is committed first, this
 * transaction writes nothing. If it is committed later, it also ends what this transaction has written.
 *
 * @param tokenHash if undefined, nothing is locked
 */
export const signedInLock = (userId: string, tokenHash: string | undefined): string[] =>
  tokenHash === undefined ? [] : [signOutLock(userId)]

/** Returns the lock key of every transaction that signs out, locks or removes a user, or ends a session of the user. */
export const signOutLock = (userId: string): string => `requests of ${userId}`
