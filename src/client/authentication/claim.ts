/** The client authentication that a call contains, unverified. */
export interface Claim {
  clientId: string
  /**
   * The authentication methods for which these credentials can be used. The method that the client registered must be
   * one of them.
   */
  couldBe: readonly string[]
  /** Undefined if the call only names the client. */
  proof: string | undefined
}
