/** What is played with three nodes, how far it has come, and what is counted. */
export interface Play {
  /** At least so many; it goes on until everything has happened. */
  flows: number
  /** Clients that ring at the same time. */
  atOnce: number
  /** How often a node is killed. */
  kills: number
  /** Milliseconds a node is stopped where it is. */
  stopped: number
  /** Seconds a client has to answer a ping or push; leases are two seconds longer. */
  timeout: number
  /** Whether Postgres syncs to disk. */
  durable: boolean
  say(line: string): void
}

/** Nobody may be let down: each is 0, or something is wrong. */
export interface LetDown {
  /** A user was told that their answer counts, and it does not, or the client never learned of it. */
  decisionsLost: number
  /** A ping or push that never arrived, or does not lie in the table as delivered. */
  notificationsLost: number
  /** Tokens were handed out twice for one approval, or are in the table twice. */
  doubleRedemptions: number
  /** An answer 5xx while the database was there, or without Retry-After. */
  wrong5xx: number
  /** Any other answer that no story has. */
  wrongAnswers: number
  /** Servers that ended without having been killed. */
  nodesLost: number
}

export interface Report {
  letDown: LetDown
  facts: Record<string, number>
  /** What was wrong, in words: the first few. */
  complaints: string[]
  /** What the servers logged as errors, and how often. */
  logged: Record<string, number>
  seconds: number
}

export type Json = Record<string, unknown>

export const clientNames = ['kiosk', 'northbank', 'till'] as const
export type ClientName = (typeof clientNames)[number]

export const userNames = Array.from({ length: 200 }, (_, number) => `user${number}`)

/** What became of an attempt whose outcome nobody knows. */
export type Doubt = 'connection lost' | 'no answer in time' | 'answered 503'

export interface Flow {
  number: number
  client: ClientName
  wanted: 'approved' | 'denied'
  requestId: string
  authReqId: string
  /** What became of polls before the decision. They excuse nothing: who has given one up loses nothing by it. */
  givenUp: Doubt[]
}

/** How far the play has come. */
export interface Progress {
  /** Flows begun. */
  begun: number
  /** Flows that came as far as a decision that counts. */
  flows: Flow[]
  /** Requests of clients that keep their interval. */
  patientRings: number
  /** When Postgres was last away, by `performance.now()`. */
  databaseAway?: { from: number; until: number }
  /** Whether everything that was to happen meanwhile has happened. */
  happened: boolean
  failed: boolean
}

export const goesOn = ({ flows }: Play, { failed, begun, happened }: Progress) =>
  !failed && (begun < flows || !happened)

/** What is counted while the play is on, and what was wrong. */
export type Findings = ReturnType<typeof createFindings>

export function createFindings() {
  const letDown: LetDown = {
    decisionsLost: 0,
    notificationsLost: 0,
    doubleRedemptions: 0,
    wrong5xx: 0,
    wrongAnswers: 0,
    nodesLost: 0,
  }
  const facts: Record<string, number> = {}
  const complaints: string[] = []
  return {
    letDown,
    facts,
    complaints,
    count(what: string, many = 1): void {
      facts[what] = (facts[what] ?? 0) + many
    },
    blame(what: keyof LetDown, words: string): void {
      letDown[what] += 1
      if (complaints.length < 20) complaints.push(`${what}: ${words}`)
    },
  }
}
