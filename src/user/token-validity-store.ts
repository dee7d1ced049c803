/**
 * SQL conditions that check whether a session, a grant or a token of a user is still valid. Each condition is a part of
 * the statement that reads or writes. So no further query is needed, and no outdated value from a cache is used.
 */

/**
 * The condition that the row `found` of `oidc_models` is valid. The user's generation and the client's registration id
 * must be the same as when the model was issued. The grant of the model must exist, and its session must not have
 * ended. An ended session stays invalid even if a call that began before the sign-out has written the row of the
 * session again.
 *
 * A token of an approval is valid if its grant belongs to the current generation, even if the token itself belongs to
 * an earlier one. The reason: "Sign out everywhere" keeps approvals, and updates the generation of their grants. It
 * cannot update a token that a refresh is writing at that moment, because the row of this token is not visible yet.
 * Such a token must stay valid too.
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
 * signs out after the call was authenticated, the condition is false. If there is no token, the condition is true,
 * because device services and commands use no access token.
 *
 * @param hash SQL: the hash of the token, or null
 */
export const isSignedIn = (hash: string) => `(cast(${hash} as text) is null or exists (select 1 from oidc_models found
  where found.model = 'AccessToken' and found.id_hash = cast(${hash} as text) and ${isValid}))`

/**
 * Returns the lock keys of a writing transaction, one that uses `isSignedIn`. An ending transaction, one that signs the
 * user out, locks or removes the user, or ends one session, uses the same key. If the ending transaction is committed
 * first, the writing transaction writes nothing. If it is committed later, it also revokes what the writing transaction
 * has written.
 *
 * @param tokenHash if undefined, nothing is locked
 */
export const signedInLock = (userId: string, tokenHash: string | undefined): string[] =>
  tokenHash === undefined ? [] : [signOutLock(userId)]

/** Returns the lock key of every transaction that signs out, locks or removes a user, or ends a session of the user. */
export const signOutLock = (userId: string): string => `requests of ${userId}`
