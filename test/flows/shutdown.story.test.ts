/**
 * The shutdown of a server. Readiness ends first, so that load balancers send calls to other servers. No call is left
 * without an answer.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import type { UserHooks } from '../../src/user/user.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { ana, ben, CIBA, credentials, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { openVisitor } from '../support/visitor.ts'

interface Heard {
  status: number
  connection: string | undefined
  retryAfter: string | undefined
  body: Record<string, unknown>
}

interface Call {
  path: string
  form?: Record<string, string>
  authorization?: string
}

function send(url: string, { path, form, authorization = credentials.kiosk }: Call, agent: Agent | false = false) {
  return new Promise<Heard>((resolve, reject) => {
    const headers = form && { 'content-type': 'application/x-www-form-urlencoded', authorization }
    const request = agent instanceof TlsAgent ? tlsRequest : httpRequest
    const sent = request(url + path, { method: form ? 'POST' : 'GET', agent, headers }, (answer) =>
      read(answer).then(resolve, reject),
    )
    sent.on('error', reject).end(form && String(new URLSearchParams(form)))
  })
}

async function read(answer: IncomingMessage): Promise<Heard> {
  let text = ''
  for await (const chunk of answer) text += chunk
  const { connection, 'retry-after': retryAfter } = answer.headers
  const isJson = answer.headers['content-type']?.startsWith('application/json')
  return { status: answer.statusCode ?? 0, connection, retryAfter, body: isJson ? JSON.parse(text) : { text } }
}

/** Opens one connection, which stays open. */
function keptConnection(t: TestContext): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  return agent
}

const authenticationRequest: Call = { path: '/backchannel/authorize', form: { scope: 'openid', login_hint: 'ana' } }
const poll = (id: unknown): Call => ({ path: '/oauth/token', form: { grant_type: CIBA, auth_req_id: String(id) } })
const refresh: Call = { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'x' } }

/** Opens a server on which the look-up of a user waits at the gate. */
async function openAtGate<Opened extends Stage>(
  t: TestContext,
  options: StageOptions,
  open: (t: TestContext, options: StageOptions) => Promise<Opened>,
) {
  const gate = createGate()
  const people = [ana, ben]
  const users: UserHooks = {
    find: async (id) => people.find((one) => one.id === id) ?? null,
    async findByHint({ value }) {
      await gate.pass()
      return people.find(({ username }) => username === value) ?? null
    },
  }
  t.after(() => gate.release())
  const stage = await open(t, { ...options, config: { users, ...options.config } })
  return { gate, stage }
}

async function isListening({ url }: Stage): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

for (const engine of engines) {
  describe(`shutdown with a delay, on ${engine.name}`, () => {
    test('readiness ends at once; everything is served until the delay is over, each call as the last of its connection', async (t) => {
      const stage = await openStage(t, { engine })
      const kept = keptConnection(t)
      assert.equal((await send(stage.url, authenticationRequest, kept)).connection, 'keep-alive')
      assert.equal((await send(stage.url, { path: '/health/ready' })).status, 200)

      let over = false
      const closed = stage.doorbell.close({ delay: 5 }).then(() => {
        over = true
      })
      const ready = await send(stage.url, { path: '/health/ready' })
      assert.deepEqual([ready.status, ready.body.status, ready.body.server], [503, 'not ready', 'ending'])
      assert.ok(ready.retryAfter)
      assert.equal((await send(stage.url, { path: '/health/live' })).status, 200)
      // Calls are answered on the connection from before, and on new connections.
      const response = await send(stage.url, authenticationRequest, kept)
      assert.deepEqual([response.status, response.connection], [200, 'close'])
      const polled = await send(stage.url, poll(response.body.auth_req_id), keptConnection(t))
      assert.deepEqual([polled.status, polled.body.error, polled.connection], [400, 'authorization_pending', 'close'])
      // oidc-provider writes the answer to the refresh. The answer to the early poll is precomputed.
      for (const call of [refresh, poll(response.body.auth_req_id), { path: '/oauth/jwks' }, { path: '/nothing' }]) {
        assert.equal((await send(stage.url, call, keptConnection(t))).connection, 'close', call.path)
      }
      stage.clock.advance(4_999)
      assert.equal((await send(stage.url, authenticationRequest)).status, 200)
      assert.equal(over, false)
      stage.clock.advance(1)
      await closed
      assert.equal(await isListening(stage), false)
    })

    test('calls in work are answered at the end, whatever else arrives on their connection', async (t) => {
      const { gate, stage } = await openAtGate(t, { engine }, openStage)
      gate.hold()
      const kept = keptConnection(t)
      const waiting = send(stage.url, authenticationRequest, kept)
      await gate.waiting(1)
      // This call waits for the same connection.
      const next = send(stage.url, { path: '/oauth/jwks' }, kept).catch((error: Error) => error)
      const closed = stage.doorbell.close()
      gate.release()
      const { status, connection, body } = await waiting
      assert.deepEqual([status, connection], [200, 'close'])
      assert.ok(body.auth_req_id)
      const after = await next
      if (after instanceof Error) assert.match(after.message, /ECONNREFUSED/, 'refused, not cut off')
      await closed
    })
  })
}

