/** The limits on authentication requests. A request over a limit is refused before the user is notified. */

import type { Client } from '../../client/client.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { OpenAndPerMinute, ReachedLimit, RequestLimits } from '../authentication-request/request-limit-store.ts'

/** The limits configured for all clients; 0 means no limit. */
export interface LimitSettings {
  maxOpenPerUser: number
  perUser: { perMinute: number }
  perClient: { open: number; perMinute: number; unknownPerMinute: number }
  /** Additional limits for clients that registered themselves. The stricter of these and `perClient` applies. */
  perSelfRegisteredClient: { open: number; perMinute: number }
  perClientAndUser: { open: number; perMinute: number }
  pauseAfterDenial: { first: number }
}

/** The computed limits, by client object. All requests with the same client object get the same limits object. */
const known = new WeakMap<Client, { defaults: LimitSettings; limits: RequestLimits }>()

/** Returns the limits for a client. The limits in the client's metadata take precedence. */
export function limitsFor(client: Client, defaults: LimitSettings): RequestLimits {
  const before = known.get(client)
  if (before?.defaults === defaults) return before.limits
  const limits = computeLimits(client, defaults)
  known.set(client, { defaults, limits })
  return limits
}

function computeLimits(client: Client, defaults: LimitSettings): RequestLimits {
  const { registrationId, metadata } = client
  const { limits: own } = metadata
  const perClient = { ...perClientLimits(client, defaults), ...own?.perClient }
  return {
    maxOpenPerUser: defaults.maxOpenPerUser,
    perUser: whereLimited(defaults.perUser),
    perClientAndUser: whereLimited({ ...defaults.perClientAndUser, ...own?.perClientAndUser }),
    clientRegistration: registrationId,
    pauses: defaults.pauseAfterDenial.first > 0,
    // If `perClient` is set, the requests of the client are counted, and are stored one after the other. So `perClient`
    // is set only if the client has a limit.
    ...((perClient.open > 0 || perClient.perMinute > 0) && { perClient: whereLimited(perClient) }),
  }
}

/**
 * Returns the limits that the settings place on the requests of one client. A client that registered itself has
 * additional limits, because the limits per user do not prevent such a client from sending requests about many users.
 */
function perClientLimits({ registeredItself }: Client, defaults: LimitSettings): { open: number; perMinute: number } {
  const { perClient, perSelfRegisteredClient: own } = defaults
  if (!registeredItself) return perClient
  return { open: stricter(perClient.open, own.open), perMinute: stricter(perClient.perMinute, own.perMinute) }
}

/** Returns the stricter of two limits. The limit 0 means no limit. */
function stricter(one: number, other: number): number {
  return Math.min(one || other, other || one)
}

/** Returns how often within a minute this client may get `unknown_user_id`; 0 means no limit. */
export function unknownLimitFor({ metadata: { limits: own } }: Client, defaults: LimitSettings): number {
  return own?.perClient?.unknownPerMinute ?? defaults.perClient.unknownPerMinute
}

function whereLimited({ open, perMinute }: OpenAndPerMinute): OpenAndPerMinute {
  return { open: open || undefined, perMinute: perMinute || undefined }
}

/**
 * Maximum `Retry-After` in seconds when too many requests are pending. It is short, because users may decide the
 * requests long before the requests expire.
 */
const longestAfterOpen = 60

/**
 * Returns the error `access_denied` for a limit. The error has status 403 (CIBA §13) if the user has blocked the
 * client, or if too many requests wait for the user. For all other limits, it has status 429 and `Retry-After`.
 */
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
