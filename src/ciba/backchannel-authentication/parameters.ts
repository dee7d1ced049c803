/** What the client asks: a form or a signed request, read once into the same type. */
import { parseDetails } from '../../authorization-details/read-details.ts'
import type { Client } from '../../client/client.ts'
import { hintKinds } from '../../client/metadata/client-metadata.ts'
import { allOf, type Form } from '../../platform/http/form.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { isStorable } from '../../platform/http/outside-text.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { SentHint } from '../user-hint/find-user.ts'
import type { ReadSignedRequest, SignedClaims } from './signed-request.ts'

/** The parameters of CIBA Core §7.1, as sent. The rules decide whether they may be so. */
export interface Asked {
  scope: string | undefined
  hints: SentHint[]
  notificationToken: string | undefined
  acrValues: string | undefined
  bindingMessage: string | undefined
  requestedExpiry: string | undefined
  /** RFC 9396: the JSON, whatever it is. */
  authorizationDetails: unknown
  /** RFC 8707: each that was named, whatever it is. */
  resources: unknown[]
  /** FAPI-CIBA: what the client tells of the place it asks from. The JSON, whatever it is. */
  requestContext: unknown
  userCode: string | undefined
  /** The JWT all this was in, letter by letter; nothing if it came as a form. */
  signedRequest: string | undefined
}

/** The parameters by name. In a signed request each is text (SR-1), but for those that say otherwise themselves. */
const texts = [
  'scope',
  ...hintKinds,
  'client_notification_token',
  'acr_values',
  'binding_message',
  'user_code',
  'requested_expiry',
]

/** Of a standard of their own (RFC 9396, RFC 8707, FAPI-CIBA): any JSON may be there (SR-2); a form has it as text. */
const structures = ['authorization_details', 'resource', 'request_context']

/**
 * Reads a signed request if there is one, else the form. With a signed request nothing else of the form counts: it may
 * hold what authenticates the client, and no parameter that belongs into the JWT (SR-11, SR-12, FI-3).
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

/** By name. What it does not know it leaves alone (VL-7). A form value that was empty is not in the form at all (RQ-9). */
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

/** Claims as a form would have them: each parameter a text, and none of them empty. */
function readClaims(claims: SignedClaims): Form {
  const present = texts.filter((name) => Object.hasOwn(claims, name) && claims[name] !== '')
  return new Map(present.map((name) => [name, readText(name, claims[name])]))
}

/** The parameters that are not texts: as JSON, or as the text a form would have (RA-2, RI-2). */
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

/** A JSON text (SR-18). Only the requested lifetime may be a number as well (SR-2). */
function readText(name: string, value: unknown): string {
  if (name === 'requested_expiry' && typeof value === 'number') return String(value)
  if (typeof value !== 'string') throw refused(`${name} must be a JSON string`)
  // The same two things that no form may hold: they can be neither stored nor written.
  if (!isStorable(value)) throw refused(`${name} has characters that are not allowed`)
  return value
}

function refused(reason: string): OAuthError {
  return new OAuthError('invalid_request', reason)
}
