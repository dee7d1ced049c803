/**
 * How the user of a token was authenticated (OpenID Connect Core §2). Needed only for access tokens that are not issued
 * for an authorization code or a refresh token, because codes and refresh tokens contain this information themselves.
 */
export interface AuthenticationContext {
  acr?: string | undefined
  amr?: string[] | undefined
  /** Seconds since 1970. */
  authTime?: number | undefined
}

const contexts = new WeakMap<object, AuthenticationContext>()

/** Keeps the authentication context of a token in memory, so that it is stored when the token is saved. */
export function setAuthenticationContext(token: object, authentication: AuthenticationContext): void {
  contexts.set(token, authentication)
}

/** Returns the authentication context that was set for a token, or undefined if none was set. */
export function authenticationContextOf(token: object): AuthenticationContext | undefined {
  return contexts.get(token)
}
