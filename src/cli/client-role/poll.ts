/** Polls the token endpoint, no more often than allowed (CIBA Core §10.1, §11). */
import { setTimeout as wait } from 'node:timers/promises'
import { steadyTime, systemClock } from '../../platform/clock.ts'
import { Failure } from '../context/failure.ts'
import type { Connection } from './connection.ts'
import { Refused } from './provider.ts'
import type { Outcome, StartedRequest, Tokens } from './ring.ts'
import { type Answer, Unreachable } from './web.ts'

/** Receives progress messages for the user of the command. */
export type Tell = (news: string) => void

/**
 * Polls at once and then after each interval, until the provider returns a result or the deadline has passed. The
 * polling loop of openid-client is not used: it waits before the first poll, reports no progress, and fails if the
 * provider is unreachable for a moment.
 */
export async function poll(connection: Connection, ringing: StartedRequest, tell: Tell): Promise<Outcome> {
  let { interval } = ringing
  for (;;) {
    const answer = await ask(connection, ringing, tell)
    const outcome = answer && outcomeOf(answer)
    if (outcome) return outcome
    if (answer?.body.error === 'slow_down') {
      // The longer interval applies to all further polls (CIBA Core §11).
      interval += 5
      tell(`The provider asks for slower polling: every ${interval} s from now on.`)
    }
    const pause = Math.max(interval, answer ? retryAfter(answer) : 0) * 1000
    const left = ringing.deadline - steadyTime(systemClock)
    await wait(Math.max(0, Math.min(pause, left)))
    // After the deadline of the request, a further poll would only return `expired_token`.
    if (steadyTime(systemClock) >= ringing.deadline) return { kind: 'expired' }
  }
}

/**
 * Polls once. Resolves to undefined if the provider cannot be reached. The caller then polls again, because the
 * provider has stored the request.
 */
async function ask(connection: Connection, { authReqId }: StartedRequest, tell: Tell): Promise<Answer | undefined> {
  try {
    return await connection.redeem(authReqId)
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error
    tell(`${error.message} Trying again.`)
    return undefined
  }
}

function outcomeOf(answer: Answer): Outcome | undefined {
  if (answer.status === 200) {
    if (typeof answer.body.id_token !== 'string') throw new Failure('The provider sent tokens without an ID token.')
    return { kind: 'approved', tokens: answer.body as Tokens }
  }
  if (answer.status === 429 || answer.status >= 500) return undefined
  switch (answer.body.error) {
    case 'authorization_pending':
    case 'slow_down':
      return undefined
    case 'access_denied':
      return { kind: 'denied' }
    case 'expired_token':
      return { kind: 'expired' }
    default:
      throw new Refused('The provider issues no tokens', answer)
  }
}

/** Returns the seconds of `Retry-After`, which may be a number or a date (RFC 9110 §10.2.3). */
function retryAfter({ headers }: Answer): number {
  const said = headers.get('retry-after')
  if (said === null) return 0
  const seconds = /^\d+$/.test(said) ? Number(said) : (Date.parse(said) - Date.now()) / 1000
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 3600) : 0
}
