/** The claims about a user, by scope. */
import type { User } from '../user/user.ts'

/** The claims that each scope requests (OpenID Connect Core §5.4). */
const claims = {
  // `acr`, `amr` and `auth_time` are included if their values are known, even if the client did not request them.
  // Refreshed ID tokens contain them too.
  openid: ['sub', 'acr', 'amr', 'auth_time'],
  profile: ['name', 'preferred_username', 'locale'],
  email: ['email', 'email_verified'],
  phone: ['phone_number', 'phone_number_verified'],
}

/** Returns the claims by scope, for the scopes that this server offers. */
export function claimsByScope(scopes: readonly string[]): Record<string, string[]> {
  return Object.fromEntries(Object.entries(claims).filter(([scope]) => scopes.includes(scope)))
}

/** Returns the values of all claims of a user. oidc-provider selects the claims of the granted scopes. */
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
