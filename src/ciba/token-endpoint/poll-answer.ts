/** What a poll hears: one answer for each state, and the clock above all of them. */
import { type AuthenticationRequest, statusAt } from '../authentication-request/authentication-request.ts'

export type PollAnswer =
  | 'issue tokens'
  | 'authorization_pending'
  | 'slow_down'
  | 'access_denied'
  | 'expired_token'
  | 'invalid_grant'

/**
 * @param tooEarly whether the poll came before its interval was over. It matters only while the user has not decided:
 *   a ready answer is never hidden behind `slow_down` (TK-15, M5)
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
