/**
 * Three servers on one Postgres, each a process of its own, with clocks that are two seconds apart. Clients ring at one,
 * users decide at another, clients ask a third; meanwhile nodes are killed and stopped, Postgres goes away, and
 * announcements are cut off. In the end it is counted who was let down.
 */
import { randomInt } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client, Pool } from 'pg'
import { Agent, request } from 'undici'
import { freePort } from '../cast/ports.ts'
import { startRestartablePostgres } from '../cast/postgres.ts'
import { type ServerProcess, startServer } from '../cast/process.ts'
import { CIBA, castConfig, credentials, newNotificationToken } from '../cast/stage.ts'
import { until } from '../cast/until.ts'

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

const clientNames = ['kiosk', 'northbank', 'till'] as const
type ClientName = (typeof clientNames)[number]

/** Milliseconds that the clocks of the nodes are ahead. */
const clocks = [-1000, 0, 1000]
const nodeOrders = [
  [0, 1, 2],
  [1, 2, 0],
  [2, 0, 1],
  [0, 2, 1],
  [2, 1, 0],
  [1, 0, 2],
] as const
const userNames = Array.from({ length: 200 }, (_, number) => `user${number}`)

type Json = Record<string, unknown>

interface Answer {
  status: number
  body: Json
  /** What became of earlier attempts whose outcome nobody knows: the connection broke, nobody answered, or a 503. */
  doubts: Doubt[]
}

type Doubt = 'connection lost' | 'no answer in time' | 'answered 503'

interface Flow {
  number: number
  client: ClientName
  wanted: 'approved' | 'denied'
  requestId: string
  authReqId: string
  /** What became of polls before the decision. They excuse nothing: who has given one up loses nothing by it. */
  givenUp: Doubt[]
}

interface Node {
  number: number
  port: number
  process: ServerProcess
  /** A balancer sends nobody here before this. */
  awayUntil: number
}

/** Resolves when all flows are over and everything has been counted. */
export async function playThreeNodes(play: Play): Promise<Report> {
  const end: (() => Promise<unknown>)[] = []
  try {
    return await playWith(play, end)
  } finally {
    for (const each of end.reverse()) await each().catch(() => {})
  }
}

