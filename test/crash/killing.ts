/**
 * A response can be relied on, even if the process is killed: it is killed fifty times between a decision and its
 * delivery, and in the end every client has been notified of the decision.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Value } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Engine } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { type ServerProcess, startServer } from '../support/process.ts'
import { CIBA, castConfig, credentials, newNotificationToken } from '../support/stage.ts'
import { until } from '../support/until.ts'

const kills = Number(process.env.DOORBELL_TEST_KILLS ?? 50)
/** A start takes three seconds, and longer on a busy machine. */
const timeout = kills * 12_000

/** A request whose client is notified, and what the test expects of it. */
interface NotifiedRequest {
  client: 'northbank' | 'till'
  authReqId: string
  requestId: string
  notificationToken: string
  wanted: 'approved' | 'denied'
}

interface Call {
  text: string
  authorization: string | undefined
  answered: number
}

/** By `auth_req_id`, in the order of arrival. */
type Calls = Map<string, Call[]>

type Read = <Row extends Record<string, Value>>(sql: string) => Promise<Row[]>

type Json = Record<string, unknown>

export function killedAndStopped(engine: Engine): void {
  describe(`a process on ${engine.name}`, () => {
    test(`is killed ${kills} times around decisions, and no acknowledged decision is lost`, { timeout }, async (t) => {
      const world = await open(t, engine)
      let server = await world.start()
      t.after(() => server.kill())
      const all: NotifiedRequest[] = []
      const count = { decidedBeforeDelivery: 0, afterDelivery: 0, answerLostButDecided: 0, answerLostAndPending: 0 }

      for (let round = 0; round < kills; round++) {
        const both = await Promise.all([world.sendRequest('northbank'), world.sendRequest('till')])
        all.push(...both)
        const answers = both.map((one) => world.decide(one).catch(() => undefined))
        // In every second round the user has already received the response.
        if (round % 2) await Promise.all(answers)
        await pause(Math.random() * 15)
        await server.kill()

        const known = await Promise.all(answers)
        const called = both.map(({ authReqId }) => world.calls.has(authReqId))
        server = await world.start()
        for (const [index, one] of both.entries()) {
          const answered = known[index]?.status === 200
          const status = await world.statusOf(one)
          const stands = status === one.wanted || (status === 'redeemed' && one.client === 'till')
          assert.ok(stands || (!answered && status === 'pending'), `${one.wanted}, answered ${answered}, is ${status}`)
          // Not stored at all: it can be decided again. Stored completely: it cannot.
          if (!answered) assert.equal((await world.decide(one)).status, stands ? 409 : 200)
          if (!answered) count[stands ? 'answerLostButDecided' : 'answerLostAndPending'] += 1
          if (stands) count[called[index] ? 'afterDelivery' : 'decidedBeforeDelivery'] += 1
        }
      }
      t.diagnostic(`${kills} kills, ${all.length} decisions: ${JSON.stringify(count)}`)
      if (kills >= 50) assert.ok(count.decidedBeforeDelivery >= 5, `the test bites: ${JSON.stringify(count)}`)

      await world.everybodyTold(all)
      for (const one of all) await world.provesRight(one)
      await world.nothingLeftToSend()
      const { code } = await server.terminate()
      assert.equal(code, 0)
      await world.tablesAgree(all)
      const again = [...world.calls.values()].filter((calls) => calls.length > 1).length
      t.diagnostic(`${world.calls.size} clients told, ${again} of them more than once, each time the same`)
    })

    test('is stopped during work: it ends within ten seconds, and nothing is lost or left leased', async (t) => {
      const world = await open(t, engine, { slow: 200 })
      let server = await world.start()
      t.after(() => server.kill())
      const decided: NotifiedRequest[] = []
      let stopping = false

      async function load(): Promise<void> {
        while (!stopping) {
          const one = await world.sendRequest(decided.length % 2 ? 'till' : 'northbank').catch(() => undefined)
          const answer = one && (await world.decide(one).catch(() => undefined))
          if (answer?.status === 200) decided.push(one!)
        }
      }
      const loads = Array.from({ length: 8 }, load)
      await until(() => decided.length >= 40)
      const { code, took } = await server.terminate()
      stopping = true
      await Promise.all(loads)
      assert.equal(code, 0)
      assert.ok(took < 10_000, `it took ${took} ms`)
      const states = await world.read('select state, count(*) as many from notifications group by state')
      t.diagnostic(`${decided.length} decisions, stopped in ${Math.round(took)} ms, ${JSON.stringify(states)}`)
      assert.deepEqual(await world.read("select * from notifications where state = 'sending' or lease is not null"), [])

      server = await world.start()
      await world.everybodyTold(decided)
      for (const one of decided) await world.provesRight(one)
      assert.equal((await server.terminate()).code, 0)
    })
  })
}

async function open(t: TestContext, engine: Engine, { slow = 0 } = {}) {
  const { url: database, drop } = await engine.fresh({ mayHaveTables: true })
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-crash-'))
  t.after(async () => {
    await drop()
    await rm(folder, { recursive: true, force: true })
  })
  const { calls, notify } = await openClientsEndpoint(t, slow)

  const port = await freePort()
  const configFile = join(folder, 'doorbell.config.json')
  const settings = { notifications: { timeout: 1, attempts: 50 }, requests: { maxOpenPerUser: 1000 } }
  const config = castConfig(port, database, { northbank: notify, till: notify, config: settings })
  await writeFile(configFile, JSON.stringify(config))

  const server = callServer(`http://localhost:${port}`)
  const read: Read = async (sql) => {
    const opened = await openDatabase(database, { log: createLog('silent'), clock: systemClock })
    try {
      return await opened.read(sql)
    } finally {
      await opened.close()
    }
  }
  return {
    calls,
    read,
    start: (): Promise<ServerProcess> => startServer(configFile),
    ...server,
    ...whatMustHold({ calls, server, read }),
  }
}

