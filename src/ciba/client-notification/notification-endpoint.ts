/** Calls a client notification endpoint. Its responses mean the same for each notification, also for one of an error. */

import type { Outcome } from '../../outbox/notification.ts'
import { CallFailed, type GuardedCaller } from '../../platform/http/outgoing.ts'

export interface CallBackRequest {
  address: string
  /** The `client_notification_token` of the authentication request (CIBA §9). */
  bearer: string
  body: string
}

/** Sends a ping or push. Resolves to its outcome; rejects if it was stopped. */
export function callBack(request: CallBackRequest, caller: GuardedCaller, signal: AbortSignal): Promise<Outcome> {
  const headers = { authorization: `Bearer ${request.bearer}`, 'content-type': 'application/json' }
  return post({ url: request.address, headers, body: request.body }, caller, signal)
}

export interface Post {
  url: string
  headers: Record<string, string>
  body: string | Buffer
}

/** Sends a POST. Resolves to its outcome, with `status` if there was a response; rejects if it was stopped. */
export async function post(
  { url, headers, body }: Post,
  caller: GuardedCaller,
  signal: AbortSignal,
): Promise<Outcome & { status?: number }> {
  try {
    // CIBA §10.2: the body of the response is ignored.
    const answer = await caller.call({ url, method: 'POST', headers, body, ignoreBody: true, signal })
    return { ...meaningOf(answer.status, answer.headers), status: answer.status }
  } catch (error) {
    if (error instanceof CallFailed && error.word !== 'stopped') return meaningOfFailure(error)
    throw error
  }
}

/**
 * Returns what a response means. 2xx: delivered. 3xx is never followed and, like 4xx, means refused: repeating the same
 * call would give the same result, so an operator is needed. 429 and 5xx are temporary: failed, to be retried after
 * `Retry-After`, one hour at most.
 */
export function meaningOf(status: number, headers: Record<string, string> = {}): Outcome {
  const words = `answered ${status}`
  if (status >= 200 && status < 300) return { kind: 'delivered', words }
  if (status === 429 || status >= 500) {
    const seconds = retryAfter(headers)
    return { kind: 'failed', words, ...(seconds > 0 && { after: Math.min(seconds, 3600) * 1000 }) }
  }
  return { kind: 'refused', words }
}

/** Returns seconds. A date is compared with the `Date` of the same response (RFC 9110 §10.2.3). */
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
