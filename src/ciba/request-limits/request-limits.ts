/** How much may be asked (CD-4, M31): what is over a limit is refused before anything of it reaches the user. */

import type { Client } from '../../client/client.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { OpenAndPerMinute, ReachedLimit, RequestLimits } from '../authentication-request/request-limit-store.ts'

/** As configured for everybody; 0 is no limit. */
export interface LimitSettings {
  maxOpenPerUser: number
  perUser: { perMinute: number }
  perClient: { open: number; perMinute: number; unknownPerMinute: number }
  perClientAndUser: { open: number; perMinute: number }
  pauseAfterDenial: { first: number }
}

/** What the operator says of this client wins. */
export function limitsFor({ metadata: { limits: own } }: Client, everybodys: LimitSettings): RequestLimits {
  const perClient = { ...everybodys.perClient, ...own?.perClient }
  return {
    maxOpenPerUser: everybodys.maxOpenPerUser,
    perUser: whereLimited(everybodys.perUser),
    perClientAndUser: whereLimited({ ...everybodys.perClientAndUser, ...own?.perClientAndUser }),
    pauses: everybodys.pauseAfterDenial.first > 0,
    // Counting a client's requests makes them wait for each other: only where it is asked for.
    ...((perClient.open > 0 || perClient.perMinute > 0) && { perClient: whereLimited(perClient) }),
  }
}

/** How often within a minute this client may be told that nobody is there (M30); 0 is no limit. */
export function unknownLimitFor({ metadata: { limits: own } }: Client, everybodys: LimitSettings): number {
  return own?.perClient?.unknownPerMinute ?? everybodys.perClient.unknownPerMinute
}

function whereLimited({ open, perMinute }: OpenAndPerMinute): OpenAndPerMinute {
  return { open: open || undefined, perMinute: perMinute || undefined }
}

/** Seconds. Requests that wait may be decided any moment: it is worth asking again long before they run out. */
const longestAfterOpen = 60

/** CIBA has a code for the user's own will; how much at once is HTTP's 429, with the time to come again. */
export function refusalFor({ limit, until }: ReachedLimit, now: number): OAuthError {
  const detail = `limit ${limit}`
  if (limit === 'blocked') {
    return new OAuthError('access_denied', 'the user does not accept requests of this client', { detail })
  }
  if (limit === 'perUser.open') {
    return new OAuthError('access_denied', 'too many requests are waiting for this user; try again later', { detail })
  }
  const seconds = Math.max(1, Math.ceil(((until ?? now) - now) / 1000))
  const retryAfter = limit.endsWith('.open') ? Math.min(seconds, longestAfterOpen) : seconds
  const hint =
    limit === 'pauseAfterDenial'
      ? 'the user has denied a request of this client or left one unanswered; try again later'
      : 'too many requests; try again later'
  return new OAuthError('access_denied', hint, { detail, status: 429, headers: { 'Retry-After': String(retryAfter) } })
}
