/** What is ordered at the demo's till, and what its display shows of it. */

export const modes = ['poll', 'ping', 'push'] as const

export type Mode = (typeof modes)[number]

/** The client that rings in each mode. */
export const clientOf: Readonly<Record<Mode, string>> = { poll: 'demo-till', ping: 'demo-shop', push: 'demo-bank' }

export interface Order {
  mode: Mode
  item: string
  amount: string
}

/** What the till's display shows. */
export interface Display extends Order {
  /** Counts the rings since the start. */
  number: number
  status: 'ringing' | 'waiting' | 'paid' | 'refused' | 'expired' | 'failed'
  /** Why, where the status does not say it. */
  detail: string
  /** While it waits. */
  secondsLeft: number
  /** What the ID token says, its signature checked. */
  claims: [name: string, value: string][]
}

export interface ReceivedCallBack {
  /** The name in /dev/callback/:name. */
  name: string
  authorization: string | undefined
  contentType: string | undefined
  body: string
  /** What it was answered. */
  status: number
}
