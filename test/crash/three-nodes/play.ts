/** The settings of a run with three nodes, its progress, and what is counted. */
export interface Play {
  /** The minimum number; the run continues until all disturbances have taken place. */
  flows: number
  /** Clients that send requests at the same time. */
  atOnce: number
  /** How often a node is killed. */
  kills: number
  /** Milliseconds for which a node is stopped (SIGSTOP). */
  stopped: number
  /** Seconds that a client has to answer a ping or push; leases are two seconds longer. */
  timeout: number
  /** Whether Postgres syncs to disk. */
  durable: boolean
  say(line: string): void
}

/** Broken guarantees: each must be 0. */
export interface LetDown {
  /** A decision was acknowledged to the user but is not stored, or the client never received it. */
  decisionsLost: number
  /** A ping or push that never arrived, or is not stored as delivered. */
  notificationsLost: number
  /** Tokens were issued twice for one approval, or are stored twice. */
  doubleRedemptions: number
  /** A 5xx while the database was reachable, or without Retry-After. */
  wrong5xx: number
  /** Any other unexpected response. */
  wrongAnswers: number
  /** Servers that ended without being killed. */
  nodesLost: number
}

export interface Report {
  letDown: LetDown
  facts: Record<string, number>
  /** Descriptions of the first faults. */
  complaints: string[]
  /** The errors in the logs of the servers, and how often each occurred. */
  logged: Record<string, number>
  seconds: number
}

export type Json = Record<string, unknown>

export const clientNames = ['kiosk', 'northbank', 'till'] as const
export type ClientName = (typeof clientNames)[number]

export const userNames = Array.from({ length: 200 }, (_, number) => `user${number}`)

/** Why the outcome of an attempt is unknown. */
export type Doubt = 'connection lost' | 'no answer in time' | 'answered 503'

export interface Flow {
  number: number
  client: ClientName
  wanted: 'approved' | 'denied'
  requestId: string
  authReqId: string
  /**
   * Unknown outcomes of polls before the decision. They excuse no missing tokens: a lost poll before the decision loses
   * none.
   */
  givenUp: Doubt[]
}

/** The progress of the run. */
export interface Progress {
  /** Flows begun. */
  begun: number
  /** Flows with an acknowledged decision. */
  flows: Flow[]
  /** Requests of clients that keep their interval. */
  patientRings: number
  /** When Postgres was last unreachable, by `performance.now()`. */
  databaseAway?: { from: number; until: number }
  /** Whether all disturbances have taken place. */
  happened: boolean
  failed: boolean
}

export const goesOn = ({ flows }: Play, { failed, begun, happened }: Progress) =>
  !failed && (begun < flows || !happened)

/** Counts events during the run, and collects faults. */
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
