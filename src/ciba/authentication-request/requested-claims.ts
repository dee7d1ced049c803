/** The claims that a client requests one by one, besides those of its scopes (OpenID Connect Core §5.5). */
import { isTooDeep } from '../../platform/http/form.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import { isPlain } from '../../platform/validation.ts'

/** How a claim is requested: `null`, or with `essential`, `value` or `values`. */
export type ClaimRequest = null | Readonly<Record<string, unknown>>

/** The requested claims of the ID token and of the response of the userinfo endpoint, by name. */
export interface RequestedClaims {
  id_token?: Readonly<Record<string, ClaimRequest>>
  userinfo?: Readonly<Record<string, ClaimRequest>>
}

/** The scopes that contain a claim, by the name of the claim. A claim without scopes can only be requested by its name. */
export type ScopesOfClaims = ReadonlyMap<string, readonly string[]>

const places = ['id_token', 'userinfo'] as const
/** Maximum number of claims in a request. A user cannot judge more. */
const mostClaims = 50

/** Whether a value is a `claims` parameter: an object with `id_token` or `userinfo`, each of them an object of claims. */
export function areClaims(value: unknown): value is RequestedClaims {
  if (!isPlain(value) || isTooDeep(value) || !holdsOnlyStorable(value)) return false
  const given = places.map((place) => value[place]).filter((claims) => claims !== undefined && claims !== null)
  const requests = given.flatMap((claims) => (isPlain(claims) ? Object.values(claims) : [undefined]))
  return given.length > 0 && requests.length <= mostClaims && requests.every((each) => each === null || isPlain(each))
}

/**
 * Returns the claims that the client may request, or undefined if there are none. Other claims are left out, as OpenID
 * Connect Core §5.5.1 requires, and users are not asked for them.
 */
export function permittedClaims(
  claims: RequestedClaims,
  isPermitted: (claim: string) => boolean,
): RequestedClaims | undefined {
  const permitted = places.flatMap((place) => {
    const named = Object.entries(claims[place] ?? {}).filter(([claim]) => isPermitted(claim))
    return named.length === 0 ? [] : [[place, Object.fromEntries(named)] as const]
  })
  return permitted.length === 0 ? undefined : Object.fromEntries(permitted)
}

/** Returns the names of all claims, each once. */
export function namesOfClaims(claims: RequestedClaims | undefined): string[] {
  return [...new Set(places.flatMap((place) => Object.keys(claims?.[place] ?? {})))]
}

/** Returns the values that the client accepts for a claim of the ID token; empty if it accepts any value. */
export function acceptedValues(claims: RequestedClaims | undefined, claim: string): unknown[] {
  const { value, values } = claims?.id_token?.[claim] ?? {}
  if (value !== undefined && value !== null) return [value]
  return Array.isArray(values) ? values : []
}

/** Whether the client needs a claim of the ID token (`"essential": true`). */
export function isEssential(claims: RequestedClaims | undefined, claim: string): boolean {
  return claims?.id_token?.[claim]?.essential === true
}
