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

/**
 * Returns the claims that the server can supply, each with the scopes that contain it.
 *
 * @param configured oidc-provider's setting `claims`, if the operator has set it in place of ours: claims by scope, and
 *   claims without a scope, whose value is null
 */
export function scopesOfClaims(
  scopes: readonly string[],
  configured: Readonly<Record<string, unknown>> = claimsByScope(scopes),
): Map<string, string[]> {
  const found = new Map<string, string[]>(statementsOfTheServer.map((claim) => [claim, ['openid']]))
  for (const [name, members] of Object.entries(configured)) {
    if (members === null) found.set(name, found.get(name) ?? [])
    else if (scopes.includes(name))
      for (const claim of namesIn(members)) found.set(claim, [...(found.get(claim) ?? []), name])
  }
  return found
}

/** What the server itself states about the user and the sign-in, whatever claims the operator has configured. */
const statementsOfTheServer = ['sub', 'acr', 'amr', 'auth_time']

function namesIn(members: unknown): string[] {
  return Array.isArray(members) ? members.map(String) : Object.keys(Object(members))
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
