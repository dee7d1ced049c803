/**
 * The part of an approval for which a client requests an access token: one of the resources, and all or some of the
 * details.
 */

import type { AuthorizationDetail, DetailTypes } from '../../authorization-details/detail-types.ts'
import { areDetails, parseDetails } from '../../authorization-details/read-details.ts'
import { isSameAddress } from '../../authorization-details/resources.ts'
import { allOf, type Form } from '../../platform/http/form.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'

export interface RequestedSubset {
  resource?: string | undefined
  details?: AuthorizationDetail[] | undefined
}

/**
 * Reads `resource` (RFC 8707) and `authorization_details` (RFC 9396) for an approved request. If the function throws,
 * the request stays approved, so the client can repeat the call.
 *
 * @throws {OAuthError} `invalid_target`, `invalid_authorization_details`
 */
export function readRequestedSubset(form: Form, request: AuthenticationRequest, types: DetailTypes): RequestedSubset {
  return { resource: wantedResource(form, request), details: wantedDetails(form, request, types) }
}

function wantedResource(form: Form, { resources = [] }: AuthenticationRequest): string | undefined {
  const [wanted, ...more] = allOf(form, 'resource')
  if (more.length > 0) throw new OAuthError('invalid_target', 'an access token is for one resource: send exactly one')
  if (wanted === undefined) return undefined
  const approved = resources.find((address) => isSameAddress(address, wanted))
  if (approved === undefined) throw new OAuthError('invalid_target', 'resource was not approved')
  return approved
}

function wantedDetails(form: Form, { approvedDetails = [] }: AuthenticationRequest, types: DetailTypes) {
  const text = form.get('authorization_details')
  if (text === undefined) return undefined
  const wanted = parseDetails(text)
  if (areDetails(wanted) && types.covers(approvedDetails, wanted)) return wanted
  throw new OAuthError('invalid_authorization_details', 'authorization_details exceeds what was approved')
}
