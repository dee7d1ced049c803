/** The answer to a poll, which depends on the status of the request when the poll arrives. */
import { type AuthenticationRequest, statusAt } from '../authentication-request/authentication-request.ts'

export type PollAnswer =
  | 'issue tokens'
  | 'authorization_pending'
  | 'slow_down'
  | 'access_denied'
  | 'expired_token'
  | 'invalid_grant'

/**
 * Returns the answer to a poll.
 *
 * @param now milliseconds since 1970
 * @param tooEarly whether the poll came before the interval was over. This changes the answer only if the request is
 *   pending
 * @example
 * answerPoll({ status: 'pending', expiresAt: 600_000 }, 1_000, false) // 'authorization_pending'
 * answerPoll({ status: 'approved', expiresAt: 600_000 }, 600_000, false) // 'expired_token'
 */
export function answerPoll(
  request: Pick<AuthenticationRequest, 'status' | 'expiresAt'>,
  now: number,
  tooEarly: boolean,
): PollAnswer {
  switch (statusAt(request, now)) {
    case 'redeemed':
      return 'invalid_grant'
    case 'expired':
      return 'expired_token'
    case 'denied':
      return 'access_denied'
    case 'approved':
      return 'issue tokens'
    case 'pending':
      return tooEarly ? 'slow_down' : 'authorization_pending'
  }
}
