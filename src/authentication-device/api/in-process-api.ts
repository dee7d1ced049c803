/** Lists and decides requests without HTTP, for an application that runs Doorbell in its own process. */

import type { AuthorizationDetail, DetailTypes } from '../../authorization-details/detail-types.ts'
import {
  type AuthenticationRequest,
  type RequestStatus,
  statusAt,
} from '../../ciba/authentication-request/authentication-request.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { RequestedClaims } from '../../ciba/authentication-request/requested-claims.ts'
import type { Decide, DecisionResult } from '../../ciba/decision/decide.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Authentication } from '../../user/authentication.ts'
import { narrowed } from './approved-details.ts'
import { authenticationNeeded, insufficientAuthentication } from './required-authentication.ts'

/** A request as an application sees it. Times are milliseconds since 1970. */
export interface RequestView {
  requestId: string
  clientId: string
  userId: string
  status: RequestStatus
  scope: string
  /** The claims that the client requested one by one (OpenID Connect Core §5.5). */
  claims?: RequestedClaims | undefined
  bindingMessage: string | undefined
  /** Authorization details (RFC 9396) and resource indicators (RFC 8707), if the client sent them. */
  authorizationDetails?: AuthorizationDetail[] | undefined
  resources?: string[] | undefined
  createdAt: number
  expiresAt: number
}

export interface DeviceApiNeeds {
  requests: RequestStore
  clients: Pick<ClientStore, 'find'>
  decide: Decide
  details: DetailTypes
  clock: Clock
}

/**
 * Returns functions that list and decide requests without HTTP. `approve` and `deny` resolve when the decision is
 * stored.
 *
 * @example
 * const [waiting] = await doorbell.requests.list('u1', { only: 'open' })
 * await doorbell.requests.approve(waiting.requestId, 'u1', { authTime: 1_790_000_000, amr: ['face'] })
 */
export function createDeviceApi({ requests, clients, decide, details, clock }: DeviceApiNeeds) {
  const decidedBy = 'application'

  /** Throws if this authentication does not meet the requirements of the client that sent the request. */
  async function refuseUnlessSufficient(request: AuthenticationRequest, authentication: Authentication): Promise<void> {
    const client = await clients.find(request.clientId)
    const needed = authenticationNeeded(request, client?.metadata, authentication, clock.now())
    if (needed !== undefined) throw insufficientAuthentication(needed, false)
  }

  return {
    /** Resolves to the requests of a user, newest first. */
    async list(userId: string, { only = 'all' }: { only?: 'open' | 'all' } = {}): Promise<RequestView[]> {
      const now = clock.now()
      const found = await requests.listForUser(userId, only, now)
      return found.map(({ id, clientId, scope, bindingMessage, createdAt, expiresAt, ...request }) => ({
        requestId: id,
        clientId,
        userId,
        status: statusAt({ status: request.status, expiresAt }, now),
        scope,
        bindingMessage,
        ...(request.claims && { claims: request.claims }),
        ...(request.authorizationDetails && { authorizationDetails: request.authorizationDetails }),
        ...(request.resources && { resources: request.resources }),
        createdAt,
        expiresAt,
      }))
    },
    /**
     * Approves a request. The application must have asked the user before.
     *
     * @param less the part of the authorization details that the user approves. If `authorizationDetails` is left out,
     *   all details are approved
     * @throws {OAuthError} `invalid_authorization_details` if `less` is not a permitted part of the requested details;
     *   `insufficient_user_authentication` if the client requires an `authTime`, a later `authTime`, or another `acr`
     */
    async approve(
      requestId: string,
      userId: string,
      authentication: Authentication = {},
      less: { authorizationDetails?: AuthorizationDetail[] } = {},
    ): Promise<DecisionResult> {
      const now = clock.now()
      const request = await requests.findForUser(userId, { id: requestId })
      const answer = { requestId, request, userId, outcome: 'approved' as const, decidedBy, authentication } as const
      // If the request is unknown or not pending, the result of `decide` says why it cannot be approved.
      if (request === undefined || statusAt(request, now) !== 'pending') return decide(answer)
      const { authorizationDetails } = less
      const approvedDetails = authorizationDetails && narrowed(request, authorizationDetails, details)
      await refuseUnlessSufficient(request, authentication)
      return decide({ ...answer, approvedDetails })
    },
    /** Denies a request. */
    deny: (requestId: string, userId: string, authentication: Authentication = {}): Promise<DecisionResult> =>
      decide({ requestId, userId, outcome: 'denied', decidedBy, authentication }),
  }
}
