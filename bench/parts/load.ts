/**
 * The load generator: a process of its own, so that it does not use the event loop of the server that it measures.
 *
 * Raw sockets with prepared requests, kept alive, each with one request at a time: on a machine with two cores the
 * generator takes CPU time from the server, and tools such as autocannon or undici use more of it than most servers
 * here need for a response. The results include how busy it was.
 */
import { createPrivateKey, type JsonWebKey, type KeyObject, randomUUID, sign } from 'node:crypto'
import { ASSERTION_TYPE, authReqIdOf, CIBA, type ClientId, issuer, paths, userOf } from '../cast.ts'
import { type Answer, type Line, openLine, post } from '../line.ts'
import { playPart } from '../part.ts'

export interface Job {
  port: number
  /** The server: what one job remembers for it, later jobs can use. */
  at: string
  play: PollPlay | RingPlay | FlowPlay
  connections: number
  /** The job ends after this time, or earlier when the play has no more operations. */
  seconds: number
  /** The rate, at most; by default as fast as responses arrive. */
  perSecond?: number
  /** Whether each latency is returned, and not only their percentiles. */
  each?: boolean
  /** Whether unexpected responses are counted instead of ending the run. */
  countsFailures?: boolean
}

/** Polls, each for another request: `of` of the requests that the server was filled with, evenly among `among`. */
export interface PollPlay {
  kind: 'poll'
  client: ClientId
  of: number
  among: number
  expects: 'authorization_pending' | 'slow_down' | 'invalid_grant'
  /** The number of the first of them. Default: 0. */
  from?: number
  /**
   * Whether they are the requests that an earlier play made and remembered, instead of those the server was filled
   * with.
   */
  remembered?: boolean
  /** The pause in milliseconds between two polls of a request. */
  interval: number
  /** Ends when every request was polled once. */
  once?: boolean
  /** With `private_key_jwt`: the number of assertions that are signed before it begins. */
  assertions?: number
}

/** Authentication requests, each about another user. */
export interface RingPlay {
  kind: 'ring'
  client: ClientId
  /** This many are made and remembered for later polls; then it ends. */
  remember?: number
}

/** Whole flows: request, approval, tokens. */
export interface FlowPlay {
  kind: 'flow'
  client: ClientId
  alg: 'ES256' | 'RS256'
  /** How this server receives a decision. */
  approves: 'device api' | 'bench route'
  /** The number of users, used in turns. Default: another user for each flow. */
  users?: number
}

export interface Played {
  operations: number
  seconds: number
  /** Milliseconds. */
  p50: number
  p99: number
  most: number
  latencies?: number[]
  /** Share of one core that the generator used: 1 is one core. */
  busy: number
  /** Operations that ended with an unexpected response, or none. */
  failed: number
  /**
   * Whether it had to wait because all requests had been polled within the interval: the server could have done more.
   */
  heldBack: boolean
}

/** One request of an operation. Throws at an unexpected response, or returns the next request. */
interface Move {
  text: string
  follows(answer: Answer): Move | undefined
}

/** Returns the next operation, 'wait' if there will be one later, or undefined if there are no more. */
type Play = () => Move | 'wait' | undefined

playPart(async ({ assertionKey }: { assertionKey: JsonWebKey }) => {
  const memory = new Map<string, Memory>()
  const signingKey = createPrivateKey({ key: assertionKey, format: 'jwk' })
  return {
    port: 0,
    answers: {
      async run(job: Job): Promise<Played> {
        const remembered = memory.get(job.at) ?? { next: 0, authReqIds: [], restingUntil: new Float64Array(0) }
        memory.set(job.at, remembered)
        return run(job, preparePlay(job.play, remembered, signingKey))
      },
    },
    close: async () => {},
  }
})

interface Memory {
  next: number
  /** The requests that were made to be polled. */
  authReqIds: string[]
  /** The time before which each request is not polled again. */
  restingUntil: Float64Array
}

