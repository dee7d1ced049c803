/** Ringing: the authentication request of CIBA Core §7, and what became of it. */
import { newSecret } from '../../platform/crypto.ts'
import type { Connection } from './connection.ts'
import { type PlayedClient, Refused } from './provider.ts'

/** A request that the provider has taken on. */
export interface Ringing {
  authReqId: string
  /** Seconds. */
  expiresIn: number
  /** Milliseconds since 1970. */
  deadline: number
  /** Seconds between two polls. */
  interval: number
  /** What the provider proves itself with when it calls back. */
  notificationToken: string
}

export type Tokens = Record<string, unknown> & { access_token: string; id_token: string; refresh_token?: string }

export type Outcome = { kind: 'approved'; tokens: Tokens } | { kind: 'denied' } | { kind: 'expired' }

/** @param parameters as they go out; what is undefined is left out */
export async function requestAuthentication(
  connection: Connection,
  mode: PlayedClient['mode'],
  parameters: Record<string, string | undefined>,
): Promise<Ringing> {
  const notificationToken = newSecret()
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) form.set(name, value)
  if (mode !== 'poll') form.set('client_notification_token', notificationToken)

  const answer = await connection.initiate(form)
  if (answer.status !== 200) throw new Refused('The provider refused the request', answer)
  const { auth_req_id: authReqId, expires_in: expiresIn, interval } = answer.body
  return {
    authReqId: String(authReqId),
    expiresIn: Number(expiresIn),
    deadline: Date.now() + Number(expiresIn) * 1000,
    // CIBA Core §7.3: five unless the provider says otherwise.
    interval: Number(interval ?? 5),
    notificationToken,
  }
}
