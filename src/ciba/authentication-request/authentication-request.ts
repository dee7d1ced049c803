/** The record in the middle: an authentication request, its states and what each means. The moves are in the store. */
import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import type { Authentication } from '../../user/authentication.ts'

export type RequestStatus = 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'

export interface AuthenticationRequest {
  /** The internal id: for links, device pages and logs. Never the `auth_req_id`. */
  id: string
  clientId: string
  userId: string
  scope: string
  acrValues: string | undefined
  bindingMessage: string | undefined
  /** What exactly is asked for (RFC 9396), as it came. */
  authorizationDetails?: AuthorizationDetail[] | undefined
  /** What of it the user approved. Nothing until then, and nothing if nothing was asked for. */
  approvedDetails?: AuthorizationDetail[] | undefined
  /** What the tokens are for (RFC 8707), in the order in which it was asked for. */
  resources?: string[] | undefined
  /** Fixed when the client rang: a change of the client's settings concerns later requests. */
  deliveryMode: DeliveryMode
  notificationEndpoint: string | undefined
  /** `auth_req_id` and notification token, sealed, while a call back is still to be made. */
  callBackSealed: string | undefined
  status: RequestStatus
  /** Milliseconds since 1970, like all times here. */
  createdAt: number
  /** The one deadline, fixed at receipt. It outranks every state but `redeemed` and `denied` (M42). */
  expiresAt: number
  /** Seconds between two polls. Grows with each `slow_down`, for good (TE-1). */
  interval: number
  settledAt: number | undefined
  /** For a push, whose client never comes for its tokens: the key it rang with. */
  binding: Confirmation
  /** How the user was authenticated when deciding. Empty until then. */
  authentication: Authentication
}

/**
 * Whom a request is about whose client must not learn that there is nobody. No user's id looks like this: ids are ASCII.
 *
 * @param digest tells one nobody from another, and nothing else
 */
export const decoyUserId = (digest: string) => `∅ ${digest}`

/** Whether the request is only pretended: nobody is told, nobody sees it, nobody can decide it. It runs out. */
export function isDecoy({ userId }: Pick<AuthenticationRequest, 'userId'>): boolean {
  return userId.startsWith(decoyUserId(''))
}

/** What a ping or a push has to say again later. */
export interface CallBack {
  authReqId: string
  notificationToken: string
}

/** Where a call back lies sealed, so that it opens nowhere else. */
export const callBackAad = (requestId: string) => `backchannel_auth_requests/${requestId}`

/**
 * The status as it is now: a row may not have been told yet that its time is over. A denial stays a denial (TE-8);
 * an approval that nobody collected expires like a request that nobody answered (M3).
 */
export function statusAt(request: Pick<AuthenticationRequest, 'status' | 'expiresAt'>, now: number): RequestStatus {
  const open = request.status === 'pending' || request.status === 'approved'
  return open && now >= request.expiresAt ? 'expired' : request.status
}

/** Milliseconds. A request that runs out sooner than this gave its user no time to answer. */
export const shortLife = 60_000

/** Of a request that has run out: whether nobody answered it, and hardly anybody could have. */
export function wasShortAndUnanswered(
  request: Pick<AuthenticationRequest, 'status' | 'createdAt' | 'expiresAt'>,
): boolean {
  return request.status === 'pending' && request.expiresAt - request.createdAt < shortLife
}

/** Whether a binding message is a number that a user can pick among others (CD-8). */
export function isNumberToMatch(bindingMessage: string | undefined): bindingMessage is string {
  return bindingMessage !== undefined && /^\d{2,6}$/.test(bindingMessage)
}