async function playWith(play: Play, end: (() => Promise<unknown>)[]): Promise<Report> {
  const begin = performance.now()
  const letDown = {
    decisionsLost: 0,
    notificationsLost: 0,
    doubleRedemptions: 0,
    wrong5xx: 0,
    wrongAnswers: 0,
    nodesLost: 0,
  }
  const facts: Record<string, number> = {}
  const complaints: string[] = []
  const count = (what: string, many = 1) => {
    facts[what] = (facts[what] ?? 0) + many
  }
  const blame = (what: keyof LetDown, words: string) => {
    letDown[what] += 1
    if (complaints.length < 20) complaints.push(`${what}: ${words}`)
  }

  const postgres = await startRestartablePostgres({ durable: play.durable })
  end.push(postgres.stop)
  const clientsEnd = await openClientsEnd()
  end.push(clientsEnd.close)
  const cluster = await openCluster(play, postgres.url, clientsEnd.url)
  end.push(cluster.close)
  const { nodes } = cluster
  let databaseAway: { from: number; until: number } | undefined
  const flows: Flow[] = []
  let begun = 0
  let patientRings = 0
  let happened = false
  let failed = false

  // With more than sixteen under way each of the nodes has some: none has more than four for each of two clients.
  const manyCalls = Math.min(play.atOnce - 1, 18)
  const goesOn = () => !failed && (begun < play.flows || !happened)

  // ── the client's and the user's side: what a balancer and a sensible client do ──

  async function ask(first: number, path: string, form: Record<string, string>, authorization: string) {
    const doubts: Doubt[] = []
    const deadline = performance.now() + 120_000
    for (let turn = 0; !failed && performance.now() < deadline; turn++) {
      const node = chooseNode(first + turn)
      const sentAt = performance.now()
      const answer = await cluster.send(node, path, form, authorization).catch((error: Error) => {
        node.awayUntil = performance.now() + 500
        doubts.push(/timeout|aborted/i.test(`${error.name} ${error.message}`) ? 'no answer in time' : 'connection lost')
        count(`attempts without an answer: ${doubts.at(-1)}`)
      })
      if (answer === undefined) continue
      if (answer.status < 500) return { ...answer, doubts } satisfies Answer
      count(`answers ${answer.status}`)
      const isExcused =
        databaseAway !== undefined && sentAt <= databaseAway.until && performance.now() >= databaseAway.from
      if (answer.status !== 503 || !answer.retryAfter || !isExcused) {
        blame('wrong5xx', `${path} at node ${node.number}: ${answer.status} ${JSON.stringify(answer.body)}`)
      }
      doubts.push('answered 503')
      await pause(100)
    }
    throw new Error(`nobody answers ${path}`)
  }

  function chooseNode(number: number): Node {
    const inTurn = [0, 1, 2].map((step) => nodes[(number + step) % 3]!)
    return inTurn.find(({ awayUntil }) => awayUntil < performance.now()) ?? inTurn[0]!
  }

  async function playFlow(number: number): Promise<void> {
    const client = clientNames[number % 3]!
    const [ringsAt, decidesAt, asksAt] = nodeOrders[Math.floor(number / 3) % nodeOrders.length]!
    const user = userNames[randomInt(userNames.length)]!
    const wanted = randomInt(100) < 85 ? 'approved' : 'denied'

    const bearer = newNotificationToken()
    const ring = { scope: 'openid', login_hint: user, client_notification_token: bearer }
    const rung = await ask(ringsAt, '/backchannel/authorize', ring, credentials[client])
    if (rung.status !== 200) return blame('wrongAnswers', `a ring: ${rung.status} ${JSON.stringify(rung.body)}`)
    const authReqId = String(rung.body.auth_req_id)
    if (client !== 'kiosk') clientsEnd.expect(authReqId, bearer)

    const look = { login_hint: user, auth_req_id: authReqId }
    const seen = await ask(decidesAt, '/backchannel/authinfo', look, credentials.phoneService)
    const requestId = (seen.body.requests as Json[] | undefined)?.[0]?.request_id
    if (typeof requestId !== 'string') return blame('wrongAnswers', `the user sees ${JSON.stringify(seen.body)}`)
    const flow: Flow = { number, client, wanted, requestId, authReqId, givenUp: [] }
    if (client !== 'till') {
      const poll = await ask(asksAt, '/oauth/token', pollOf(flow), credentials[client])
      flow.givenUp.push(...poll.doubts)
      const isEarly = poll.body.error === 'slow_down' && poll.doubts.length > 0
      if (poll.body.error !== 'authorization_pending' && !isEarly)
        blame('wrongAnswers', `a first poll: ${poll.status} ${JSON.stringify(poll.body)}`)
    }

    const decision = { login_hint: user, request_id: requestId, status: wanted }
    const decided = await ask(decidesAt, '/backchannel/complete', decision, credentials.phoneService)
    const stands = decided.status === 200 || (decided.status === 409 && decided.doubts.length > 0)
    if (!stands) return blame('wrongAnswers', `a decision: ${decided.status} ${JSON.stringify(decided.body)}`)
    flows.push(flow)
    count(wanted)

    if (client !== 'kiosk') {
      const told = await clientsEnd.told(authReqId, 60_000).catch(() => undefined)
      if (told === undefined) return blame('notificationsLost', `${client} is not told of ${requestId}`)
      if (client === 'till') return checkPush(flow, told)
    }
    await collect(flow, asksAt, ringsAt)
  }

  /** Two nodes are asked at the same time: of an approval, one of them has the tokens. */
  async function collect(flow: Flow, ...at: [number, number]): Promise<void> {
    const { client, wanted, requestId, givenUp } = flow
    const doubts: Doubt[] = []
    const deadline = performance.now() + 20_000
    let heard: unknown[] = []
    while (performance.now() < deadline) {
      const answers = await Promise.all(at.map((node) => ask(node, '/oauth/token', pollOf(flow), credentials[client])))
      for (const answer of answers) doubts.push(...answer.doubts)
      heard = answers.map(({ status, body }) => [status, body.error, body.error_description])
      const tokens = answers.filter(({ status }) => status === 200)
      const errors = new Set(answers.map(({ body }) => body.error))
      if (tokens.length > 1) return blame('doubleRedemptions', requestId)
      if (wanted === 'denied' && errors.has('access_denied')) return
      if (tokens.length === 1 && wanted === 'approved') {
        const [{ access_token: token }] = [tokens[0]!.body]
        const third = 3 - at[0] - at[1]
        const again = await ask(third, '/oauth/token', pollOf(flow), credentials[client])
        if (again.status === 200) blame('doubleRedemptions', requestId)
        if (flow.number % 10 === 0) await checkToken(third, String(token))
        return
      }
      if (errors.has('invalid_grant')) {
        // Redeemed, and the answer died on its way: with its node, or with a caller that had waited long enough.
        if (doubts.length > 0) return count(`answers with tokens lost: ${[...new Set(doubts)].join(', ')}`)
        break
      }
      if (!errors.has('authorization_pending') && !errors.has('slow_down')) break
      count('polls that heard of a decision later than its user')
      await pause(100)
    }
    const instead = JSON.stringify({ heard, givenUp })
    blame('decisionsLost', `${client} does not learn that ${requestId} was ${wanted}: ${instead}`)
  }

  async function checkToken(node: number, token: string): Promise<void> {
    const { status } = await ask(node, '/oauth/userinfo', { access_token: token }, '')
    if (status !== 200) blame('wrongAnswers', `userinfo: ${status}`)
  }

  function checkPush({ wanted, requestId }: Flow, body: Json): void {
    const isRight = wanted === 'denied' ? body.error === 'access_denied' : typeof body.access_token === 'string'
    if (!isRight) blame('decisionsLost', `till was told ${Object.keys(body)} of ${requestId}, ${wanted}`)
  }

  /** Polls in turn at all nodes, never before its interval is over, and nobody ever decides. */
  async function waitPatiently(number: number): Promise<void> {
    const order = nodeOrders[number]!
    const ring = { scope: 'openid', login_hint: userNames[number]! }
    const rung = await ask(order[0], '/backchannel/authorize', ring, credentials.kiosk)
    patientRings += 1
    const poll = { grant_type: CIBA, auth_req_id: String(rung.body.auth_req_id) }
    let interval = Number(rung.body.interval)
    for (let turn = 1; goesOn(); turn++) {
      const { body, doubts } = await ask(order[turn % 3]!, '/oauth/token', poll, credentials.kiosk)
      if (body.error === 'expired_token') return waitPatiently(number)
      count('polls by clients that keep their interval')
      if (body.error === 'slow_down') {
        interval += 5
        if (doubts.length === 0) count('slow_down to clients that keep their interval')
      } else if (body.error !== 'authorization_pending')
        blame('wrongAnswers', `a patient poll: ${JSON.stringify(body)}`)
      for (let left = interval * 1000 + 50; left > 0 && goesOn(); left -= 250) await pause(250)
    }
  }

  async function load(): Promise<void> {
    while (goesOn()) {
      begun += 1
      await playFlow(begun - 1).catch((error: unknown) => blame('wrongAnswers', String(error)))
    }
  }

  // ── what happens meanwhile ──

  async function announcementsCut(): Promise<void> {
    const client = new Client(postgres.url)
    await client.connect()
    for (let time = 0; time < 3; time++) {
      const { rowCount } = await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where application_name = 'doorbell' and query in ('listen doorbell', 'select 1')`,
      )
      count('LISTEN connections terminated', rowCount ?? 0)
      await pause(500)
    }
    await client.end()
  }

  async function nodeKilled(): Promise<void> {
    const node = nodes[0]!
    let wasFelt = false
    // The calls that wait may all be other nodes': then it is killed once more.
    for (let time = 0; time < play.kills || (!wasFelt && time < play.kills + 5); time++) {
      await clientsEnd.holds(manyCalls)
      const before = clientsEnd.cutOff
      await node.process.kill()
      // Its connections are seen to be gone, before the others are answered.
      await pause(100)
      clientsEnd.release()
      await pause(1000)
      count('nodes killed')
      count('calls to clients cut off by a kill', clientsEnd.cutOff - before)
      wasFelt ||= clientsEnd.cutOff > before
      await cluster.start(node)
    }
  }

  const postgresRestarted = (how: 'told' | 'crashed') => async () => {
    const from = performance.now()
    databaseAway = { from, until: Number.POSITIVE_INFINITY }
    await postgres.end(how)
    await pause(1000)
    await postgres.start()
    databaseAway = { from, until: performance.now() }
    count(`Postgres ${how === 'told' ? 'restarted' : 'crashed and started again'}`)
  }

  async function nodeStopped(): Promise<void> {
    const node = nodes[1]!
    await clientsEnd.holds(manyCalls)
    node.process.pause()
    clientsEnd.release()
    await pause(play.stopped)
    node.process.goOn()
    count('nodes stopped for a while')
    await until(() => cluster.isUp(node), 10_000).catch(() => blame('nodesLost', `node ${node.number} is not back`))
  }

  async function disturb(): Promise<void> {
    const happenings = {
      'announcements are cut off': announcementsCut,
      'a node is killed': nodeKilled,
      'Postgres is restarted': postgresRestarted('told'),
      'Postgres crashes': postgresRestarted('crashed'),
      'a node is stopped': nodeStopped,
    }
    const entries = Object.entries(happenings)
    for (const [index, [name, happens]] of entries.entries()) {
      await until(() => begun >= (play.flows * (index + 1)) / (entries.length + 2), 1_200_000)
      play.say(`${begun} flows begun: ${name}`)
      await happens()
      await pause(1000)
    }
    happened = true
  }

  await Promise.all([
    disturb().catch((error: unknown) => {
      failed = true
      play.say(JSON.stringify({ letDown, facts, complaints, logged: cluster.logged() }, null, 2))
      throw error
    }),
    ...Array.from({ length: play.atOnce }, load),
    ...nodeOrders.map((_, number) => waitPatiently(number)),
  ])
  play.say(`${begun} flows begun: all are over`)
  for (const node of nodes) {
    if (!(await cluster.isUp(node))) blame('nodesLost', `node ${node.number} is gone`)
  }
  await countTables()
  count('flows', begun)
  count('clients told more than once', clientsEnd.repeated())
  for (const words of clientsEnd.complaints) blame('doubleRedemptions', words)
  return { letDown, facts, complaints, logged: cluster.logged(), seconds: (performance.now() - begin) / 1000 }

  /** What the tables say of it. */
  async function countTables(): Promise<void> {
    const pool = new Pool({ connectionString: postgres.url, max: 1 })
    try {
      const unsent = `select count(*)::int as many from notifications where state in ('waiting', 'sending')`
      await until(async () => (await pool.query(unsent)).rows[0].many === 0, 60_000).catch(() => {})
      const { rows } = await pool.query(
        `select id, status,
           (select string_agg(outcome, ' ') from backchannel_auth_consent_history where request_id = r.id) as outcomes,
           (select count(*)::int from oidc_models where model = 'AccessToken' and request_id = r.id) as tokens,
           (select string_agg(state, ' ') from notifications
            where subject = r.id and kind in ('ping', 'push')) as letters
         from backchannel_auth_requests r`,
      )
      const byId = new Map(rows.map((row) => [row.id as string, row]))
      for (const { requestId, wanted, client } of flows) {
        const { status, outcomes, tokens, letters } = byId.get(requestId) ?? {}
        const should =
          wanted === 'denied' || client === 'till' ? { denied: 'denied', approved: 'redeemed' }[wanted] : 'redeemed'
        if (status !== should || outcomes !== wanted) blame('decisionsLost', `${requestId}: ${status}, ${outcomes}`)
        if (tokens > 1) blame('doubleRedemptions', `${requestId} has ${tokens} access tokens`)
        if (wanted === 'approved' && tokens === 0) blame('decisionsLost', `${requestId} has no access token`)
        if (letters !== (client === 'kiosk' ? null : 'delivered'))
          blame('notificationsLost', `${requestId}: ${letters}`)
      }
      const more = await pool.query(
        `select count(*) filter (where attempts > 1)::int as again, count(*) filter (where state = 'parked')::int as parked
         from notifications where kind in ('ping', 'push')`,
      )
      count('notifications that took more than one attempt', more.rows[0].again)
      count('notifications parked', more.rows[0].parked)
      count('rings whose answer was lost', rows.length - begun - patientRings)
    } finally {
      await pool.end()
    }
  }
}

const pollOf = ({ authReqId }: Flow) => ({ grant_type: CIBA, auth_req_id: authReqId })

async function openCluster(play: Play, database: string, notify: string) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-nodes-'))
  const configFile = join(folder, 'doorbell.config.json')
  // The issuer is the balancer's address: nobody listens there.
  const issuerPort = await freePort()
  const users = userNames.map((name) => ({ id: `id-${name}`, username: name, email: `${name}@example.com` }))
  const config = castConfig(issuerPort, database, {
    northbank: notify,
    till: notify,
    config: {
      logLevel: 'error',
      users,
      issuer: `http://localhost:${issuerPort}`,
      notifications: { timeout: play.timeout, attempts: 50 },
      // Tokens that have run out are deleted, and could not be counted in the end.
      tokens: { accessTtl: 86_400 },
    },
  })
  await writeFile(configFile, JSON.stringify({ ...config, port: issuerPort + 1 }))
  const agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0 })
  /** Milliseconds a balancer waits for an answer. */
  const patience = 3000
  const nodes: Node[] = []
  const past: string[] = []

  async function isUp({ port }: Pick<Node, 'port'>): Promise<boolean> {
    const asked = request(`http://127.0.0.1:${port}/health/ready`, {
      dispatcher: agent,
      signal: AbortSignal.timeout(1000),
    })
    const status = await asked.then(
      async ({ statusCode, body }) => {
        await body.dump()
        return statusCode
      },
      () => 0,
    )
    return status === 200
  }

  const launch = ({ port, number }: Pick<Node, 'port' | 'number'>) =>
    startServer(configFile, { port, clockAhead: clocks[number]!, isUp: () => isUp({ port }) })

  for (const number of [0, 1, 2]) {
    const port = await freePort()
    nodes.push({ number, port, process: await launch({ port, number }), awayUntil: 0 })
  }

  return {
    nodes,
    isUp,
    async start(node: Node): Promise<void> {
      past.push(...node.process.logLines)
      node.process = await launch(node)
    },
    logged(): Record<string, number> {
      const many: Record<string, number> = {}
      for (const line of [...past, ...nodes.flatMap((node) => node.process.logLines)]) {
        const { msg, event, error } = parse(line) as { msg?: string; event?: string; error?: Record<string, unknown> }
        const words = [event ?? msg ?? line, error?.message].filter(Boolean).join(': ')
        many[words] = (many[words] ?? 0) + 1
      }
      return many
    },
    async send({ port }: Node, path: string, form: Record<string, string>, authorization: string) {
      const { statusCode, headers, body } = await request(`http://127.0.0.1:${port}${path}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(authorization !== '' && { authorization }),
        },
        body: String(new URLSearchParams(form)),
        dispatcher: agent,
        signal: AbortSignal.timeout(patience),
      })
      const text = await body.text()
      return { status: statusCode, retryAfter: headers['retry-after'], body: parse(text) }
    },
    async close(): Promise<void> {
      for (const { process } of nodes) {
        process.goOn()
        await process.kill()
      }
      await agent.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch {
    return {}
  }
}

/** Where clients are called back. Can keep its callers waiting. */
async function openClientsEnd() {
  const expected = new Map<
    string,
    { bearer: string; heard: PromiseWithResolvers<Json>; texts: Set<string>; calls: number }
  >()
  const complaints: string[] = []
  const held = new Set<ServerResponse>()
  let holding = false
  let cutOff = 0

  const server = createServer(async (incoming, response) => {
    let text = ''
    for await (const chunk of incoming) text += chunk
    const { auth_req_id: id } = JSON.parse(text) as { auth_req_id: string }
    const one = expected.get(id)
    if (one === undefined) return void response.writeHead(404).end()
    one.calls += 1
    one.texts.add(text)
    if (incoming.headers.authorization !== `Bearer ${one.bearer}`) complaints.push(`a wrong bearer for ${id}`)
    // Every attempt says the same: another text of a push would be other tokens.
    if (one.texts.size > 1) complaints.push(`two texts for one request`)
    response.once('close', () => {
      held.delete(response)
      if (!response.writableFinished) cutOff += 1
    })
    if (holding) {
      held.add(response)
      return
    }
    // Now and then the first call is answered 500, and has to be made again.
    if (one.calls === 1 && randomInt(20) === 0) return void response.writeHead(500).end()
    response.writeHead(204).end()
    one.heard.resolve(JSON.parse(text) as Json)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/notify`,
    complaints,
    get cutOff() {
      return cutOff
    },
    expect(id: string, bearer: string): void {
      expected.set(id, { bearer, heard: Promise.withResolvers(), texts: new Set(), calls: 0 })
    },
    told(id: string, patience: number): Promise<Json> {
      const { promise } = expected.get(id)!.heard
      const late = pause(patience, undefined, { ref: false }).then(() => Promise.reject(new Error('not told')))
      return Promise.race([promise, late])
    },
    repeated: () => [...expected.values()].filter(({ calls }) => calls > 1).length,
    /** From now on nobody is answered; resolves when so many wait. */
    async holds(many: number): Promise<void> {
      holding = true
      await until(() => held.size >= many, 20_000)
    },
    /** Nobody waits any longer, and nobody was heard: they are told that it failed. */
    release(): void {
      holding = false
      for (const response of held) response.writeHead(503).end()
    },
    async close(): Promise<void> {
      server.closeAllConnections()
      server.close()
    },
  }
}
