/**
 * A platform runs the notification endpoints of many clients at one origin, or at one URL where the bearer token
 * identifies the client. Notifications to clients that registered themselves there hang. Pushes to another client there
 * do not wait for them.
 */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { engines } from '../support/engines.ts'
import { ana, basic, newNotificationToken, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { calls } from './registration-calls.ts'

/** The number of slots of one kind of notification for receivers that have not answered yet. */
const slotsOfNew = 32

/** Users without user codes. */
const users: ConfigInput['users'] = {
  find: async (id) => (id === ana.id ? ana : null),
  findByHint: async ({ value }) => ([ana.username, ana.email].includes(value) ? ana : null),
}

for (const engine of engines) {
  describe(`the endpoints of many clients at one origin, on ${engine.name}`, () => {
    for (const count of [30, 300]) {
      test(`${count} of them hang, most of them at the URL of Till, and Till gets its pushes`, async (t) => {
        const gateway = await openGateway(t)
        const stage = await openStage(t, {
          engine,
          till: gateway.url,
          config: {
            users,
            registration: { mode: 'open', perHour: 1000 },
            requests: { unknownUsers: 'pretend', minExpiry: 30 },
            proxy: { trust: ['127.0.0.1', '::1'] },
            // No notification reaches this time limit while the test runs.
            notifications: { timeout: 60 },
          },
        })
        try {
          await pushToTill(stage)
          await until(() => gateway.answered() === 1)

          // Ten calls are sent at a time, because more calls at once could be refused.
          for (let first = 0; first < count; first += 10) {
            const ten = Array.from({ length: 10 }, (_, index) => sendAttack(stage, gateway, first + index))
            await Promise.all(ten)
          }
          stage.clock.advance(30_000)
          await stage.doorbell.sweep()
          await until(() => gateway.hanging() === slotsOfNew)
          for (let pushes = 2; pushes <= 10; pushes++) {
            await pushToTill(stage)
            await until(() => gateway.answered() === pushes)
          }
          assert.equal(gateway.hanging(), slotsOfNew)
        } finally {
          gateway.drop()
        }
      })
    }
  })
}

/** Ana decides about a request of Till. */
async function pushToTill(stage: Stage): Promise<void> {
  assert.equal((await stage.ring('till')).status, 200)
  assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
}

/**
 * Registers a client at the gateway, from a network of its own. The client sends requests about two users that it
 * invents.
 */
async function sendAttack(stage: Stage, gateway: Gateway, number: number): Promise<void> {
  const { status, body, text } = await calls(stage).register({
    backchannel_token_delivery_mode: 'push',
    grant_types: [],
    backchannel_client_notification_endpoint: number % 3 > 0 ? gateway.url : `${gateway.url}/of-client-${number}`,
  })
  assert.equal(status, 201, text)
  const token = gateway.newHangingToken()
  for (const user of ['one', 'other']) {
    const response = await fetch(`${stage.url}/backchannel/authorize`, {
      method: 'POST',
      headers: {
        authorization: basic(String(body.client_id), String(body.client_secret)),
        'x-forwarded-for': `203.${number >> 8}.${number & 255}.7`,
      },
      body: new URLSearchParams({
        scope: 'openid',
        login_hint: `${user}-${number}`,
        client_notification_token: token,
        requested_expiry: '30',
      }),
    })
    assert.equal(response.status, 200, await response.text())
  }
}

type Gateway = Awaited<ReturnType<typeof openGateway>>

/** Opens a gateway that answers all calls except those with certain tokens. */
async function openGateway(t: TestContext) {
  const hangingTokens = new Set<string>()
  let answered = 0
  let hanging = 0
  const server = createServer((request, response) => {
    if (hangingTokens.has(request.headers.authorization ?? '')) hanging += 1
    else response.writeHead(204).end(() => (answered += 1))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const drop = () => {
    server.closeAllConnections()
    server.close()
  }
  t.after(drop)
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/notify`,
    answered: () => answered,
    hanging: () => hanging,
    newHangingToken(): string {
      const token = newNotificationToken()
      hangingTokens.add(`Bearer ${token}`)
      return token
    },
    drop,
  }
}
