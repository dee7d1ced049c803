/** What a caller claims, before anything of it is believed. */
export interface Claim {
  clientId: string
  /** The methods this way of calling can be: the client's registered one must be among them. */
  couldBe: readonly string[]
  proof: string
}
