/** From a request that may be made to one that is open: with its deadline, and with a way to call back. */

import type { Client } from '../../client/client.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { newId, newSecret, type Vault } from '../../platform/crypto.ts'
import type { User } from '../../user/user.ts'
import { type AuthenticationRequest, callBackAad } from '../authentication-request/authentication-request.ts'
import type { Asked } from './parameters.ts'
import { detailsOf } from './rules.ts'

export interface Acceptance {
  request: AuthenticationRequest
  /** The client's name for the request. It is told to the client now and never again; what is kept is its hash. */
  authReqId: string
}

export interface AcceptancePolicy {
  /** Seconds. */
  defaultExpiry: number
  maxExpiry: number
  minExpiry: number
  interval: number
}

/** @param receivedAt when the client's request came in: its lifetime counts from there (AK-5, M44) */
export function accept(
  asked: Asked,
  client: Client,
  user: User,
  binding: Confirmation,
  receivedAt: number,
  policy: AcceptancePolicy,
  vault: Vault,
): Acceptance {
  const id = newId(receivedAt)
  const authReqId = newSecret()
  const lifetime = lifetimeOf(asked, policy)
  const callBack = { authReqId, notificationToken: asked.notificationToken }
  const details = detailsOf(asked)
  const resources = [...new Set(asked.resources.map(String))]
  return {
    authReqId,
    request: {
      id,
      clientId: client.id,
      userId: user.id,
      scope: [...new Set(asked.scope!.split(' '))].join(' '),
      acrValues: asked.acrValues,
      bindingMessage: asked.bindingMessage,
      ...(details.length > 0 && { authorizationDetails: details }),
      ...(resources.length > 0 && { resources }),
      deliveryMode: client.deliveryMode!,
      notificationEndpoint: client.notificationEndpoint,
      // A poll client comes by itself and brings the id: nothing of it needs to be kept.
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

/** What the client asks for, within what the operator allows; `expires_in` says which it became (RQ-7). */
function lifetimeOf({ requestedExpiry }: Asked, policy: AcceptancePolicy): number {
  const wanted = Number(requestedExpiry ?? policy.defaultExpiry)
  return Math.max(policy.minExpiry, Math.min(wanted, policy.maxExpiry))
}

export interface Acknowledgement {
  auth_req_id: string
  expires_in: number
  interval?: number
}

/** What the client gets (§7.3). A push client never polls, so it hears of no interval (AK-4). */
export function acknowledge({ request, authReqId }: Acceptance): Acknowledgement {
  return {
    auth_req_id: authReqId,
    expires_in: Math.round((request.expiresAt - request.createdAt) / 1000),
    ...(request.deliveryMode !== 'push' && { interval: request.interval }),
  }
}
