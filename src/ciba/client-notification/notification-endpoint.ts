/** How a notification endpoint is called, and what its answers mean: the same for all of them, errors included (M52). */

import type { Outcome } from '../../outbox/notification.ts'
import { CallFailed, type GuardedCaller } from '../../platform/http/outgoing.ts'

export interface CallBackRequest {
  address: string
  /** The `client_notification_token` of this very request (NE-2). */
  bearer: string
  body: string
}

export function callBack(request: CallBackRequest, caller: GuardedCaller, signal: AbortSignal): Promise<Outcome> {
  const headers = { authorization: `Bearer ${request.bearer}`, 'content-type': 'application/json' }
  return post({ url: request.address, headers, body: request.body }, caller, signal)
}

export interface Post {
  url: string
  headers: Record<string, string>
  body: string | Buffer
}

/** Posts, and says what the answer means; `status` if there was one. */
export async function post(
  { url, headers, body }: Post,
  caller: GuardedCaller,
  signal: AbortSignal,
): Promise<Outcome & { status?: number }> {
  try {
    // Whatever it says besides its status is none of our business (PI-5).
    const answer = await caller.call({ url, method: 'POST', headers, body, ignoreBody: true, signal })
    return { ...meaningOf(answer.status, answer.headers), status: answer.status }
  } catch (error) {
    if (error instanceof CallFailed && error.word !== 'stopped') return meaningOfFailure(error)
    throw error
  }
}

/**
 * 2xx arrived. 3xx is never followed (PI-7) and, like 4xx, needs a person: the same call again would end the same
 * way (PI-8, M51). 429 and 5xx may pass.
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

/** Seconds, or a date, which counts by the clock of whoever says it (RFC 9110 §10.2.3). */
function retryAfter({ 'retry-after': said = '', date = '' }: Record<string, string>): number {
  return /^\d+$/.test(said) ? Number(said) : (Date.parse(said) - Date.parse(date)) / 1000
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
