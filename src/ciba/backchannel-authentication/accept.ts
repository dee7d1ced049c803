/** Turns a valid authentication request into a pending request, with its deadline and the values for a ping or push. */

import { configuredAddress } from '../../authorization-details/resources.ts'
import type { Client } from '../../client/client.ts'
import { withoutOffline } from '../../client/metadata/offline-access.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { permittedClaims } from '../../openid-provider/claims.ts'
import { newId, newSecret, type Vault } from '../../platform/crypto.ts'
import type { User } from '../../user/user.ts'
import { type AuthenticationRequest, callBackAad } from '../authentication-request/authentication-request.ts'
import { acrValuesIn, type RequestedClaims } from '../authentication-request/requested-claims.ts'
import type { Asked } from './parameters.ts'
import { detailsOf, mayRequestClaim, type RequestPolicy } from './rules.ts'

export interface Acceptance {
  request: AuthenticationRequest
  /**
   * The `auth_req_id`, returned to the client once. It is stored as a hash. For ping and push, it is also stored
   * encrypted, because the notification contains it.
   */
  authReqId: string
}

/** The operator's settings for new requests, in seconds. */
export interface AcceptancePolicy {
  defaultExpiry: number
  maxExpiry: number
  minExpiry: number
  interval: number
}

/**
 * Makes the request to be stored, and its `auth_req_id`.
 * @param receivedAt milliseconds since 1970; the lifetime of the request starts at this time (CIBA §7.3)
 */
export function accept(
  asked: Asked,
  client: Client,
  user: User,
  binding: Confirmation,
  receivedAt: number,
  policy: AcceptancePolicy & RequestPolicy,
  vault: Vault,
): Acceptance {
  const id = newId(receivedAt)
  const authReqId = newSecret()
  const lifetime = lifetimeOf(asked, policy)
  const callBack = { authReqId, notificationToken: asked.notificationToken }
  const details = detailsOf(asked)
  const claims = claimsOf(asked, client, policy)
  // The rule `resourcesAreKnown` has checked that each resource is configured. Tokens contain the resources as spelled
  // in the configuration.
  const resources = [
    ...new Set(asked.resources.map((address) => configuredAddress(policy.resources, String(address))!)),
  ]
  return {
    authReqId,
    request: {
      id,
      clientId: client.id,
      userId: user.id,
      scope: scopeFor(asked, client),
      acrValues: asked.acrValues ?? acrValuesIn(claims),
      ...(claims !== undefined && { claims }),
      bindingMessage: asked.bindingMessage,
      ...(details.length > 0 && { authorizationDetails: details }),
      ...(resources.length > 0 && { resources }),
      deliveryMode: client.deliveryMode!,
      notificationEndpoint: client.notificationEndpoint,
      // A poll client gets no notification, so its `auth_req_id` is not stored encrypted.
      callBackSealed:
        client.deliveryMode === 'poll' ? undefined : vault.seal(JSON.stringify(callBack), callBackAad(id)),
      status: 'pending',
      createdAt: receivedAt,
      expiresAt: receivedAt + lifetime * 1000,
      interval: policy.interval,
      settledAt: undefined,
      binding,
      authentication: {},
    },
  }
}

/**
 * Returns the scope that the user is asked to approve. If the client is not registered for refresh tokens, its request
 * for `offline_access` is ignored (OpenID Connect Core §11). In this case, `offline_access` is left out of the scope.
 */
function scopeFor({ scope }: Asked, { metadata }: Client): string {
  const asked = [...new Set(scope!.split(' '))].join(' ')
  return metadata.grant_types.includes('refresh_token') ? asked : withoutOffline(asked)
}

function claimsOf(asked: Asked, client: Client, policy: RequestPolicy): RequestedClaims | undefined {
  if (asked.claims === undefined) return undefined
  // The rule `claimsAreObjects` has checked that the value has this type.
  return permittedClaims(asked.claims as RequestedClaims, (claim) => mayRequestClaim(claim, client, policy))
}

/**
 * Returns the lifetime of the request in seconds: the requested lifetime, but within the operator's limits. The client
 * gets this number as `expires_in`.
 */
function lifetimeOf({ requestedExpiry }: Asked, policy: AcceptancePolicy): number {
  const wanted = Number(requestedExpiry ?? policy.defaultExpiry)
  return Math.max(policy.minExpiry, Math.min(wanted, policy.maxExpiry))
}

/** The response of CIBA §7.3. */
export interface Acknowledgement {
  auth_req_id: string
  expires_in: number
  interval?: number
}

/** Returns the response for the client. A push client never polls, so it gets no `interval`. */
export function acknowledge({ request, authReqId }: Acceptance): Acknowledgement {
  return {
    auth_req_id: authReqId,
    expires_in: Math.round((request.expiresAt - request.createdAt) / 1000),
    ...(request.deliveryMode !== 'push' && { interval: request.interval }),
  }
}
