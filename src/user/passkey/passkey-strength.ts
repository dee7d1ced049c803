/** The authentication context of a passkey, and which requests ask for it. */

/** Phishing-resistant (OpenID Connect EAP ACR Values). */
export const PASSKEY_ACR = 'phr'

/**
 * What is certain (RFC 8176): possession of a key was proved (`pop`), and presence of a person (`user`). Not `hwk`: without
 * attestation a key may be synced between devices. The authenticator does not say how it recognised the person.
 */
export const PASSKEY_AMR = ['pop', 'user']

/** @param now milliseconds since 1970 */
export function authenticatedByPasskey(now: number) {
  return { acr: PASSKEY_ACR, amr: [...PASSKEY_AMR], authTime: Math.floor(now / 1000) }
}

/** Whether a list of `acr_values` contains it, in any position. */
export function asksForPasskey(acrValues: unknown): boolean {
  return wishes(acrValues).includes(PASSKEY_ACR)
}

/** Whether the list contains nothing else, so that a password is not enough. */
export function acceptsOnlyPasskey(acrValues: unknown): boolean {
  return asksForPasskey(acrValues) && wishes(acrValues).every((value) => value === PASSKEY_ACR)
}

function wishes(acrValues: unknown): string[] {
  return typeof acrValues === 'string' ? acrValues.split(' ').filter((value) => value !== '') : []
}
