/**
 * The authorization details that the user approves: all requested details. If the type of a detail permits it, the user
 * may approve a part of this detail.
 */

import type { AuthorizationDetail, DetailTypes } from '../../authorization-details/detail-types.ts'
import { areDetails } from '../../authorization-details/read-details.ts'
import type { AuthenticationRequest } from '../../ciba/authentication-request/authentication-request.ts'
import { OAuthError } from '../../platform/oauth-error.ts'

/**
 * Returns the details that the user approves. Returns undefined if the device sent no details, because the user then
 * approves all requested details.
 * @param approved the details that the device sent, parsed as JSON but not checked
 * @throws {OAuthError} `invalid_authorization_details` if `approved` is neither equal to the requested details nor a
 *   permitted part of them
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
