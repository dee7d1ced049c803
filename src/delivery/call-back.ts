/** How a notification endpoint is called, and what its answers mean: the same for ping and push, errors included (M52). */
import { CallFailed, type GuardedCaller } from '../http/outgoing.ts'
import type { Outcome } from '../outbox/notification.ts'

export interface CallBackRequest {
  address: string
  /** The `client_notification_token` of this very request (NE-2). */
  bearer: string
  body: string
}

export async function callBack(request: CallBackRequest, caller: GuardedCaller, signal: AbortSignal): Promise<Outcome> {
  try {
    const answer = await caller.call({
      url: request.address,
      method: 'POST',
      headers: { authorization: `Bearer ${request.bearer}`, 'content-type': 'application/json' },
      body: request.body,
      // Whatever it says besides its status is none of our business (PI-5).
      ignoreBody: true,
      signal,
    })
    return meaningOf(answer.status, answer.headers['retry-after'])
  } catch (error) {
    if (error instanceof CallFailed && error.word !== 'stopped') return meaningOfFailure(error)
    throw error
  }
}

/**
 * 2xx arrived. 3xx is never followed (PI-7) and, like 4xx, needs a person: the same call again would end the same
 * way (PI-8, M51). 429 and 5xx may pass.
 */
export function meaningOf(status: number, retryAfter?: string): Outcome {
  const words = `answered ${status}`
  if (status >= 200 && status < 300) return { kind: 'delivered', words }
  if (status === 429 || status >= 500) {
    const seconds = Number(retryAfter)
    return { kind: 'failed', words, ...(seconds > 0 && { after: Math.min(seconds, 3600) * 1000 }) }
  }
  return { kind: 'refused', words }
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
