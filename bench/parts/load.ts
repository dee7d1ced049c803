/**
 * The load generator. It runs in a separate process, so that it does not use the event loop of the measured server.
 *
 * It sends prepared requests over raw sockets. The sockets are kept alive, and each carries one request at a time.
 * Libraries such as undici and tools such as autocannon are not used: they need more CPU time for a request than most
 * of the measured servers need for the response. On a machine with two cores, the server would lack this CPU time. The
 * results include how busy the generator was.
 */
import { createPrivateKey, type JsonWebKey, type KeyObject, randomUUID, sign } from 'node:crypto'
import { ASSERTION_TYPE, authReqIdOf, CIBA, type ClientId, issuer, paths, userOf } from '../cast.ts'
import { type Answer, type Line, openLine, post } from '../line.ts'
import { playPart } from '../part.ts'

export interface Job {
  port: number
  /**
   * A name for the measured server. Jobs with the same name share what earlier jobs have stored, for instance the ids
   * of requests.
   */
  at: string
  play: PollPlay | RingPlay | FlowPlay
  connections: number
  /** The time limit of the job. The job ends earlier if the play has no more operations. */
  seconds: number
  /** The maximum rate. By default, the next request is sent as soon as a response arrives. */
  perSecond?: number
  /** Whether the latency of each operation is returned, and not only percentiles. */
  each?: boolean
  /** Whether unexpected responses are counted instead of ending the run. */
  countsFailures?: boolean
}

/**
 * Polls for `of` requests, in turn. They are selected from the first `among` requests that `fill` has added, at equal
 * distances.
 */
export interface PollPlay {
  kind: 'poll'
  client: ClientId
  of: number
  among: number
  expects: 'authorization_pending' | 'slow_down' | 'invalid_grant'
  /** The number of the first of these requests. Default: 0. */
  from?: number
  /**
   * Whether to poll the requests that an earlier `RingPlay` has made (`remember`), instead of those that `fill` has
   * added.
   */
  remembered?: boolean
  /** The pause in milliseconds between two polls of a request. */
  interval: number
  /** Whether the play ends when every request was polled once. */
  once?: boolean
  /** With `private_key_jwt`: the number of assertions. They are signed before the play begins. */
  assertions?: number
}

/** Sends authentication requests, each about a different user. */
export interface RingPlay {
  kind: 'ring'
  client: ClientId
  /** If set, the play ends after this many requests. Their ids are stored for later polls. */
  remember?: number
}

/** Runs whole flows: request, approval, tokens. */
export interface FlowPlay {
  kind: 'flow'
  client: ClientId
  alg: 'ES256' | 'RS256'
  /** The way in which this server receives a decision. */
  approves: 'device api' | 'bench route'
  /** The number of users, who take turns. Default: each flow has a different user. */
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
  /** The CPU time of the generator, divided by the elapsed time: 1 means one core. */
  busy: number
  /** The number of operations that ended with an unexpected response or without a response. */
  failed: number
  /**
   * Whether the generator had to wait, because all requests had already been polled within the interval. If so, the
   * server could have answered more polls.
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
  /** The ids of the requests that a `RingPlay` has made for later polls. */
  authReqIds: string[]
  /** For each request, the time before which it must not be polled again. */
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
        // The pause is a little longer than the interval, because the server's clock has a resolution of one
        // millisecond.
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

/** Returns an assertion with a new `jti`. Its lifetime is the longest that all measured servers accept. */
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

/** The counts of a running play. */
type Tally = Pick<Played, 'failed' | 'heldBack'> & { latencies: number[] }

/**
 * Runs the operations of a play on the lines. A line begins the next operation when it has finished the previous one
 * and the next one is due. Resolves after the time is over or the play has no more operations, when every operation
 * that has begun has ended.
 */
async function drive(lines: Line[], play: Play, job: Job, tally: Tally): Promise<void> {
  const { port, seconds, perSecond, countsFailures = false } = job
  const { promise: allOver, resolve, reject } = Promise.withResolvers<void>()
  const free = [...lines]
  const begin = performance.now()
  const end = begin + seconds * 1000
  let started = 0
  let isOver = false

  /**
   * Begins the next operation on a line, if one is due. Returns whether an operation has begun.
   *
   * @param lateness whether the time since the operation was due counts as latency: true if all lines were in use
   */
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

  /** Replaces a broken connection. */
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
