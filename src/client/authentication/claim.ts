/** The client authentication that a call contains, unverified. */
export interface Claim {
  clientId: string
  /**
   * The authentication methods for which these credentials can be used. The method that the client registered must be
   * one of them.
   */
  couldBe: readonly string[]
  /**
   * The secret, the assertion or the thumbprint of the certificate; undefined if the call contains only a `client_id`.
   */
  proof: string | undefined
}

/** Why client authentication failed. */
export interface AuthenticationFailure {
  reason: string
  /**
   * Whether the failed assertion has a valid signature of the client. If so, the response contains the reason. In
   * development, every response contains the reason.
   */
  isSigned: boolean
}

/** The `error_description` of failed client authentication. It is the same for known and unknown clients. */
export const authenticationFailed = 'client authentication failed'

/** Returns the `error_description` for a caller that may learn the reason. */
export function failedBecause(reason: string): string {
  return `${authenticationFailed}: ${reason}`
}