function preparePlay(play: Job['play'], memory: Memory, key: KeyObject): Play {
  switch (play.kind) {
    case 'poll':
      return pollPlay(play, memory, key)
    case 'ring':
      return ringPlay(play, memory)
    case 'flow':
      return () => flow(play, memory.next++)
  }
}

function ringPlay({ client, remember }: RingPlay, memory: Memory): Play {
  if (remember === undefined) return () => ring(client, memory.next++)
  let left = remember
  const keep = (authReqId: string) => {
    memory.authReqIds.push(authReqId)
    return undefined
  }
  return () => (left-- > 0 ? ring(client, memory.next++, keep) : undefined)
}

function pollPlay(
  { client, of, among, from = 0, remembered, expects, interval, once, assertions }: PollPlay,
  memory: Memory,
  key: KeyObject,
) {
  if (memory.restingUntil.length !== of) memory.restingUntil = new Float64Array(of)
  const { restingUntil } = memory
  const stride = Math.max(1, Math.floor(among / of))
  const grant = encodeURIComponent(CIBA)
  const forms = Array.from({ length: of }, (_, index) => {
    const number = from + index * stride
    return `grant_type=${grant}&auth_req_id=${remembered ? memory.authReqIds[number] : authReqIdOf(number)}`
  })
  const proofs = assertions === undefined ? undefined : Array.from({ length: assertions }, () => assert(client, key))
  const expected = `"error":"${expects}"`
  let left = once ? of : Number.POSITIVE_INFINITY

  return (): Move | 'wait' | undefined => {
    if (left <= 0 || proofs?.length === 0) return undefined
    const index = memory.next % of
    if (restingUntil[index]! > Date.now()) return 'wait'
    left--
    memory.next++
    const text = proofs ? post(paths.token, `${forms[index]}${proofs.pop()}`) : post(paths.token, forms[index]!, client)
    return {
      text,
      follows(answer) {
        if (answer.status !== 400 || !answer.body.includes(expected)) throw unexpected(expects, answer)
        // The server's clock has a resolution of one millisecond.
        if (interval > 0) restingUntil[index] = Date.now() + interval + 2
        return undefined
      },
    }
  }
}

function ring(client: ClientId, number: number, then?: (authReqId: string) => Move | undefined): Move {
  const form = `scope=openid&login_hint=${userOf(number)}&binding_message=Coffee+4.20`
  return {
    text: post(paths.ring, form, client),
    follows(answer) {
      const authReqId = answer.status === 200 ? (JSON.parse(answer.body) as { auth_req_id?: string }).auth_req_id : ''
      if (!authReqId) throw unexpected('auth_req_id', answer)
      return then?.(authReqId)
    },
  }
}

function flow({ client, alg, approves, users = Number.POSITIVE_INFINITY }: FlowPlay, count: number): Move {
  const number = count % users
  const redeem = (authReqId: string): Move => ({
    text: post(paths.token, `grant_type=${encodeURIComponent(CIBA)}&auth_req_id=${authReqId}`, client),
    follows(answer) {
      const tokens = answer.status === 200 ? (JSON.parse(answer.body) as Record<string, unknown>) : {}
      const header = Buffer.from(String(tokens.id_token).split('.')[0]!, 'base64url').toString()
      if (!tokens.access_token || !header.includes(`"alg":"${alg}"`)) throw unexpected(`tokens with ${alg}`, answer)
      if (tokens.refresh_token) throw unexpected('no refresh token', answer)
      return undefined
    },
  })
  return ring(client, number, (authReqId) => ({
    text:
      approves === 'bench route'
        ? post(paths.approve, `auth_req_id=${authReqId}`)
        : post(
            '/backchannel/complete',
            `auth_req_id=${authReqId}&login_hint=${userOf(number)}&status=approved`,
            'phone-service',
          ),
    follows(answer) {
      if (answer.status !== 200 || !answer.body.includes('"status":"approved"')) throw unexpected('approved', answer)
      return redeem(authReqId)
    },
  }))
}

