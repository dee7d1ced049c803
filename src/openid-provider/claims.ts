/** The claims about a user, by scope. */
import { isPlain } from '../platform/validation.ts'
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

/**
 * Claims by which the server makes statements about the token, the authentication or the session (RFC 7519 §4.1, OpenID
 * Connect Core §2 and §3.3.2.11, CIBA Core §10.3.1, RFC 7800, RFC 8485, RFC 8693, RFC 9068, RFC 9396, the logout
 * specifications). The user directory must not supply these claims. For example, an `amr` from the directory would
 * state a factor that this server has not checked.
 */
const protocolClaims = new Set([
  ...['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'typ'],
  ...['acr', 'amr', 'auth_time', 'nonce', 'azp', 'sid', 'events', 'sub_jwk'],
  ...['at_hash', 'c_hash', 's_hash', 'urn:openid:params:jwt:claim:rt_hash', 'urn:openid:params:jwt:claim:auth_req_id'],
  ...['vot', 'vtm', 'cnf', 'act', 'may_act', 'client_id', 'scope', 'active', 'token_type', 'authorization_details'],
])

/** Returns the claims by scope, for the scopes that this server offers. */
export function claimsByScope(scopes: readonly string[]): Record<string, string[]> {
  return Object.fromEntries(Object.entries(claims).filter(([scope]) => scopes.includes(scope)))
}

/**
 * Returns the claims that the server can supply, and for each claim the scopes that contain the claim.
 * @param configured the operator's setting `claims` for oidc-provider, or the claims of this server if there is no such
 *   setting. It maps a scope to its claims, and a claim without a scope to null
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

/**
 * The claims whose values this server determines itself. The server can always supply them, whatever claims the
 * operator has configured.
 */
const statementsOfTheServer = ['sub', 'acr', 'amr', 'auth_time']

function namesIn(members: unknown): string[] {
  return Array.isArray(members) ? members.map(String) : Object.keys(Object(members))
}

/** Returns the values of all claims of a user. oidc-provider selects the claims of the granted scopes. */
export function claimsOf(user: User): Record<string, unknown> {
  return {
    ...(user.claims && claimsAboutUser(user.claims)),
    name: user.name,
    preferred_username: user.username,
    locale: user.locale,
    email: user.email,
    phone_number: user.phone_number,
  }
}

/**
 * Returns the claims without protocol claims. Protocol claims are also left out of aggregated and distributed claims
 * (OpenID Connect Core §5.6.2).
 */
function claimsAboutUser(given: Record<string, unknown>): Record<string, unknown> {
  const { _claim_names: elsewhere, ...own } = withoutProtocolClaims(given)
  if (!isPlain(elsewhere)) return own
  return { ...own, _claim_names: withoutProtocolClaims(elsewhere) }
}

function withoutProtocolClaims(given: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => !protocolClaims.has(name)))
}

/** Claims that a client requests by their names (OpenID Connect Core §5.5). */
interface NamedClaims {
  id_token?: object | null | undefined
  userinfo?: object | null | undefined
}

/**
 * Returns the claims that the client may request, or undefined if there are none. Other claims are left out without an
 * error, as OpenID Connect Core §5.5.1 requires, and users are not asked to consent to the claims that are left out.
 */
export function permittedClaims<Claims extends NamedClaims>(
  claims: Claims,
  isPermitted: (claim: string) => boolean,
): Claims | undefined {
  const permitted = (['id_token', 'userinfo'] as const).flatMap((place) => {
    const named = Object.entries(claims[place] ?? {}).filter(([claim]) => isPermitted(claim))
    return named.length === 0 ? [] : [[place, Object.fromEntries(named)] as const]
  })
  return permitted.length === 0 ? undefined : (Object.fromEntries(permitted) as unknown as Claims)
}
