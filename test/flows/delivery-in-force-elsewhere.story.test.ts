/**
 * A client is changed in the configuration, or at another node, while its requests are open. Its notifications are sent
 * in the mode and to the endpoint that are in force at the time of sending (OV-3, OV-4, PU-11).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { metadata, type Shop, settings, shopAt } from '../support/changing-client.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { type NotificationEndpoint, openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { basic, openStage, type StageOptions } from '../support/stage.ts'
import { openForSuite } from '../support/teardown.ts'
import { until } from '../support/until.ts'
import { assertResult, at, changes, isAccepted, type Mode } from './delivery-changes.ts'

const secret = newSecret()

/** A client, and its only request. */
interface Case {
  id: string
  from: Mode
  to: Mode
  by: Mode
  status: 'approved' | 'denied'
}

const cases = changes.flatMap(([from, to, by]) =>
  (['approved', 'denied'] as const).map((status): Case => ({ id: `${from}-${to}-${status}`, from, to, by, status })),
)
/** A case in which a push failed before the change, and the endpoint asked for another attempt. */
const retried: Case = { id: 'retried', from: 'push', to: 'poll', by: 'poll', status: 'approved' }

/** The endpoints of a client before and after the change, and its request. */
interface Opened {
  old: NotificationEndpoint
  next: NotificationEndpoint
  shop: Shop
  authReqId: string
  requestId: string
}

for (const engine of engines) {
  describe(`a change in the configuration between the request and the decision, on ${engine.name}`, () => {
    const opened = openForSuite((t) => openRestarted(t, engine))

    for (const one of cases) {
      test(`from ${one.from} to ${one.to}: ${one.status}, by ${one.by}`, () =>
        assertInForce(opened().get(one.id)!, one))
    }

    test('after the first attempt of a push, to poll: the client has one set of tokens', async () => {
      const { old, shop, authReqId } = opened().get(retried.id)!
      const [pushed] = old.heard
      const { status, body, text } = await shop.poll(authReqId)
      assert.equal(status, 200, text)
      assert.equal(await isAccepted(shop, body.access_token), true)
      assert.equal(await isAccepted(shop, pushed!.body.access_token), false)
      shop.stage.clock.advance(61_000)
      await shop.stage.doorbell.idle()
      assert.equal(old.heard.length, 1, 'nothing is pushed any more')
    })
  })
}

describe('a change at one node between the request and the decision at the other, on postgres', () => {
  const opened = openForSuite(openTwoNodes)

  for (const one of cases) {
    test(`from ${one.from} to ${one.to}: ${one.status}, by ${one.by}`, async () => {
      const { next, shop, ...request } = await opened().ask(one)
      await shop.changesTo(at(one.to, next))
      await assertInForce({ next, shop, ...request }, one)
    })
  }
})

async function assertInForce({ old, next, shop, authReqId, requestId }: Opened, { by, status }: Case): Promise<void> {
  await shop.stage.decide(requestId, status)
  await shop.stage.doorbell.idle()
  assert.equal(old.heard.length, 0, 'nothing reaches the withdrawn endpoint')
  await assertResult(shop, { by, status, authReqId, next })
}

const clientOf = (id: string, mode: Mode, endpoint: NotificationEndpoint) => ({
  client_id: id,
  client_secret: secret,
  ...metadata(at(mode, endpoint)),
})

/** Opens a server with the clients of all cases. `ask` sends the request of a case. */
async function openWithCases(t: TestContext, options: StageOptions, all: readonly Case[]) {
  const endpoints = new Map<string, { old: NotificationEndpoint; next: NotificationEndpoint }>()
  for (const { id } of all) {
    endpoints.set(id, { old: await openNotificationEndpoint(t), next: await openNotificationEndpoint(t) })
  }
  const before = all.map(({ id, from }) => clientOf(id, from, endpoints.get(id)!.old))
  const after = all.map(({ id, to }) => clientOf(id, to, endpoints.get(id)!.next))
  const stage = await openStage(t, { ...options, config: { clients: before } })

  async function ask({ id, from }: Case, change: Parameters<typeof shopAt>[3]): Promise<Opened> {
    const { old, next } = endpoints.get(id)!
    const shop = shopAt(stage, basic(id, secret), at(from, old), change)
    return { old, next, shop, ...(await shop.ring()) }
  }
  return { stage, before, after, ask }
}

/** Sends the requests of all cases, and restarts the server with another configuration. */
async function openRestarted(t: TestContext, engine: Engine): Promise<Map<string, Opened>> {
  const all = [...cases, retried]
  const { stage, after, ask } = await openWithCases(t, { engine }, all)
  const opened = new Map<string, Opened>()
  for (const one of all) opened.set(one.id, await ask(one, async () => {}))

  const { old, requestId } = opened.get(retried.id)!
  old.behaves({ status: 503, headers: { 'retry-after': '60' } })
  await stage.decide(requestId, 'approved')
  await old.hears(1)
  await stage.doorbell.idle()
  await stage.restart({ clients: after })
  return opened
}

/**
 * Opens two nodes. Clients send their requests to the first node, which also sends the notifications. The clients
 * change their delivery settings at the second node.
 */
async function openTwoNodes(t: TestContext) {
  const engine = engines.find(({ name }) => name === 'postgres')!
  const announced: string[] = []
  const parts: StageOptions['parts'] = {
    async openDatabase(...how) {
      const database = await openDatabase(...how)
      database.listen('client', (id) => announced.push(id))
      return database
    },
  }
  const { stage, before, ask } = await openWithCases(t, { engine, parts }, cases)
  const other = await openNeighbour(t, stage, { config: { clients: before } }, { workers: false })
  return {
    ask: (one: Case) =>
      ask(one, async (delivery) => {
        // The announcements of the start are discarded: it has announced each client.
        announced.length = 0
        const { status, body } = await other.post(
          '/backchannel/clientconfig',
          settings(delivery),
          basic(one.id, secret),
        )
        assert.equal(status, 200, JSON.stringify(body))
        await until(() => announced.includes(one.id))
      }),
  }
}
