/** Sends an authentication request (CIBA Core §7), and defines the possible outcomes of the request. */
import { steadyTime, systemClock } from '../../platform/clock.ts'
import { Failure } from '../context/failure.ts'
import type { Connection } from './connection.ts'
import { type PlayedClient, Refused } from './provider.ts'

/** A request that the provider has acknowledged. */
export interface StartedRequest {
  authReqId: string
  /** How long the request is valid, in seconds. */
  expiresIn: number
  /** When the request expires, in monotonic milliseconds of this process (`steadyTime`). */
  deadline: number
  /** Seconds between two polls. */
  interval: number
}

export type Tokens = Record<string, unknown> & { access_token: string; id_token: string; refresh_token?: string }

export type Outcome = { kind: 'approved'; tokens: Tokens } | { kind: 'denied' } | { kind: 'expired' }

/**
 * Sends an authentication request. Throws `Refused` if the provider answers with an error. Throws `Failure` if `mode`
 * is push but the client is registered for another mode, because no push would ever arrive.
 *
 * @param notificationToken the bearer token that the provider sends with a ping or push (CIBA Core §7.1); not sent by a
 *   client that polls
 * @param parameters the parameters of the request; a parameter with the value undefined is not sent
 */
export async function requestAuthentication(
  connection: Connection,
  mode: PlayedClient['mode'],
  notificationToken: string,
  parameters: Record<string, string | undefined>,
): Promise<StartedRequest> {
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) form.set(name, value)
  if (mode !== 'poll') form.set('client_notification_token', notificationToken)

  const answer = await connection.initiate(form)
  if (answer.status !== 200) throw new Refused('The provider refused the request', answer)
  const { auth_req_id: authReqId, expires_in: expiresIn, interval } = answer.body
  // CIBA Core §7.3: a provider sends `interval` only to clients in the modes poll and ping. So this client is not
  // registered for push.
  if (mode === 'push' && interval !== undefined) {
    throw new Failure('This client is registered for poll or ping, not for push. Use --mode poll or --mode ping.')
  }
  return {
    authReqId: String(authReqId),
    expiresIn: Number(expiresIn),
    deadline: steadyTime(systemClock) + Number(expiresIn) * 1000,
    // CIBA Core §7.3: the default interval is 5 seconds.
    interval: Number(interval ?? 5),
  }
}