const unlimited: StageOptions['config'] = {
  requests: { maxOpenPerUser: 100 },
  limits: { perUser: { perMinute: 100 }, perClientAndUser: { open: 100, perMinute: 100 } },
}

test('with TLS too, calls in work are answered at the end, each as the last of its connection', async (t) => {
  const { gate, stage } = await openAtGate(t, { config: unlimited }, openTlsStage)
  const kept = Array.from({ length: 12 }, () => new TlsAgent({ keepAlive: true, ca: stage.authority.cert }))
  t.after(() => {
    for (const agent of kept) agent.destroy()
  })
  for (const agent of kept)
    assert.equal((await send(stage.url, { path: '/health/live' }, agent)).connection, 'keep-alive')
  gate.hold()
  // Six calls use existing connections, and six use new connections.
  const agents = kept.map((agent, n) => (n < 6 ? agent : new TlsAgent({ ca: stage.authority.cert })))
  const waiting = agents.map((agent) => send(stage.url, authenticationRequest, agent))
  await gate.waiting(agents.length)
  const closed = stage.doorbell.close()
  gate.release()
  for (const { status, connection } of await Promise.all(waiting))
    assert.deepEqual([status, connection], [200, 'close'])
  await closed
})

describe('during the delay', () => {
  test('closing again without one ends it at once', async (t) => {
    const stage = await openStage(t)
    const closed = stage.doorbell.close({ delay: 300 })
    assert.equal((await send(stage.url, authenticationRequest)).status, 200)
    await Promise.all([stage.doorbell.close(), closed])
    assert.equal(await isListening(stage), false)
  })

  test('held polls are answered at once, and no more are held', async (t) => {
    const stage = await openStage(t, { config: { requests: { longPoll: 25 } } })
    const { body } = await send(stage.url, authenticationRequest)
    const held = send(stage.url, poll(body.auth_req_id), keptConnection(t))
    while (!(await stage.get('/metrics')).text.includes('doorbell_polls_held 1')) await new Promise(setImmediate)
    const closed = stage.doorbell.close({ delay: 5 })
    const answer = await held
    assert.deepEqual([answer.status, answer.body.error, answer.connection], [400, 'authorization_pending', 'close'])
    const other = await send(stage.url, authenticationRequest)
    assert.equal((await send(stage.url, poll(other.body.auth_req_id))).body.error, 'authorization_pending')
    stage.clock.advance(5_000)
    await closed
  })

  test('pages that listen are told to reconnect soon, and their stream ends cleanly', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const stream = await fetch(`${stage.url}/events`, { headers: { cookie } })
    assert.equal(stream.status, 200)
    const closed = stage.doorbell.close({ delay: 5 })
    stage.clock.advance(5_000)
    assert.match(await stream.text(), /^retry: \d+\n\n/)
    await closed
  })
})

describe('shutdown within another server', () => {
  test('calls in work are completed, and later calls are told to retry', async (t) => {
    const { gate, stage } = await openAtGate(t, {}, openStage)
    const host = createServer(stage.doorbell.handler).listen(0, '127.0.0.1')
    t.after(() => host.close())
    await once(host, 'listening')
    const url = `http://127.0.0.1:${(host.address() as AddressInfo).port}`
    gate.hold()
    const waiting = send(url, authenticationRequest)
    await gate.waiting(1)
    const closed = stage.doorbell.close()
    gate.release()
    assert.equal((await waiting).status, 200)
    await closed
    for (const call of [authenticationRequest, { path: '/health/ready' }]) {
      const { status, retryAfter, connection, body } = await send(url, call, keptConnection(t))
      assert.deepEqual([status, retryAfter, connection], [503, '1', 'close'])
      assert.equal(body.error, 'temporarily_unavailable')
    }
  })
})
