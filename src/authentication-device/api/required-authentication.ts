/**
 * Checks whether the user who approves a request is authenticated as the client of the request requires. A client can
 * require that the time of the authentication is known (`require_auth_time`), a maximum age (`default_max_age`), and an
 * essential `acr` (OpenID Connect Core §5.5.1.1).
 */
import type { AuthenticationRequest } from '../../ciba/authentication-request/authentication-request.ts'
import { acceptedValues, acrValuesIn, isEssential } from '../../ciba/authentication-request/requested-claims.ts'
import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Authentication } from '../../user/authentication.ts'

/** The authentication that is needed, as parameters of an authorization request (RFC 9470 §4). */
export interface AuthenticationNeeded {
  /** Seconds. */
  max_age?: number
  /**
   * The accepted values of `acr`, separated by spaces. Undefined if the user's `acr` is accepted, or if no accepted
   * value can be sent in a response header.
   */
  acr_values?: string
}

/** Milliseconds by which the clocks of this server and of another server may differ. */
const skew = 10_000
/** The value of `max_age`, in seconds, if the client requires only that the time of the authentication is known. */
const anyAge = 86_400

/**
 * Returns the authentication that is needed before the user may approve the request, or undefined if the given
 * authentication suffices. An authentication that was made after the request was received is never too old, because it
 * was made for this request.
 *
 * @param client undefined if the client was removed
 */
export function authenticationNeeded(
  request: Pick<AuthenticationRequest, 'claims' | 'createdAt'>,
  client: ClientMetadata | undefined,
  { acr, authTime }: Authentication,
  now: number,
): AuthenticationNeeded | undefined {
  const accepted = isEssential(request.claims, 'acr') ? acceptedValues(request.claims, 'acr') : []
  const isOther = accepted.length > 0 && !accepted.includes(acr)
  const maxAge = client?.default_max_age
  // An authentication time in the future cannot be right. It is treated as unknown.
  const at = authTime !== undefined && authTime * 1000 <= now + skew ? authTime * 1000 : undefined
  const mustBeKnown =
    maxAge !== undefined || client?.require_auth_time === true || isEssential(request.claims, 'auth_time')
  const isUnknown = mustBeKnown && at === undefined
  const isOld =
    maxAge !== undefined && at !== undefined && at < Math.min(now - maxAge * 1000, secondOf(request.createdAt))
  if (!isOther && !isUnknown && !isOld) return undefined
  const named = isOther ? acrValuesIn(request.claims) : undefined
  return {
    ...((isUnknown || isOld) && { max_age: maxAge ?? anyAge }),
    ...(named !== undefined && { acr_values: named }),
  }
}

/**
 * @param isUser whether the caller sent an access token of the user. If so, the status is 401, and `WWW-Authenticate`
 *   contains the sign-in that is needed. If not, the status is 403
 */
export function insufficientAuthentication({ max_age, acr_values }: AuthenticationNeeded, isUser: boolean): OAuthError {
  const members = { ...(max_age !== undefined && { max_age }), ...(acr_values !== undefined && { acr_values }) }
  const listed = Object.entries(members).map(([name, value]) => `, ${name}="${value}"`)
  return new OAuthError(
    'insufficient_user_authentication',
    'the client requires an authentication that is recent enough, whose time is known, or with another acr',
    isUser
      ? {
          members,
          headers: {
            'WWW-Authenticate': `Bearer realm="doorbell", error="insufficient_user_authentication"${listed.join('')}`,
          },
        }
      : { members, status: 403 },
  )
}

/** Rounds a time down to a whole second, because `auth_time` has whole seconds. */
function secondOf(milliseconds: number): number {
  return Math.floor(milliseconds / 1000) * 1000
}
