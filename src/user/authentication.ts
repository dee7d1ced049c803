/** How the user who made a decision was authenticated, as far as this is known. */
export interface Authentication {
  acr?: string | undefined
  amr?: string[] | undefined
  /** Seconds since 1970: when the user was authenticated, not when the decision was made. */
  authTime?: number | undefined
}
