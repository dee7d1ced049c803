/** What is told of a user, by scope. */
import type { User } from '../user/user.ts'

/** Claims by the scope that brings them (OpenID Connect Core §5.4). */
const claims = {
  // How the user was authenticated is said whenever it is known, asked for or not, by refreshed ID tokens too (RT-3).
  openid: ['sub', 'acr', 'amr', 'auth_time'],
  profile: ['name', 'preferred_username', 'locale'],
  email: ['email', 'email_verified'],
  phone: ['phone_number', 'phone_number_verified'],
}

/** Only those whose scope there is. */
export function claimsByScope(scopes: readonly string[]): Record<string, string[]> {
  return Object.fromEntries(Object.entries(claims).filter(([scope]) => scopes.includes(scope)))
}

/** What may be told of a user, by scope. */
export function claimsOf(user: User): Record<string, unknown> {
  return {
    ...user.claims,
    name: user.name,
    preferred_username: user.username,
    locale: user.locale,
    email: user.email,
    phone_number: user.phone_number,
  }
}
