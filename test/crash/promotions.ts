/**
 * Two servers on a primary with a synchronous standby. Under load of requests, decisions and redemptions the primary
 * fails at a random moment, and the standby is promoted. Then it is counted what was answered with 200 and is missing,
 * and what was issued twice.
 */
import { createHash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { freePort } from '../support/ports.ts'
import { ask, type PrimaryEnd, startPostgresPair } from '../support/postgres-pair.ts'
import { CIBA, castConfig, credentials } from '../support/stage.ts'
import { until } from '../support/until.ts'

export interface PromotionPlay {
  promotions: number
  /** The number of concurrent flows. */
  atOnce: number
  say(line: string): void
}

export interface PromotionReport {
  /** Answered with 200, but missing on the new primary. */
  missing: string[]
  /** Tokens of one approval that were issued twice, or stored twice. */
  doubled: string[]
  /** Any other response that a client must not get. */
  wrong: string[]
  facts: Record<string, number>
  seconds: number
}

interface Answer {
  status: number
  retryAfter: string | null
  body: Record<string, unknown>
}

/** One authentication request, and its progress as clients and users were told it. */
interface Flow {
  authReqId: string
  isDecided: boolean
  /** How often tokens were issued. */
  redeemed: number
  /** How often a response was 503 where one could have been tokens. */
  unknown: number
}

const ends: PrimaryEnd[] = ['killed', 'crashed', 'cut off', 'stopped']

export async function playPromotions({ promotions, atOnce, say }: PromotionPlay): Promise<PromotionReport> {
  const begin = performance.now()
  const pair = await startPostgresPair()
  const nodes: { url: string; close(): Promise<void> }[] = []
  try {
    await pair.setSynchronous(true)
    const port = await freePort()
    for (const each of [port, await freePort()]) nodes.push(await openNode(each, pair.url, `http://localhost:${port}`))
    const load = startLoad(nodes.map(({ url }) => url))
    for (let round = 0; round < promotions; round++) {
      load.begin(atOnce)
      const before = load.done
      await until(() => load.done >= before + atOnce, 60_000)
      await pause(Math.random() * 300)
      const how = ends[round % ends.length]!
      await pair.endPrimary(how)
      await pair.promote()
      pair.lead()
      load.count(`primary ${how}`)
      await pair.addStandby()
      await pair.setSynchronous(true)
      await ask(pair.primary, 'create table if not exists everything_before_is_on_the_standby ()')
      await load.end()
      await load.verify(pair.primary)
      say(`promotion ${round + 1}, ${how}: ${JSON.stringify(load.facts)}`)
    }
    const { missing, doubled, wrong, facts } = load
    return { missing, doubled, wrong, facts, seconds: (performance.now() - begin) / 1000 }
  } finally {
    await Promise.all(nodes.map((node) => node.close()))
    await pair.stop()
  }
}

async function openNode(port: number, database: string, issuer: string) {
  const overrides = castConfig(port, database, {
    config: { issuer, requests: { interval: 1 } },
  })
  const config = await loadConfig({ env: {}, overrides })
  const doorbell = await createDoorbell(config, { migrate: true, log: createLog('silent') })
  await doorbell.listen()
  return { url: `http://localhost:${port}`, close: () => doorbell.close() }
}

/** What is found during the run. */
type Findings = Omit<PromotionReport, 'seconds'> & { count(what: string): void }

function createFindings(): Findings {
  const facts: Record<string, number> = {}
  const count = (what: string) => {
    facts[what] = (facts[what] ?? 0) + 1
  }
  return { missing: [], doubled: [], wrong: [], facts, count }
}

/** Runs this many flows at the same time, each followed by the next. */
function startLoad(urls: string[]) {
  const findings = createFindings()
  const flows = new Set<Flow>()
  const play = createPlay(callNodes(urls, findings), findings, flows)
  let running: Promise<unknown> = Promise.resolve()
  let isOver = true
  let done = 0

  async function playOn(number: number): Promise<void> {
    for (let turn = number; !isOver; turn++) if (await play(turn)) done += 1
  }

  return {
    ...findings,
    /** The number of finished flows. */
    get done() {
      return done
    },
    begin(atOnce: number): void {
      isOver = false
      running = Promise.all(Array.from({ length: atOnce }, (_, number) => playOn(number)))
    },
    /** Resolves when every flow has finished. */
    async end(): Promise<void> {
      isOver = true
      await running
    },
    /** Compares all flows since the last verification with the tables. */
    async verify(url: string): Promise<void> {
      await verify(url, flows, findings)
      flows.clear()
    },
  }
}

/** Sends the calls of clients and devices to the nodes. Records 5xx responses that no client should get. */
function callNodes(urls: string[], { wrong, count }: Findings) {
  async function post(
    node: number,
    path: string,
    form: Record<string, string>,
    authorization: string,
  ): Promise<Answer> {
    const body = new URLSearchParams(form)
    const response = await fetch(urls[node]! + path, { method: 'POST', headers: { authorization }, body })
    const answer = {
      status: response.status,
      retryAfter: response.headers.get('retry-after'),
      body: (await response.json()) as Record<string, unknown>,
    }
    count(`answers ${answer.status}`)
    if (answer.status >= 500 && (answer.status !== 503 || answer.retryAfter === null)) {
      wrong.push(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    }
    return answer
  }

  const kiosk = (node: number, path: string, form: Record<string, string>) => post(node, path, form, credentials.kiosk)

  return {
    ring: (node: number) => kiosk(node, '/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }),
    device: (node: number, path: string, form: Record<string, string>) =>
      post(node, path, { login_hint: 'ana', ...form }, credentials.phoneService),
    pollAll: (authReqId: string) =>
      Promise.all(urls.map((_, node) => kiosk(node, '/oauth/token', { grant_type: CIBA, auth_req_id: authReqId }))),
  }
}

/** Repeats the call while the response is 503. */
async function insist(call: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await call()
    if (answer.status !== 503) return answer
    await pause(50)
  }
}

/** Runs one flow, from the request to the tokens. Resolves to whether it finished. */
function createPlay({ ring, device, pollAll }: ReturnType<typeof callNodes>, findings: Findings, flows: Set<Flow>) {
  const { missing, wrong, count } = findings

  /** Polls both nodes at the same time. */
  async function collect(flow: Flow): Promise<void> {
    for (let attempt = 0; attempt < 40; attempt++) {
      const polls = await pollAll(flow.authReqId)
      flow.redeemed += polls.filter(({ status }) => status === 200).length
      if (polls.some(({ status }) => status === 503)) flow.unknown += 1
      if (flow.redeemed > 0) return
      if (polls.some(({ body }) => body.error === 'invalid_grant')) {
        count(flow.unknown > 0 ? 'tokens that were not received, after a 503' : 'tokens that were not received')
        if (flow.unknown === 0) wrong.push(`tokens were gone without a 503: ${JSON.stringify(polls)}`)
        return
      }
      await pause(polls.some(({ status }) => status === 503) ? 50 : 1000)
    }
    missing.push(`a decision that was answered 200: its client never got tokens (${flow.isDecided})`)
  }

  return async (number: number): Promise<boolean> => {
    const [one, other] = [number % 2, (number + 1) % 2]
    // Not repeated: after a 503 the client does not know the outcome, and may send a new request.
    const { status, body } = await ring(one)
    if (status !== 200) {
      await pause(50)
      return false
    }
    const flow: Flow = { authReqId: String(body.auth_req_id), isDecided: false, redeemed: 0, unknown: 0 }
    flows.add(flow)
    const shown = await insist(() => device(other, '/backchannel/authinfo', { auth_req_id: flow.authReqId }))
    const [request] = (shown.body.requests ?? []) as { request_id: string }[]
    if (!request) {
      missing.push(`a request that was answered 200: ${JSON.stringify(shown)}`)
      return false
    }
    const decision = { request_id: request.request_id, status: 'approved' }
    const decided = await insist(() => device(other, '/backchannel/complete', decision))
    flow.isDecided = decided.status === 200
    if (!flow.isDecided) count(`decisions sent again: ${decided.status}`)
    await collect(flow)
    return true
  }
}

async function verify(url: string, flows: Set<Flow>, { missing, doubled, count }: Findings): Promise<void> {
  const rows = await ask(url, requestsAndTokens)
  const found = new Map(rows.map((row) => [row.hash, row]))
  for (const { authReqId, isDecided, redeemed } of flows) {
    count('requests verified')
    const row = found.get(hashOf(authReqId))
    if (!row) missing.push('a request')
    else if (redeemed > 0 && row.status !== 'redeemed') missing.push(`tokens: the request is ${row.status}`)
    else if (isDecided && row.status === 'pending') missing.push('a decision')
    if (redeemed > 1) doubled.push(`tokens were issued ${redeemed} times`)
    if (Number(row?.tokens ?? 0) > 1) doubled.push(`${row!.tokens} access tokens are stored for one approval`)
  }
}

const requestsAndTokens = `
  select auth_req_id_hash as hash, status,
    (select count(*) from oidc_models where request_id = requests.id and model = 'AccessToken') as tokens
  from backchannel_auth_requests as requests`

const hashOf = (authReqId: string) => createHash('sha256').update(authReqId).digest('base64url')
