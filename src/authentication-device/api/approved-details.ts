/**
 * The authorization details that the user approves: everything that was requested, or less if the type of a detail
 * permits it.
 */

import type { AuthorizationDetail, DetailTypes } from '../../authorization-details/detail-types.ts'
import { areDetails } from '../../authorization-details/read-details.ts'
import type { AuthenticationRequest } from '../../ciba/authentication-request/authentication-request.ts'
import { OAuthError } from '../../platform/oauth-error.ts'

/**
 * Returns the details that the user approves. Undefined means all requested details, because the device sent no
 * `authorization_details`.
 * @param approved as the device sent it
 * @throws {OAuthError} `invalid_authorization_details` if `approved` is neither what was requested nor a permitted part
 */
export function narrowed(
  request: AuthenticationRequest,
  approved: unknown,
  types: DetailTypes,
): AuthorizationDetail[] | undefined {
  if (approved === undefined) return undefined
  if (areDetails(approved) && types.allows(request.authorizationDetails ?? [], approved)) return approved
  throw new OAuthError(
    'invalid_authorization_details',
    'authorization_details must equal those of the request, or be a subset where their type allows it',
  )
}
