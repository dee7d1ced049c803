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

/** The parameters of CIBA Core §7.1, as sent. `rules.ts` validates them. */
export interface Asked {
  scope: string | undefined
  hints: SentHint[]
  notificationToken: string | undefined
  acrValues: string | undefined
  bindingMessage: string | undefined
  requestedExpiry: string | undefined
  /** The JSON of `authorization_details` (RFC 9396), parsed but not validated. */
  authorizationDetails: unknown
  /** The values of `resource` (RFC 8707), not validated. */
  resources: unknown[]
  /** The context in which the client asks (FAPI-CIBA): JSON, parsed but not validated. */
  requestContext: unknown
  userCode: string | undefined
  /** The JWT as received; undefined if the parameters were in the form. */
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

/** Parameters of RFC 9396, RFC 8707 and FAPI-CIBA: any JSON value in a signed request, a string in a form. */
const structures = ['authorization_details', 'resource', 'request_context']

/**
 * Reads the signed request if there is one, otherwise the form. Beside a signed request the form may contain client
 * authentication, but no parameter of the authentication request (CIBA §7.1.1).
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

/** Reads the parameters of a form. Unknown parameters are ignored; `readForm` has left out empty ones. */
export function readParameters(form: Form): Asked {
  return {
    scope: form.get('scope'),
    hints: hintKinds.flatMap((kind) => {
      const value = form.get(kind)
      return value === undefined ? [] : [{ kind, value }]
    }),
    notificationToken: form.get('client_notification_token'),
    acrValues: form.get('acr_values'),
    bindingMessage: form.get('binding_message'),
    requestedExpiry: form.get('requested_expiry'),
    authorizationDetails: parsed(form.get('authorization_details')),
    resources: allOf(form, 'resource'),
    requestContext: parsed(form.get('request_context')),
    userCode: form.get('user_code'),
    signedRequest: undefined,
  }
}

/** Returns the claims that must be strings, in the form of a parsed form. Empty claims are left out. */
function readClaims(claims: SignedClaims): Form {
  const present = texts.filter((name) => Object.hasOwn(claims, name) && claims[name] !== '')
  return new Map(present.map((name) => [name, readText(name, claims[name])]))
}

/**
 * Reads the structured parameters of a signed request. Each is a JSON value. `authorization_details` may also be a string
 * that contains the JSON, as in a form-encoded request.
 */
function readStructures(claims: SignedClaims): Pick<Asked, 'authorizationDetails' | 'resources' | 'requestContext'> {
  const [authorizationDetails, resource, requestContext] = structures.map((name) =>
    Object.hasOwn(claims, name) && claims[name] !== '' ? claims[name] : undefined,
  )
  return {
    authorizationDetails: parsed(authorizationDetails),
    resources: resource === undefined ? [] : [resource].flat(),
    requestContext,
  }
}

function parsed(value: unknown): unknown {
  return typeof value === 'string' ? parseDetails(value) : value
}

/** Returns a claim that must be a JSON string. Only `requested_expiry` may also be a number (CIBA §7.1.1). */
function readText(name: string, value: unknown): string {
  if (name === 'requested_expiry' && typeof value === 'number') return String(value)
  if (typeof value !== 'string') throw refused(`${name} must be a JSON string`)
  // `readForm` refuses the same characters, because they cannot be stored.
  if (!isStorable(value)) throw refused(`${name} has characters that are not allowed`)
  return value
}

function refused(reason: string): OAuthError {
  return new OAuthError('invalid_request', reason)
}
