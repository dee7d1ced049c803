/** Who somebody is here that signed in at another provider. */
import type { Authentication } from '../authentication-request/authentication-request.ts'
import type { ClientMetadata } from '../client/client-metadata.ts'
import type { User, UserHooks } from '../user-hint/user.ts'

export interface AdmissionNeeds {
  users: UserHooks
  /** Our own app, as the client that asks. */
  app: ClientMetadata
  deviceToken(userId: string, authentication: Authentication): Promise<{ accessToken: string; expiresIn: number }>
}

interface Arrived {
  claims: Record<string, unknown> & { sub: string }
  idToken: string
  userInfo: Record<string, unknown>
}

/**
 * Finds the user: an application's hook is asked with the ID token and its claims; the built-in directory knows a user
 * by the same id, or by an e-mail address that the other provider has verified. What that provider says of the
 * sign-in's strength is believed.
 */
export function createAdmission({ users, app, deviceToken }: AdmissionNeeds) {
  return async ({ claims, idToken, userInfo }: Arrived) => {
    const known = { ...userInfo, ...claims }
    const user = await findUser(known, idToken, users, app)
    if (!user || user.disabled) return undefined
    const token = await deviceToken(user.id, authenticationOf(claims))
    return { userId: user.id, name: user.name ?? user.username ?? user.id, locale: user.locale, ...token }
  }
}

async function findUser(
  claims: Record<string, unknown>,
  idToken: string,
  users: UserHooks,
  app: ClientMetadata,
): Promise<User | null> {
  const byToken = await users.findByHint({ kind: 'id_token_hint', value: idToken, claims }, app)
  if (byToken || claims.email_verified !== true || typeof claims.email !== 'string') return byToken
  return users.findByHint({ kind: 'login_hint', value: claims.email }, app)
}

function authenticationOf({ acr, amr, auth_time }: Record<string, unknown>): Authentication {
  return {
    acr: typeof acr === 'string' ? acr : undefined,
    amr: Array.isArray(amr) ? amr.filter((word) => typeof word === 'string') : undefined,
    authTime: typeof auth_time === 'number' ? auth_time : undefined,
  }
}
