/** The claims that a client requests by name with the parameter `claims` (OpenID Connect Core §5.5). */
import { isTooDeep } from '../../platform/http/form.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import { isPlain } from '../../platform/validation.ts'

/** How a claim is requested: `null`, or an object with `essential`, `value` or `values`. */
export type ClaimRequest = null | Readonly<Record<string, unknown>>

/** The requested claims of the ID token and of the response of the userinfo endpoint, by name. */
export interface RequestedClaims {
  id_token?: Readonly<Record<string, ClaimRequest>>
  userinfo?: Readonly<Record<string, ClaimRequest>>
}

/**
 * The scopes that contain a claim, by the name of the claim. A claim without scopes can only be requested in `claims`.
 */
export type ScopesOfClaims = ReadonlyMap<string, readonly string[]>

const places = ['id_token', 'userinfo'] as const
/** Maximum number of claims in a request. A user cannot judge a longer list. */
const mostClaims = 50
/**
 * Maximum total length of the values of `acr`, in characters. They are sent in one parameter of the header
 * `WWW-Authenticate`.
 */
const longestAcrs = 1024

/**
 * Whether a value is an acceptable `claims` parameter: an object with `id_token` or `userinfo`, each of them an object
 * of claims. The value must not be nested too deeply or contain too many claims. The database must be able to store all
 * its strings.
 */
export function areClaims(value: unknown): value is RequestedClaims {
  if (!isPlain(value) || isTooDeep(value) || !holdsOnlyStorable(value)) return false
  const given = places.map((place) => value[place]).filter((claims) => claims !== undefined && claims !== null)
  const requests = given.flatMap((claims) => (isPlain(claims) ? Object.values(claims) : [undefined]))
  return given.length > 0 && requests.length <= mostClaims && requests.every((each) => each === null || isPlain(each))
}

/**
 * Whether the values that the client demands for `acr` and `sub` can be used. This server ignores the values of other
 * claims. The values of `acr` are sent in a quoted parameter of a response header, separated by spaces. So they may
 * contain only characters that are permitted in such a parameter.
 */
export function haveUsableValues(claims: RequestedClaims): boolean {
  return places.every((place) => {
    const { acr, sub } = claims[place] ?? {}
    const [acrs, subs] = [givenValues(acr), givenValues(sub)]
    return acrs.every(isAcr) && acrs.join(' ').length <= longestAcrs && subs.every(isText)
  })
}

/** Returns the names of all claims, each once. */
export function namesOfClaims(claims: RequestedClaims | undefined): string[] {
  return [...new Set(places.flatMap((place) => Object.keys(claims?.[place] ?? {})))]
}

/**
 * Returns the values that the client accepts for a claim of the ID token; empty if the client accepts any value. A
 * request that an earlier version stored can contain values that are not strings.
 */
export function acceptedValues(claims: RequestedClaims | undefined, claim: string): unknown[] {
  return valuesOf(claims?.id_token?.[claim])
}

/**
 * Returns the accepted values of `acr` as `acr_values`, without values that a response header cannot contain. Returns
 * undefined if no value remains, or if the remaining values are longer than `longestAcrs`.
 */
export function acrValuesIn(claims: RequestedClaims | undefined): string | undefined {
  const text = acceptedValues(claims, 'acr').filter(isAcr).join(' ')
  return text === '' || text.length > longestAcrs ? undefined : text
}

/** Whether the client needs a claim of the ID token (`"essential": true`). */
export function isEssential(claims: RequestedClaims | undefined, claim: string): boolean {
  return claims?.id_token?.[claim]?.essential === true
}

function valuesOf(request: ClaimRequest | undefined): unknown[] {
  const { value, values } = request ?? {}
  if (value !== undefined && value !== null) return [value]
  return Array.isArray(values) ? values : []
}

/** Returns `value` and all `values`. If `values` is not a list, it counts as one value. Null is the same as absent. */
function givenValues(request: ClaimRequest | undefined): unknown[] {
  const { value = null, values = null } = request ?? {}
  const listed = Array.isArray(values) ? values : [values].filter((each) => each !== null)
  return value === null ? listed : [value, ...listed]
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

/** Whether a value is a string of printable ASCII characters without spaces, quotes and backslashes. */
function isAcr(value: unknown): value is string {
  return isText(value) && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(value)
}
