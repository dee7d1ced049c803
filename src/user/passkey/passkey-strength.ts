/** How strong a sign-in or a confirmation with a passkey is, and who asks for it. */

/** Phishing-resistant (OpenID Connect EAP ACR Values). */
export const PASSKEY_ACR = 'phr'

/**
 * What we know (RFC 8176): a key was proved to be there (`pop`), and so was a person (`user`). Not `hwk`: without
 * attestation a key may as well be synced between devices. How the authenticator recognised the person, it does not say.
 */
export const PASSKEY_AMR = ['pop', 'user']

/** @param now milliseconds since 1970 */
export function authenticatedByPasskey(now: number) {
  return { acr: PASSKEY_ACR, amr: [...PASSKEY_AMR], authTime: Math.floor(now / 1000) }
}

/** Whether a list of `acr_values` names it, wherever in the list. */
export function asksForPasskey(acrValues: unknown): boolean {
  return wishes(acrValues).includes(PASSKEY_ACR)
}

/** Whether it names nothing else, so that a password will not do. */
export function acceptsOnlyPasskey(acrValues: unknown): boolean {
  return asksForPasskey(acrValues) && wishes(acrValues).every((value) => value === PASSKEY_ACR)
}

function wishes(acrValues: unknown): string[] {
  return typeof acrValues === 'string' ? acrValues.split(' ').filter((value) => value !== '') : []
}
