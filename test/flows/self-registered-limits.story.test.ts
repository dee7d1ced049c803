/**
 * A client that registered itself asks about users that it invents, while the server hides which users exist. The
 * limits for each user do not restrict it. Therefore it has additional limits, which apply by default.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { auditOf } from '../support/audit.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { type Answer, ana, basic, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { assertTooMuch, minute } from './limited-requests.ts'
import { calls, poll } from './registration-calls.ts'

/** The defaults, in docs/configuration.md. */
const defaults = { open: 100, perMinute: 60 }

/**
 * An application without user codes. With user codes, half of the invented users would have a code that the client does
 * not know.
 */
const users: ConfigInput['users'] = {
  find: async (id) => (id === ana.id ? ana : null),
  findByHint: async ({ value }) => (value === 'ana' ? ana : null),
}

const pretending = {
  users,
  registration: { mode: 'open', perHour: 1000 },
  requests: { unknownUsers: 'pretend' },
  proxy: { trust: ['127.0.0.1', '::1'] },
} satisfies ConfigInput

for (const engine of engines) {
  describe(`a client that registered itself, on ${engine.name}`, () => {
    test('stores no more requests than its limits, whatever users it invents, from many networks, at all nodes at once', async (t) => {
      const { stage, flood, inventor } = await flooded(t, engine)
      const times = 10 * defaults.perMinute
      const answers = await flood(times)
      assert.equal(await countRequests(stage, inventor.id), defaults.perMinute)
      assert.equal(answers.filter(({ status }) => status === 200).length, defaults.perMinute)
      for (const answer of answers.filter(({ status }) => status !== 200)) assertTooMuch(answer)
      const reached = auditOf(stage, 'limit.reached')
      assert.equal(reached.length, times - defaults.perMinute)
      assert.ok(reached.every(({ outcome, client }) => outcome === 'perClient.perMinute' && client === inventor.id))

      // In the next minute, the client first reaches the limit of its open requests: 60 + 40.
      stage.clock.advance(minute)
      for (const answer of (await flood(times)).filter(({ status }) => status !== 200)) assertTooMuch(answer)
      assert.equal(await countRequests(stage, inventor.id), defaults.open)
      stage.clock.advance(minute)
      await flood(defaults.perMinute)
      assert.equal(await countRequests(stage, inventor.id), defaults.open, 'open requests still count a minute later')
    })

    test('gets the same answer about an existing user as about an invented one, even when a limit is reached', async (t) => {
      const { stage, sendRequest } = await inventing(t, { limits: { perSelfRegisteredClient: { open: 1 } } }, engine)
      assert.equal((await sendRequest(stage.url, 'zoe')).status, 200)
      const answers = [await sendRequest(stage.url, 'yara'), await sendRequest(stage.url, 'ana')]
      for (const answer of answers) assertTooMuch(answer, 60)
      assert.deepEqual(answers[0]!.body, answers[1]!.body)
    })
  })
}

describe('the limits of clients that registered themselves', () => {
  /** Resolves to how many of ten requests at the same time are stored. */
  async function storedOfTen(t: TestContext, limits: NonNullable<ConfigInput['limits']>) {
    const { stage, sendRequest, inventor } = await inventing(t, { limits })
    await Promise.all(Array.from({ length: 10 }, (_, number) => sendRequest(stage.url, `invented-${number}`)))
    return countRequests(stage, inventor.id)
  }
  const cases: [string, NonNullable<ConfigInput['limits']>, number][] = [
    ['can be set: open requests', { perSelfRegisteredClient: { open: 3 } }, 3],
    ['can be set: requests within a minute', { perSelfRegisteredClient: { perMinute: 4 } }, 4],
    ['can be switched off with 0', { perSelfRegisteredClient: { open: 0, perMinute: 0 } }, 10],
    ['do not replace a stricter limit for all clients', { perClient: { open: 2, perMinute: 5 } }, 2],
    ['also apply below a limit for all clients', { perClient: { open: 9 }, perSelfRegisteredClient: { open: 3 } }, 3],
  ]
  for (const [title, limits, stored] of cases) {
    test(title, async (t) => assert.equal(await storedOfTen(t, limits), stored))
  }

  test('do not apply to clients of the operator, nor to a self-registered client that the operator adds to the configuration', async (t) => {
    const { stage, sendRequest, inventor } = await inventing(t, { limits: { perSelfRegisteredClient: { open: 1 } } })
    for (const login_hint of ['zoe', 'yara']) assert.equal((await stage.ring('kiosk', { login_hint })).status, 200)
    assert.equal((await sendRequest(stage.url, 'zoe')).status, 200)
    assertTooMuch(await sendRequest(stage.url, 'yara'))

    await stage.restart({ clients: [{ client_id: inventor.id, client_secret: inventor.secret, ...poll }] })
    assert.equal((await sendRequest(stage.url, 'yara')).status, 200)
  })
})

/** A server that hides which users exist, and a client that registered itself there. */
async function inventing(t: TestContext, config: ConfigInput = {}, engine?: Engine) {
  const options = { config: { ...pretending, ...config }, ...(engine && { engine }) }
  const stage = await openStage(t, options)
  const { status, body, text } = await calls(stage).register(poll)
  assert.equal(status, 201, text)
  const inventor = { id: String(body.client_id), secret: String(body.client_secret) }

  /** Sends a request to a node, from the network with this number. */
  async function sendRequest(node: string, login_hint: string, network = 1): Promise<Answer> {
    const response = await fetch(`${node}/backchannel/authorize`, {
      method: 'POST',
      headers: {
        authorization: basic(inventor.id, inventor.secret),
        'x-forwarded-for': `203.${Math.floor(network / 256)}.${network % 256}.7`,
      },
      body: new URLSearchParams({ scope: 'openid', login_hint }),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, text, body: JSON.parse(text) }
  }
  return { stage, options, inventor, sendRequest }
}

/** Opens two nodes on Postgres, or one on SQLite, because only one server may use a SQLite file. */
async function flooded(t: TestContext, engine: Engine) {
  const { stage, options, inventor, sendRequest } = await inventing(t, {}, engine)
  const nodes = [stage.url]
  if (engine.name === 'postgres') nodes.push((await openNeighbour(t, stage, options)).url)

  /** Sends this many requests to all nodes in turn, each about another invented user and from another network. */
  async function flood(times: number): Promise<Answer[]> {
    const answers: Answer[] = []
    for (let sent = 0; sent < times; sent += atOnce) {
      const batch = Array.from({ length: Math.min(atOnce, times - sent) }, (_, index) =>
        sendRequest(nodes[index % nodes.length]!, `invented-${newSecret(8)}`, sent + index),
      )
      answers.push(...(await Promise.all(batch)))
    }
    return answers
  }
  return { stage, inventor, flood }
}

/** The number of calls at the same time. */
const atOnce = 40

async function countRequests(stage: Stage, clientId: string): Promise<number> {
  const sql = 'select count(*) as stored from backchannel_auth_requests where client_id = $1'
  return Number((await rowsOf(stage, sql, [clientId]))[0]!.stored)
}
