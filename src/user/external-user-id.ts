/** The ids of users who were created when a person first signed in at another OpenID provider. */
import { fingerprint } from '../platform/crypto.ts'

const pattern = /^ext_[\w-]{43}$/

/**
 * Returns the id of the user who is created for a person at another OpenID provider. The issuer and the `sub` together
 * identify a person (OpenID Connect Core §5.7), so the id is derived from both. A second sign-in, also one at the same
 * time, gets the same id, and the id of a removed user is recognised.
 */
export function externalUserId(issuer: string, subject: string): string {
  return `ext_${fingerprint(JSON.stringify([issuer, subject]))}`
}

/** Whether the user with this id was created when a person first signed in at another OpenID provider. */
export function isExternalUserId(id: string): boolean {
  return pattern.test(id)
}
