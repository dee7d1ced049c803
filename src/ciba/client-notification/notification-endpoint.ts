/** Calls a client notification endpoint. A response has the same meaning for a ping as for a push. */

import { longestRetryAfterMs, type Outcome } from '../../outbox/notification.ts'
import { CallFailed, type GuardedCaller } from '../../platform/http/outgoing.ts'

export interface CallBackRequest {
  clientId: string
  address: string
  /** The `client_notification_token` of the authentication request (CIBA §9). */
  bearer: string
  body: string
}

/** Sends a ping or push. Resolves to the outcome; rejects if `signal` stopped the call. */
export function callBack(request: CallBackRequest, caller: GuardedCaller, signal: AbortSignal): Promise<Outcome> {
  const headers = { authorization: `Bearer ${request.bearer}`, 'content-type': 'application/json' }
  const { clientId: receiver, address: url, body } = request
  return post({ url, receiver, headers, body }, caller, signal)
}

export interface Post {
  url: string
  /** See `OutgoingCall`. */
  receiver?: string
  headers: Record<string, string>
  body: string | Buffer
}

/**
 * Sends a POST. Resolves to the outcome, with `status` if there was a response; rejects if `signal` stopped the call.
 */
export async function post(
  message: Post,
  caller: GuardedCaller,
  signal: AbortSignal,
): Promise<Outcome & { status?: number }> {
  try {
    // CIBA §10.2: the body of the response is ignored.
    const answer = await caller.call({ ...message, method: 'POST', ignoreBody: true, signal })
    return { ...meaningOf(answer.status, answer.headers), status: answer.status }
  } catch (error) {
    if (error instanceof CallFailed && error.word !== 'stopped') return meaningOfFailure(error)
    throw error
  }
}

/**
 * Returns the outcome for a response:
 * - 2xx: delivered.
 * - 429 and 5xx: failed for now. The call is repeated after a pause. `Retry-After` can lengthen the pause to at most
 *   one hour.
 * - All others, such as 3xx and 400: refused. A redirect is not followed. The same call would be refused again, so an
 *   operator has to act.
 */
export function meaningOf(status: number, headers: Record<string, string> = {}): Outcome {
  const words = `answered ${status}`
  if (status >= 200 && status < 300) return { kind: 'delivered', words }
  if (status === 429 || status >= 500) {
    const seconds = retryAfter(headers)
    return { kind: 'failed', words, ...(seconds > 0 && { after: Math.min(seconds * 1000, longestRetryAfterMs) }) }
  }
  return { kind: 'refused', words }
}

/**
 * Returns the seconds of `Retry-After`. If it is a date, the seconds are counted from the `Date` of the same response
 * (RFC 9110 §10.2.3).
 */
function retryAfter({ 'retry-after': value = '', date = '' }: Record<string, string>): number {
  return /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.parse(date)) / 1000
}

function meaningOfFailure({ word }: CallFailed): Outcome {
  switch (word) {
    case 'address_forbidden':
    case 'not_https':
    case 'bad_url':
      return { kind: 'refused', words: word }
    default:
      return { kind: 'failed', words: word }
  }
}
