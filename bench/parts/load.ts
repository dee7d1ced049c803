/**
 * The load generator: a process of its own, so that it takes no turn of the event loop from the server it measures.
 *
 * Raw sockets with prepared requests, kept alive, each with one request at a time: on a machine with two cores every
 * microsecond that the generator takes is missing elsewhere, and tools such as autocannon or undici take more of them
 * than most servers here need for an answer. How busy it was is part of the results.
 */
import { createPrivateKey, type JsonWebKey, type KeyObject, randomUUID, sign } from 'node:crypto'
import { ASSERTION_TYPE, authReqIdOf, CIBA, type ClientId, issuer, paths, userOf } from '../cast.ts'
import { type Answer, type Line, openLine, post } from '../line.ts'
import { playPart } from '../part.ts'

export interface Job {
  port: number
  /** What is remembered from one job to the next is remembered for this: a server. */
  at: string
  play: PollPlay | RingPlay | FlowPlay
  connections: number
  /** It ends after this, or earlier when the play has nothing left. */
  seconds: number
  /** So many a second and no more; else as fast as answers come. */
  perSecond?: number
  /** Whether each latency is told, and not only what they come to. */
  each?: boolean
  /** Whether answers that are not the expected ones are counted instead of ending the run. */
  countsFailures?: boolean
}

/** Polls, each of another request: of `of` of those that the server was filled with, evenly among `among`. */
export interface PollPlay {
  kind: 'poll'
  client: ClientId
  of: number
  among: number
  expects: 'authorization_pending' | 'slow_down' | 'invalid_grant'
  /** The number of the first of them; 0 unless told. */
  from?: number
  /** Whether they are those that a play before has made and remembered, instead of those the server was filled with. */
  remembered?: boolean
  /** Milliseconds that a request is left alone after it was polled. */
  interval: number
  /** Ends when every request was polled once. */
  once?: boolean
  /** With `private_key_jwt`: so many assertions are signed before it begins. */
  assertions?: number
}

/** Authentication requests, each about another user. */
export interface RingPlay {
  kind: 'ring'
  client: ClientId
  /** So many are made and remembered for the polls that follow; then it ends. */
  remember?: number
}

/** Ring, approve, redeem. */
export interface FlowPlay {
  kind: 'flow'
  client: ClientId
  alg: 'ES256' | 'RS256'
  /** How this server is told of a decision. */
  approves: 'device api' | 'bench route'
  /** So many users, again and again; each flow is about another one unless told. */
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
  /** Share of one core that the generator used, 0 to 1 and beyond. */
  busy: number
  /** Operations that ended with another answer than the expected one, or none. */
  failed: number
  /** Whether it had to wait because every request had been polled too lately: the server could have done more. */
  heldBack: boolean
}

/** One request of an operation. It complains about an answer that is not the expected one, or says what comes next. */
interface Move {
  text: string
  follows(answer: Answer): Move | undefined
}

/** The next operation, 'wait' when there will be one later, or nothing any more. */
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
  /** Of requests that were made to be polled. */
  authReqIds: string[]
  /** By request: before this it is not polled again. */
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
        // The server's clock shows whole milliseconds.
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

/** Good once, for as long as the strictest server lets it be. */
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

/** What is counted while a play is on. */
type Tally = Pick<Played, 'failed' | 'heldBack'> & { latencies: number[] }

/**
 * Every line takes the next operation as soon as it has finished one, or as soon as one is due. Resolves when the time
 * is over or the play has nothing left, and every operation that was begun has ended.
 */
async function drive(lines: Line[], play: Play, job: Job, tally: Tally): Promise<void> {
  const { port, seconds, perSecond, countsFailures = false } = job
  const { promise: allOver, resolve, reject } = Promise.withResolvers<void>()
  const free = [...lines]
  const begin = performance.now()
  const end = begin + seconds * 1000
  let started = 0
  let isOver = false

  /** @param lateness whether a late start counts: it does when every line was taken */
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

  /** A connection that broke takes no other operation. */
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