/** Starts the notification endpoint of both clients, which records calls by request. */
async function openClientsEndpoint(t: TestContext, slow: number): Promise<{ calls: Calls; notify: string }> {
  const calls: Calls = new Map()
  const endpoint = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const { auth_req_id: id } = JSON.parse(text) as { auth_req_id: string }
    const before = calls.get(id) ?? []
    // Sometimes the first call is answered with 500 and must be retried.
    const answered = before.length === 0 && Math.random() < 0.3 ? 500 : 204
    calls.set(id, [...before, { text, authorization: request.headers.authorization, answered }])
    if (slow > 0) await pause(Math.random() * slow)
    response.writeHead(answered).end()
  })
  await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    endpoint.closeAllConnections()
    endpoint.close()
  })
  return { calls, notify: `http://localhost:${(endpoint.address() as AddressInfo).port}/notify` }
}

/** The server as seen by its clients, Ana's phone and a service. */
function callServer(url: string) {
  async function post(path: string, form: Record<string, string>, authorization: string) {
    const response = await fetch(url + path, {
      method: 'POST',
      headers: { authorization },
      body: new URLSearchParams(form),
    })
    return { status: response.status, body: (await response.json()) as Json }
  }

  async function described(authReqId: string): Promise<Json> {
    const asked = { login_hint: 'ana', auth_req_id: authReqId }
    const { body } = await post('/backchannel/authinfo', asked, credentials.phoneService)
    return (body.requests as Json[])[0]!
  }

  return {
    async sendRequest(client: NotifiedRequest['client']): Promise<NotifiedRequest> {
      const notificationToken = newNotificationToken()
      const form = { scope: 'openid', login_hint: 'ana', client_notification_token: notificationToken }
      const { status, body } = await post('/backchannel/authorize', form, credentials[client])
      assert.equal(status, 200)
      const authReqId = String(body.auth_req_id)
      const requestId = String((await described(authReqId)).request_id)
      return { client, authReqId, requestId, notificationToken, wanted: Math.random() < 0.75 ? 'approved' : 'denied' }
    },
    decide: ({ requestId, wanted }: NotifiedRequest) =>
      post(
        '/backchannel/complete',
        { login_hint: 'ana', request_id: requestId, status: wanted },
        credentials.phoneService,
      ),
    statusOf: async ({ authReqId }: NotifiedRequest) => (await described(authReqId)).status,
    poll: ({ client, authReqId }: NotifiedRequest) =>
      post('/oauth/token', { grant_type: CIBA, auth_req_id: authReqId }, credentials[client]),
    async userOf(accessToken: unknown): Promise<unknown> {
      const response = await fetch(`${url}/oauth/userinfo`, { headers: { authorization: `Bearer ${accessToken}` } })
      return ((await response.json()) as Json).sub
    },
  }
}

interface Witnesses {
  calls: Calls
  server: ReturnType<typeof callServer>
  read: Read
}

/** What must hold in the end, whatever happened to the server. */
function whatMustHold({ calls, server: { poll, userOf }, read }: Witnesses) {
  return {
    async everybodyTold(all: NotifiedRequest[]): Promise<void> {
      const untold = () =>
        all.filter(({ authReqId }) => !calls.get(authReqId)?.some(({ answered }) => answered === 204))
      await until(() => untold().length === 0, 90_000).catch(() => {})
      assert.deepEqual(untold(), [], 'every client is notified')
    },

    /**
     * A kill may have prevented the report of a delivery. Then the message is sent and reported again after its lease.
     */
    async nothingLeftToSend(): Promise<void> {
      const left = "select id from notifications where state in ('waiting', 'sending') and kind in ('ping', 'push')"
      await until(async () => (await read(left)).length === 0, 60_000)
    },

    /** The client was notified of the stored outcome, and its tokens work. */
    async provesRight(one: NotifiedRequest): Promise<void> {
      const told = calls.get(one.authReqId)!
      for (const { text, authorization } of told) {
        assert.equal(text, told[0]!.text, 'every attempt says the same')
        assert.equal(authorization, `Bearer ${one.notificationToken}`)
      }
      const said = JSON.parse(told[0]!.text) as Json
      if (one.client === 'northbank') {
        assert.deepEqual(said, { auth_req_id: one.authReqId })
        const [first, second] = [await poll(one), await poll(one)]
        if (one.wanted === 'denied') assert.equal(first.body.error, 'access_denied')
        else {
          assert.equal(first.status, 200)
          assert.equal(second.body.error, 'invalid_grant')
          assert.equal(await userOf(first.body.access_token), 'user-ana')
        }
      } else if (one.wanted === 'denied') assert.equal(said.error, 'access_denied')
      else assert.equal(await userOf(said.access_token), 'user-ana')
    },

    async tablesAgree(all: NotifiedRequest[]): Promise<void> {
      const history = await read<{ request_id: string; outcome: string }>(
        'select request_id, outcome from backchannel_auth_consent_history order by request_id',
      )
      const facts = all.map(({ requestId, wanted }) => ({ request_id: requestId, outcome: wanted }))
      assert.deepEqual(
        history,
        facts.sort((a, b) => (a.request_id < b.request_id ? -1 : 1)),
      )
      const letters = await read("select kind, subject, state from notifications where kind in ('ping', 'push')")
      assert.equal(letters.length, all.length, 'one notification for each decision')
      assert.deepEqual(new Set(letters.map(({ state }) => state)), new Set(['delivered']))
    },
  }
}