/** Returns an assertion, valid once and for as long as the strictest server accepts. */
function assert(client: ClientId, key: KeyObject): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: client, sub: client, aud: issuer, jti: randomUUID(), iat: now, exp: now + 290 }
  const signed = `${encode({ alg: 'ES256', kid: 'assertion' })}.${encode(claims)}`
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')
  return `&client_assertion_type=${encodeURIComponent(ASSERTION_TYPE)}&client_assertion=${signed}.${signature}`
}

function unexpected(expected: string, { status, body }: Answer): Error {
  return new Error(`expected ${expected}, but was answered ${status} ${body.slice(0, 300)}`)
}

async function run(job: Job, play: Play): Promise<Played> {
  const lines = await Promise.all(Array.from({ length: job.connections }, () => openLine(job.port)))
  const tally: Tally = { latencies: [], failed: 0, heldBack: false }
  const cpuBefore = process.cpuUsage()
  const begin = performance.now()
  try {
    await drive(lines, play, job, tally)
  } finally {
    for (const line of lines) line.close()
  }
  const tookMs = performance.now() - begin
  const cpu = process.cpuUsage(cpuBefore)
  const latencies = tally.latencies.sort((one, other) => one - other)
  const at = (share: number) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0
  return {
    operations: latencies.length,
    seconds: tookMs / 1000,
    p50: at(0.5),
    p99: at(0.99),
    most: at(1),
    ...(job.each && { latencies }),
    failed: tally.failed,
    busy: (cpu.user + cpu.system) / 1000 / tookMs,
    heldBack: tally.heldBack,
  }
}

/** Counted during a play. */
type Tally = Pick<Played, 'failed' | 'heldBack'> & { latencies: number[] }

/**
 * Each line begins the next operation when it has finished one, or when one is due. Resolves when the time is over or
 * the play has no more operations, and every begun operation has ended.
 */
async function drive(lines: Line[], play: Play, job: Job, tally: Tally): Promise<void> {
  const { port, seconds, perSecond, countsFailures = false } = job
  const { promise: allOver, resolve, reject } = Promise.withResolvers<void>()
  const free = [...lines]
  const begin = performance.now()
  const end = begin + seconds * 1000
  let started = 0
  let isOver = false

  /** @param lateness whether a late start counts: it does if all lines were in use */
  function begins(line: Line, lateness: boolean): boolean {
    const now = performance.now()
    const dueAt = perSecond === undefined ? now : begin + (started / perSecond) * 1000
    isOver ||= now >= end
    if (isOver || dueAt > now) return false
    const move = play()
    if (move === 'wait') tally.heldBack = true
    if (move === undefined) isOver = true
    if (move === undefined || move === 'wait') return false
    started++
    carryOut(line, move, lateness ? dueAt : now)
    return true
  }

  function carryOut(line: Line, move: Move, since: number): void {
    line.send(move.text, (answer) => {
      try {
        if (answer instanceof Error) throw answer
        const next = move.follows(answer)
        if (next !== undefined) return carryOut(line, next, since)
        tally.latencies.push(performance.now() - since)
      } catch (error) {
        if (!countsFailures) return reject(error)
        tally.failed++
      }
      if (answer instanceof Error) replace(line)
      else goOn(line)
    })
  }

  function goOn(line: Line): void {
    if (!begins(line, true)) free.push(line)
    if (isOver && free.length === lines.length) resolve()
  }

  /** A broken connection is replaced. */
  function replace(line: Line): void {
    openLine(port).then((opened) => {
      line.close()
      lines[lines.indexOf(line)] = opened
      goOn(opened)
    }, reject)
  }

  function useFreeLines(): void {
    for (let line = free.pop(); line !== undefined; line = free.pop()) {
      if (begins(line, false)) continue
      free.push(line)
      break
    }
    if (isOver && free.length === lines.length) resolve()
  }

  useFreeLines()
  const wake = setInterval(useFreeLines, 1)
  try {
    await allOver
  } finally {
    clearInterval(wake)
  }
}
