/** The parameters of an authentication request, read from a form or a signed request into the same type. */
import { parseDetails } from '../../authorization-details/read-details.ts'
import type { Client } from '../../client/client.ts'
import { hintKinds } from '../../client/metadata/client-metadata.ts'
import { allOf, type Form } from '../../platform/http/form.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { isStorable } from '../../platform/http/outside-text.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { SentHint } from '../user-hint/find-user.ts'
import type { ReadSignedRequest, SignedClaims } from './signed-request.ts'

/** The parameters of CIBA Core §7.1, as sent. `rules.ts` checks their values later. */
export interface Asked {
  scope: string | undefined
  hints: SentHint[]
  notificationToken: string | undefined
  acrValues: string | undefined
  /** The JSON of `claims` (OpenID Connect Core §5.5), parsed but not validated. */
  claims: unknown
  bindingMessage: string | undefined
  requestedExpiry: string | undefined
  /** The JSON of `authorization_details` (RFC 9396), parsed but not validated. */
  authorizationDetails: unknown
  /** The values of `resource` (RFC 8707), not validated. */
  resources: unknown[]
  /** The context of the request (`request_context` of FAPI-CIBA): JSON, parsed but not validated. */
  requestContext: unknown
  userCode: string | undefined
  /**
   * The signed authentication request (the JWT in `request`) as received; undefined if the client sent the parameters
   * unsigned.
   */
  signedRequest: string | undefined
}

/** Parameters that are JSON strings in a signed request (CIBA §7.1.1). */
const texts = [
  'scope',
  ...hintKinds,
  'client_notification_token',
  'acr_values',
  'binding_message',
  'user_code',
  'requested_expiry',
]

/**
 * Parameters of RFC 9396, RFC 8707, FAPI-CIBA and OpenID Connect. In a signed request, they can be any JSON value. In a
 * form, they are strings.
 */
const structures = ['authorization_details', 'resource', 'request_context', 'claims']

/**
 * Reads the signed request if there is one. If not, reads the form. If there is a signed request, the form may also
 * contain client authentication, but no other parameter of the authentication request (CIBA §7.1.1).
 *
 * @throws {OAuthError} `invalid_request`
 */
export async function readAsked(
  form: Form,
  client: Client,
  readSigned: ReadSignedRequest,
  slot?: Slot,
): Promise<Asked> {
  const signedRequest = form.get('request')
  if (signedRequest === undefined) return readParameters(form)
  const outside = [...texts, ...structures].find((name) => form.has(name))
  if (outside !== undefined) throw refused(`${outside} must be inside the signed request, not beside it`)
  const claims = await readSigned(signedRequest, client, slot)
  return { ...readParameters(readClaims(claims)), ...readStructures(claims), signedRequest }
}

/** Reads the parameters of a form. Unknown parameters are ignored. `readForm` has already left out empty parameters. */
export function readParameters(form: Form): Asked {
  return {
    scope: form.get('scope'),
    hints: hintKinds.flatMap((kind) => {
      const value = form.get(kind)
      return value === undefined ? [] : [{ kind, value }]
    }),
    notificationToken: form.get('client_notification_token'),
    acrValues: form.get('acr_values'),
    claims: parsed(form.get('claims')),
    bindingMessage: form.get('binding_message'),
    requestedExpiry: form.get('requested_expiry'),
    authorizationDetails: parsed(form.get('authorization_details')),
    resources: allOf(form, 'resource'),
    requestContext: parsed(form.get('request_context')),
    userCode: form.get('user_code'),
    signedRequest: undefined,
  }
}

/** Returns those claims of a signed request that `texts` lists, as a form. Empty claims are left out. */
function readClaims(claims: SignedClaims): Form {
  const present = texts.filter((name) => Object.hasOwn(claims, name) && !isEmpty(name, claims[name]))
  return new Map(present.map((name) => [name, readText(name, claims[name])]))
}

/** Whether a claim counts as empty. An empty list of `acr_values` counts as empty, like an empty string. */
function isEmpty(name: string, value: unknown): boolean {
  return value === '' || (name === 'acr_values' && Array.isArray(value) && value.length === 0)
}

/**
 * Reads the structured parameters of a signed request. Each is a JSON value. `authorization_details` and `claims` may
 * also be strings that contain the JSON, as in a form-encoded request.
 */
function readStructures(
  claims: SignedClaims,
): Pick<Asked, 'authorizationDetails' | 'resources' | 'requestContext' | 'claims'> {
  const [authorizationDetails, resource, requestContext, requestedClaims] = structures.map((name) =>
    Object.hasOwn(claims, name) && claims[name] !== '' ? claims[name] : undefined,
  )
  return {
    authorizationDetails: parsed(authorizationDetails),
    resources: resource === undefined ? [] : [resource].flat(),
    requestContext,
    claims: parsed(requestedClaims),
  }
}

function parsed(value: unknown): unknown {
  return typeof value === 'string' ? parseDetails(value) : value
}

/**
 * Returns a claim that must be a JSON string. There are two exceptions: `requested_expiry` may be a number (CIBA
 * §7.1.1), and `acr_values` may be a list, because some libraries write it like `default_acr_values` in client
 * metadata.
 */
function readText(name: string, value: unknown): string {
  if (name === 'acr_values' && Array.isArray(value)) return readList(name, value)
  if (name === 'requested_expiry' && typeof value === 'number') return String(value)
  if (typeof value !== 'string') throw refused(`${name} must be a JSON string`)
  // `readForm` also refuses these characters, because they cannot be stored.
  if (!isStorable(value)) throw refused(`${name} has characters that are not allowed`)
  return value
}

/** Returns the strings of a list, separated by spaces. */
function readList(name: string, list: unknown[]): string {
  const isWord = (value: unknown) => typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)
  if (!list.every(isWord)) throw refused(`${name} must be a JSON string, or a list of strings without spaces`)
  return list.join(' ')
}

function refused(reason: string): OAuthError {
  return new OAuthError('invalid_request', reason)
}
