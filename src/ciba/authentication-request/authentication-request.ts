/** An authentication request: its states and what each means. The transitions are in the store. */
import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import type { Authentication } from '../../user/authentication.ts'

/** The stored status. `statusAt` also takes the deadline into account. */
export type RequestStatus = 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'

export interface AuthenticationRequest {
  /** The internal id: for links, device pages and logs. Never the `auth_req_id`. */
  id: string
  clientId: string
  userId: string
  scope: string
  acrValues: string | undefined
  bindingMessage: string | undefined
  /** The details requested (RFC 9396), as received. */
  authorizationDetails?: AuthorizationDetail[] | undefined
  /** The details that the user approved; undefined before the approval, or if none were requested. */
  approvedDetails?: AuthorizationDetail[] | undefined
  /** The resources that the tokens are for (RFC 8707), in the order of the request. */
  resources?: string[] | undefined
  /** Fixed when the request is received: a change of the client's settings affects later requests only. */
  deliveryMode: DeliveryMode
  notificationEndpoint: string | undefined
  /** `auth_req_id` and notification token, encrypted, while a ping or push is still to be sent. */
  callBackSealed: string | undefined
  status: RequestStatus
  /** Milliseconds since 1970, like all times here. */
  createdAt: number
  /** The one deadline, fixed at receipt. Once it has passed, a pending or approved request is expired. */
  expiresAt: number
  /** Seconds between two polls. Each `slow_down` lengthens it permanently (CIBA §11). */
  interval: number
  settledAt: number | undefined
  /** For push only, as the client never calls the token endpoint: the key proven with the authentication request. */
  binding: Confirmation
  /** How the user was authenticated for the decision. Empty before it. */
  authentication: Authentication
}

/**
 * Returns the user id of a decoy request: the user does not exist and the client must not find out. It differs from
 * every real user id, as those are ASCII.
 *
 * @param digest distinguishes decoy users, and reveals nothing about the hint
 */
export const decoyUserId = (digest: string) => `∅ ${digest}`

/** Whether the request is about a decoy user: no device is notified, no user can see or decide it, and it expires. */
export function isDecoy({ userId }: Pick<AuthenticationRequest, 'userId'>): boolean {
  return userId.startsWith(decoyUserId(''))
}

/** The values of the authentication request that a ping or a push needs later. */
export interface CallBack {
  authReqId: string
  notificationToken: string
}

/** Additional authenticated data of an encrypted `CallBack`: moved to another row, it does not decrypt. */
export const callBackAad = (requestId: string) => `backchannel_auth_requests/${requestId}`

/**
 * Returns the status at `now`: a row may still say `pending` or `approved` after its deadline. A denied request stays
 * denied; an approved one that the client did not collect expires like an unanswered one.
 */
export function statusAt(request: Pick<AuthenticationRequest, 'status' | 'expiresAt'>, now: number): RequestStatus {
  const open = request.status === 'pending' || request.status === 'approved'
  return open && now >= request.expiresAt ? 'expired' : request.status
}

/** Milliseconds. A request with a shorter lifetime leaves the user too little time to answer. */
export const shortLife = 60_000

/** Whether an expired request was not answered, and its lifetime was below `shortLife`. */
export function wasShortAndUnanswered(
  request: Pick<AuthenticationRequest, 'status' | 'createdAt' | 'expiresAt'>,
): boolean {
  return request.status === 'pending' && request.expiresAt - request.createdAt < shortLife
}

/** Whether a binding message is a number that a user can pick among others. */
export function isNumberToMatch(bindingMessage: string | undefined): bindingMessage is string {
  return bindingMessage !== undefined && /^\d{2,6}$/.test(bindingMessage)
}
