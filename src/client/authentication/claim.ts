/** What a caller claims, before any of it is verified. */
export interface Claim {
  clientId: string
  /** The methods that fit the way the caller authenticates: the client's registered method must be among them. */
  couldBe: readonly string[]
  proof: string
}
