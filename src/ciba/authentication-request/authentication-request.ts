/** The authentication request and its states. The transitions are in `request-move-store.ts`. */
import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { RequestedClaims } from './requested-claims.ts'

/**
 * The stored status. It can still be `pending` or `approved` after the deadline. `statusAt` takes the deadline into
 * account.
 */
export type RequestStatus = 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'

export interface AuthenticationRequest {
  /** The internal id, used in links, device pages and logs. It is not the `auth_req_id`. */
  id: string
  clientId: string
  userId: string
  scope: string
  acrValues: string | undefined
  /**
   * The claims that the client requested with the parameter `claims`. Claims that the client is not permitted to get
   * are left out.
   */
  claims?: RequestedClaims | undefined
  bindingMessage: string | undefined
  /** The authorization details that the client requested (RFC 9396), as received. */
  authorizationDetails?: AuthorizationDetail[] | undefined
  /** The authorization details that the user approved; undefined before the approval, or if none were requested. */
  approvedDetails?: AuthorizationDetail[] | undefined
  /** The resources that the tokens are for (RFC 8707), in the order of the request. */
  resources?: string[] | undefined
  /**
   * The client's delivery mode and notification endpoint when the request was received. If the client changes them
   * before a notification is sent, the new values apply. There is one exception: a request of a poll client stays in
   * poll mode, because it has no notification token.
   */
  deliveryMode: DeliveryMode
  notificationEndpoint: string | undefined
  /** The encrypted `CallBack`. It is stored as long as a ping or push may have to be composed from it. */
  callBackSealed: string | undefined
  status: RequestStatus
  /** Milliseconds since 1970, like all times in this interface. */
  createdAt: number
  /** The deadline, fixed when the request is received. A pending or approved request expires at this time. */
  expiresAt: number
  /**
   * Minimum seconds between two polls. `slow_down` lengthens the interval (CIBA §11); `poll-interval.ts` has the rules.
   */
  interval: number
  settledAt: number | undefined
  /**
   * True if a stored JSON value, such as the details, resources or claims, cannot be parsed. It is then unknown what
   * the client requested. So the request cannot be approved, and no tokens are issued for it.
   */
  isDamaged?: true
  /**
   * The client certificate or DPoP key to which the tokens of a push client are bound. A push client never calls the
   * token endpoint, so it proves the possession of the key when it sends the authentication request. Empty for poll and
   * ping.
   */
  binding: Confirmation
  /** How the user was authenticated when the user decided. Empty before the decision. */
  authentication: Authentication
}

/**
 * Returns the user id of a decoy user. A decoy user takes the place of a user that does not exist, so that the client
 * cannot find out that there is no such user. Real user ids are ASCII, so none of them equals the id of a decoy user.
 *
 * @param digest a keyed hash, which is different for each decoy user and does not reveal the hint
 */
export const decoyUserId = (digest: string) => `∅ ${digest}`

/**
 * Whether the request is about a decoy user. No device is notified of such a request, and no user can see or decide it.
 * So a pending request about a decoy user expires at its deadline.
 */
export function isDecoy({ userId }: Pick<AuthenticationRequest, 'userId'>): boolean {
  return userId.startsWith(decoyUserId(''))
}

/** The values of the authentication request that a ping or a push needs later. */
export interface CallBack {
  authReqId: string
  notificationToken: string
}

/**
 * Returns the additional authenticated data (AAD) for the encryption of a `CallBack`. The AAD contains the request id,
 * so a `CallBack` that is copied to the row of another request cannot be decrypted.
 */
export const callBackAad = (requestId: string) => `backchannel_auth_requests/${requestId}`

/**
 * Returns the status at `now`. From the deadline on, a request with the stored status `pending` or `approved` counts as
 * expired. A denied or redeemed request does not expire.
 */
export function statusAt(request: Pick<AuthenticationRequest, 'status' | 'expiresAt'>, now: number): RequestStatus {
  const open = request.status === 'pending' || request.status === 'approved'
  return open && now >= request.expiresAt ? 'expired' : request.status
}

/**
 * In milliseconds. A request with a shorter lifetime may expire before the user can deny it. So if such a request
 * expires unanswered, the client has to pause, as after a denial.
 */
export const shortLife = 60_000

/**
 * Whether an expired request was not answered (its stored status is `pending`) and had a lifetime below `shortLife`.
 */
export function wasShortAndUnanswered(
  request: Pick<AuthenticationRequest, 'status' | 'createdAt' | 'expiresAt'>,
): boolean {
  return request.status === 'pending' && request.expiresAt - request.createdAt < shortLife
}

/** Whether a binding message is a number that a user can pick among other numbers: two to six digits. */
export function isNumberToMatch(bindingMessage: string | undefined): bindingMessage is string {
  return bindingMessage !== undefined && /^\d{2,6}$/.test(bindingMessage)
}
