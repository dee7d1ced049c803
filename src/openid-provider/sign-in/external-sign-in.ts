/** Finds the user of this server for a person who signed in at another OpenID provider. */

import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import type { Audit } from '../../platform/audit.ts'
import { isTooDeep } from '../../platform/http/form.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { createDeviceToken } from '../device-token.ts'
import { type BeginFor, holdingGenerations } from '../generations-of-call.ts'

export interface AdmissionNeeds {
  users: UserHooks
  /**
   * Whether an application that embeds this server supplies the users. If so, the hook of the application finds the
   * user.
   */
  usersAreHooks: boolean
  /** The metadata of the consent app, which is passed as the client when a user is looked up. */
  app: ClientMetadata
  audit: Audit
  deviceToken: ReturnType<typeof createDeviceToken>
  /** Remembers the user's generation. Resolves to whether the user may sign in. */
  beginFor: BeginFor
}

interface Arrived {
  claims: Record<string, unknown> & { sub: string }
  idToken: string
  userInfo: Record<string, unknown>
}

/**
 * Returns a function that finds the user and issues an access token for the device API. If an application supplies the
 * users, its hook finds the user by the ID token and its claims. The built-in directory finds the user by an e-mail
 * address that the other provider has verified, because the `sub` of that provider is not a user id of this server. The
 * access token gets the authentication context that the other provider states. The function resolves to undefined if
 * the user does not exist or is disabled.
 */
export function createAdmission({ users, usersAreHooks, app, audit, deviceToken, beginFor }: AdmissionNeeds) {
  return (arrived: Arrived) => holdingGenerations(() => admit(arrived))

  async function admit({ claims, idToken, userInfo }: Arrived) {
    const found = await findUser()
    // The generation must be remembered before the user is read again. If the user is signed out, locked or removed
    // after that, the new token is not valid.
    const mayBegin = found !== null && (await beginFor(found.id))
    const user = mayBegin ? await users.find(found.id) : null
    const about = { client: app.client_id, by: 'another provider' }
    if (user === null || user.disabled) {
      audit({ event: 'sign_in.failed', user: found?.id, ...about, outcome: 'user_unavailable' })
      return undefined
    }
    audit({ event: 'sign_in.succeeded', user: user.id, ...about })
    const token = await deviceToken(user.id, authenticationOf(claims))
    return { userId: user.id, name: user.name ?? user.username ?? user.id, locale: user.locale, ...token }

    async function findUser(): Promise<User | null> {
      const all = { ...userInfo, ...claims }
      if (isTooDeep(all) || !holdsOnlyStorable(all)) return null
      if (usersAreHooks) return users.findByHint({ kind: 'id_token_hint', value: idToken, claims: all }, app)
      // What the provider denies in one place does not count as verified because of another place.
      if ([claims, userInfo].some(({ email_verified }) => isFalse(email_verified))) return null
      return (await findByMail(claims, users, app)) ?? (await findByMail(userInfo, users, app))
    }
  }
}

/**
 * Finds a user by a verified e-mail address. `email` and `email_verified` must come from the same source, and the
 * address must be the user's `email`, not a login name.
 */
async function findByMail(
  { email, email_verified }: Record<string, unknown>,
  users: UserHooks,
  app: ClientMetadata,
): Promise<User | null> {
  if (!isTrue(email_verified) || typeof email !== 'string') return null
  const user = await users.findByHint({ kind: 'login_hint', value: email }, app)
  return user?.email?.toLowerCase() === email.toLowerCase() ? user : null
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
