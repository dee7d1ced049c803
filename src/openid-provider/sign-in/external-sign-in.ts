/** Who somebody is here that signed in at another provider. */

import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import type { Audit } from '../../platform/audit.ts'
import { isTooDeep } from '../../platform/http/form.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { createDeviceToken } from '../device-token.ts'

export interface AdmissionNeeds {
  users: UserHooks
  /** Whether the users are an application's own, which then says who somebody is. */
  usersAreHooks: boolean
  /** Our own app, as the client that asks. */
  app: ClientMetadata
  audit: Audit
  deviceToken: ReturnType<typeof createDeviceToken>
}

interface Arrived {
  claims: Record<string, unknown> & { sub: string }
  idToken: string
  userInfo: Record<string, unknown>
}

/**
 * Finds the user: an application's hook is asked with the ID token and its claims; the built-in directory knows a user
 * by an e-mail address that the other provider has verified, and by nothing else: a subject there is not a user id
 * here. What that provider says of the sign-in's strength is believed.
 */
export function createAdmission({ users, usersAreHooks, app, audit, deviceToken }: AdmissionNeeds) {
  return async ({ claims, idToken, userInfo }: Arrived) => {
    const user = await findUser()
    const about = { client: app.client_id, by: 'another provider' }
    if (!user || user.disabled) {
      audit({ event: 'sign_in.failed', user: user?.id, ...about, outcome: 'user_unavailable' })
      return undefined
    }
    audit({ event: 'sign_in.succeeded', user: user.id, ...about })
    const token = await deviceToken(user.id, authenticationOf(claims))
    return { userId: user.id, name: user.name ?? user.username ?? user.id, locale: user.locale, ...token }

    async function findUser(): Promise<User | null> {
      const all = { ...userInfo, ...claims }
      if (isTooDeep(all) || !holdsOnlyStorable(all)) return null
      if (usersAreHooks) return users.findByHint({ kind: 'id_token_hint', value: idToken, claims: all }, app)
      return (await findByMail(claims, users, app)) ?? (await findByMail(userInfo, users, app))
    }
  }
}

/** Address and verification have to be said together, and the address has to be the user's address: not a name that looks like one. */
async function findByMail(
  { email, email_verified }: Record<string, unknown>,
  users: UserHooks,
  app: ClientMetadata,
): Promise<User | null> {
  if (email_verified !== true || typeof email !== 'string') return null
  const user = await users.findByHint({ kind: 'login_hint', value: email }, app)
  return user?.email?.toLowerCase() === email.toLowerCase() ? user : null
}

function authenticationOf({ acr, amr, auth_time }: Record<string, unknown>): Authentication {
  return {
    acr: typeof acr === 'string' ? acr : undefined,
    amr: Array.isArray(amr) ? amr.filter((word) => typeof word === 'string') : undefined,
    authTime: Number.isSafeInteger(auth_time) ? (auth_time as number) : undefined,
  }
}
