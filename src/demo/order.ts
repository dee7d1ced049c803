/** An order at the demo's till, and the till's display. */

export const modes = ['poll', 'ping', 'push'] as const

export type Mode = (typeof modes)[number]

/** The client that sends the authentication request in each delivery mode. */
export const clientOf: Readonly<Record<Mode, string>> = { poll: 'demo-till', ping: 'demo-shop', push: 'demo-bank' }

export interface Order {
  mode: Mode
  item: string
  amount: string
}

/** The till's display. */
export interface Display extends Order {
  /** The number of the purchase. The first purchase after the start of the server has the number 1. */
  number: number
  status: 'ringing' | 'waiting' | 'paid' | 'refused' | 'expired' | 'failed'
  /** The reason for the status; empty if the status needs no explanation. */
  detail: string
  /** Seconds until the request expires; 0 in every status except `waiting`. */
  secondsLeft: number
  /** Claims of the verified ID token. */
  claims: [name: string, value: string][]
}

/** A ping or push that /dev/callback has received. */
export interface ReceivedCallBack {
  /** The name in /dev/callback/:name. */
  name: string
  authorization: string | undefined
  contentType: string | undefined
  body: string
  /** The status of the response. */
  status: number
}
