/** How the user of a token was authenticated, where it was not at our own sign-in page. */
/** Seconds since 1970 for `authTime`. */
export interface AuthenticationContext {
  acr?: string | undefined
  amr?: string[] | undefined
  authTime?: number | undefined
}

const contexts = new WeakMap<object, AuthenticationContext>()

export function setAuthenticationContext(token: object, authentication: AuthenticationContext): void {
  contexts.set(token, authentication)
}

export function authenticationContextOf(token: object): AuthenticationContext | undefined {
  return contexts.get(token)
}
