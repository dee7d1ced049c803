/** How the user of a token was authenticated, where it was not at our own sign-in page. */
/** Seconds since 1970 for `authTime`. */
export interface Vouched {
  acr?: string | undefined
  amr?: string[] | undefined
  authTime?: number | undefined
}

const vouched = new WeakMap<object, Vouched>()

export function vouchFor(token: object, authentication: Vouched): void {
  vouched.set(token, authentication)
}

export function vouchedFor(token: object): Vouched | undefined {
  return vouched.get(token)
}
