/** Finds the user of this server for a person who signed in at another OpenID provider. */

import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import type { Audit } from '../../platform/audit.ts'
import { isTooDeep } from '../../platform/http/form.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { UserHooks } from '../../user/user.ts'
import type { createDeviceToken } from '../device-token.ts'
import { type BeginFor, holdingGenerations } from '../generations-of-call.ts'
import type { createFirstSignIn, FoundUser } from './first-sign-in.ts'

export interface AdmissionNeeds {
  users: UserHooks
  /**
   * Finds or creates the user in the built-in directory. Undefined if an application that embeds this server supplies
   * the users. Then the hook of the application finds the user.
   */
  findInDirectory: ReturnType<typeof createFirstSignIn> | undefined
  /** The metadata of the consent app, which is passed as the client when a user is looked up. */
  app: ClientMetadata
  audit: Audit
  deviceToken: ReturnType<typeof createDeviceToken>
  /** Remembers the user's generation. Resolves to whether the user may sign in. */
  beginFor: BeginFor
}

interface Arrived {
  claims: Record<string, unknown> & { iss: string; sub: string }
  idToken: string
  userInfo: Record<string, unknown>
}

/**
 * Returns a function that finds the user and issues an access token for the device API. If an application supplies the
 * users, its hook finds the user by the ID token and its claims. In the built-in directory, the user is found as
 * `createFirstSignIn` says. The `sub` of the other provider is never a user id of this server. The access token gets the
 * authentication context that the other provider states. The function resolves to undefined if the user does not exist
 * or is disabled.
 */
export function createAdmission({ users, findInDirectory, app, audit, deviceToken, beginFor }: AdmissionNeeds) {
  return (arrived: Arrived) => holdingGenerations(() => admit(arrived))

  async function admit({ claims, idToken, userInfo }: Arrived) {
    const { user: found, id, outcome = 'user_unavailable' } = await findUser()
    // The generation must be remembered before the user is read again. If the user is signed out, locked or removed
    // after that, the new token is not valid.
    const mayBegin = found !== null && (await beginFor(found.id))
    const user = mayBegin ? await users.find(found.id) : null
    const about = { client: app.client_id, by: 'another provider' }
    if (user === null || user.disabled) {
      audit({ event: 'sign_in.failed', user: found?.id ?? id, ...about, outcome })
      return undefined
    }
    audit({ event: 'sign_in.succeeded', user: user.id, ...about })
    const token = await deviceToken(user.id, authenticationOf(claims))
    return { userId: user.id, name: user.name ?? user.username ?? user.id, locale: user.locale, ...token }

    async function findUser(): Promise<FoundUser> {
      const all = mergedClaims(claims, userInfo)
      if (isTooDeep(all) || !holdsOnlyStorable(all)) return { user: null }
      if (findInDirectory === undefined) {
        return { user: await users.findByHint({ kind: 'id_token_hint', value: idToken, claims: all }, app) }
      }
      return findInDirectory({
        issuer: claims.iss,
        subject: claims.sub,
        verifiedAddress: verifiedAddressIn(claims, userInfo),
        name: all.name ?? all.preferred_username,
        locale: all.locale,
      })
    }
  }
}

/**
 * Returns the claims of both sources. If a claim is in both, the ID token decides. But `email` and `email_verified` stay
 * together: `email_verified` is true only if one source has verified the returned `email`, and none denies it.
 */
function mergedClaims(claims: Record<string, unknown>, userInfo: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...userInfo, ...claims }
  const address = verifiedAddressIn(claims, userInfo)
  if (address !== undefined) return { ...merged, email: address, email_verified: true }
  return 'email_verified' in merged ? { ...merged, email_verified: false } : merged
}

/**
 * Returns the address that the provider has verified, or undefined. `email` and `email_verified` must come from the same
 * source. What the provider denies in one source does not count as verified because of the other.
 */
function verifiedAddressIn(...sources: Record<string, unknown>[]): string | undefined {
  if (sources.some(({ email_verified }) => isFalse(email_verified))) return undefined
  const verifying = sources.find(({ email, email_verified }) => isTrue(email_verified) && typeof email === 'string')
  return verifying?.email as string | undefined
}

/** Some providers write the claim `email_verified` as a string, contrary to OpenID Connect Core §5.1. */
const isTrue = (claim: unknown) => claim === true || claim === 'true'
const isFalse = (claim: unknown) => claim === false || claim === 'false'

function authenticationOf({ acr, amr, auth_time }: Record<string, unknown>): Authentication {
  return {
    acr: typeof acr === 'string' ? acr : undefined,
    amr: Array.isArray(amr) ? amr.filter((word) => typeof word === 'string') : undefined,
    authTime: Number.isSafeInteger(auth_time) ? (auth_time as number) : undefined,
  }
}
