/** The authentication context of a user who has used a passkey, and whether a request asks for it. */

/** Phishing-resistant (OpenID Connect EAP ACR Values). */
export const PASSKEY_ACR = 'phr'

/**
 * The authentication methods that a passkey proves (RFC 8176): the possession of a key (`pop`) and the presence of a
 * person (`user`). `hwk` (a key in hardware) is not proved, because without attestation a key may be synced between
 * devices. How the person was recognised is not proved either, because the authenticator does not say it.
 */
export const PASSKEY_AMR = ['pop', 'user']

/**
 * Returns the authentication context of a user who has just used a passkey.
 *
 * @param now milliseconds since 1970
 */
export function authenticatedByPasskey(now: number) {
  return { acr: PASSKEY_ACR, amr: [...PASSKEY_AMR], authTime: Math.floor(now / 1000) }
}

/** Whether a list of `acr_values` contains `phr`, in any position. */
export function asksForPasskey(acrValues: unknown): boolean {
  return wishes(acrValues).includes(PASSKEY_ACR)
}

/** Whether a list of `acr_values` contains nothing but `phr`, so that a password is not enough. */
export function acceptsOnlyPasskey(acrValues: unknown): boolean {
  return asksForPasskey(acrValues) && wishes(acrValues).every((value) => value === PASSKEY_ACR)
}

function wishes(acrValues: unknown): string[] {
  return typeof acrValues === 'string' ? acrValues.split(' ').filter((value) => value !== '') : []
}
