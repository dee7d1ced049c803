/** The client authentication that a call contains, unverified. */
export interface Claim {
  clientId: string
  /** The methods that use credentials of this kind. The client's registered method must be one of them. */
  couldBe: readonly string[]
  proof: string
}
