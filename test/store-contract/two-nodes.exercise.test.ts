/** Two Doorbells on one Postgres act as one provider. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { freePort } from '../support/ports.ts'
import { newProofKey, pollWith, proofOf } from '../support/proofs.ts'
import { type Answer, CIBA, castConfig, credentials, openStage } from '../support/stage.ts'
import { contentsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

test('Kiosk sends its request to one node, Ana decides at the other, Kiosk polls at the first', async (t) => {
  const { stage, other } = await twoNodes(t)
  const { auth_req_id: authReqId } = (await stage.ring('kiosk')).body
  assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'authorization_pending')
  // Each node measures the time between polls with its own clock. So a client that keeps its interval never gets
  // `slow_down` because the clocks of two nodes differ.
  const words = ['authorization_pending', 'slow_down']
  for (const word of words) {
    assert.equal((await other.post('/oauth/token', poll(authReqId), credentials.kiosk)).body.error, word)
  }
  const decision = { login_hint: 'ana', request_id: await stage.newestRequest(), status: 'approved' }
  assert.equal((await other.post('/backchannel/complete', decision, credentials.phoneService)).status, 200)
  // The first node is notified of the decision a moment later.
  let tokens = await stage.poll('kiosk', authReqId)
  await until(async () => {
    if (words.includes(String(tokens.body.error))) tokens = await stage.poll('kiosk', authReqId)
    return tokens.status === 200
  })
  const bearer = { authorization: `Bearer ${tokens.body.access_token}` }
  assert.equal((await other.get('/oauth/userinfo', bearer)).body.sub, 'user-ana')
  assert.equal((await other.post('/oauth/token', poll(authReqId), credentials.kiosk)).body.error, 'invalid_grant')
})

test('after twenty decisions, with two workers awake, each client is called once', async (t) => {
  const endpoint = await openNotificationEndpoint(t)
  const { stage, other } = await twoNodes(t, endpoint.url)
  const response = await Promise.all(
    Array.from({ length: 20 }, async (_, number) => {
      const { body } = await stage.ring(number % 2 ? 'northbank' : 'till')
      const [found] = await waiting(stage.post, body.auth_req_id)
      return { authReqId: body.auth_req_id, requestId: found!.request_id }
    }),
  )
  await Promise.all(
    response.map(({ requestId }, number) => {
      const decision = { login_hint: 'ana', request_id: String(requestId), status: 'approved' }
      return (number % 3 ? stage : other).post('/backchannel/complete', decision, credentials.phoneService)
    }),
  )
  await endpoint.hears(20)
  for (const node of [stage, other]) await node.doorbell.idle()
  const called = endpoint.heard.map(({ body }) => String(body.auth_req_id)).sort()
  assert.deepEqual(called, response.map(({ authReqId }) => String(authReqId)).sort())
  const { notifications } = await contentsOf(stage)
  const sent = notifications!.filter(({ kind }) => kind === 'ping' || kind === 'push')
  assert.deepEqual(new Set(sent.map(({ state, attempts }) => `${state} ${attempts}`)), new Set(['delivered 1']))
})

test('two sweeps at once settle each request once', async (t) => {
  const endpoint = await openNotificationEndpoint(t)
  const { stage, other } = await twoNodes(t, endpoint.url)
  const clients = ['kiosk', 'northbank', 'till'] as const
  await Promise.all(Array.from({ length: 30 }, (_, number) => stage.ring(clients[number % 3]!)))
  stage.clock.advance(600_000)
  const swept = await Promise.all([stage, other, stage, other].map(({ doorbell }) => doorbell.sweep()))
  await endpoint.hears(10)
  for (const node of [stage, other]) await node.doorbell.idle()

  const contents = await contentsOf(stage)
  const requests = contents.backchannel_auth_requests!
  assert.deepEqual(new Set(requests.map(({ status }) => status)), new Set(['expired']))
  const settled = contents.backchannel_auth_consent_history!.map(({ request_id }) => String(request_id)).sort()
  assert.deepEqual(settled, requests.map(({ id }) => String(id)).sort())
  // The timer may have swept some of the requests before.
  assert.ok(swept.reduce((sum, count) => sum + count) <= 30)
  assert.equal(endpoint.heard.length, 10, 'each push client is notified once')
})

test('a DPoP proof used at one node is refused at the other, and a nonce of one is accepted by the other (DP-8, DP-9)', async (t) => {
  const { stage, other } = await twoNodes(t)
  const key = await newProofKey()
  const proof = await proofOf(stage, key)
  const nodes = Array.from({ length: 10 }, (_, number) => (number % 2 ? stage : other))
  const answers = await Promise.all(nodes.map((node) => pollWith(node, proof, 'unknown', credentials.kiosk)))
  assert.deepEqual(answers.map(({ body }) => body.error).sort(), [
    ...Array(9).fill('invalid_dpop_proof'),
    'invalid_grant',
  ])
  const asked = await pollWith(stage, await proofOf(stage, key, { claims: { nonce: 'old' } }), 'x', credentials.kiosk)
  const nonce = asked.headers.get('dpop-nonce')
  assert.ok(nonce)
  const again = await pollWith(other, await proofOf(stage, key, { claims: { nonce } }), 'x', credentials.kiosk)
  assert.equal(again.body.error, 'invalid_grant')
})

test('two first starts at once on an empty database end up with the same keys and clients', async (t) => {
  const { url: database, drop } = await postgres.fresh()
  const ports = await Promise.all([freePort(), freePort()])
  const start = async (port: number) => {
    const config = await loadConfig({ env: {}, overrides: castConfig(port, database) })
    return createDoorbell(config, { migrate: true, log: createLog('silent') })
  }
  const nodes = await Promise.all(ports.map(start))
  t.after(async () => {
    await Promise.all(nodes.map((node) => node.close()))
    await drop()
  })
  const keys = await Promise.all(
    nodes.map(async (node, index) => {
      await node.listen()
      return (await fetch(`http://localhost:${ports[index]}/oauth/jwks`)).json()
    }),
  )
  assert.deepEqual(keys[0], keys[1])
})

const poll = (authReqId: unknown) => ({ grant_type: CIBA, auth_req_id: String(authReqId) })

type Post = (path: string, form: Record<string, string>, authorization: string) => Promise<Answer>

async function waiting(post: Post, authReqId: unknown): Promise<{ request_id: string }[]> {
  const asked = { login_hint: 'ana', auth_req_id: String(authReqId) }
  return (await post('/backchannel/authinfo', asked, credentials.phoneService)).body.requests as never
}

async function twoNodes(t: TestContext, endpoint?: string) {
  const callBacks = endpoint === undefined ? {} : { northbank: endpoint, till: endpoint }
  const stage = await openStage(t, { engine: postgres, ...callBacks })
  return { stage, other: await openNeighbour(t, stage, callBacks) }
}
