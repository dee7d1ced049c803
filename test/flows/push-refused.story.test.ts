/**
 * The client refuses a push of tokens permanently. The client has not accepted the tokens, so the server revokes them.
 * The error for the client and the history of the user show this (M36, PU-11).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint, type ReceiverPace } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { retryOutbox } from '../support/retry-outbox.ts'
import { credentials, openStage, type Stage } from '../support/stage.ts'
import { collectStatements } from '../support/statements.ts'
import { callBacksOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

const day = 24 * 3600_000

/** The answer of a Spring application whose security filter does not know the notification token. */
const springRefusal = {
  status: 401,
  headers: {
    'content-type': 'application/json',
    'www-authenticate':
      'Bearer error="invalid_token", error_description="An error occurred while attempting to decode the Jwt"',
  },
  body: '{"timestamp":"2026-11-24T10:00:00.000+00:00","status":401,"error":"Unauthorized","path":"/ciba/callback"}',
}

const refusals: [name: string, pace: ReceiverPace, outcome: string][] = [
  ['400', 400, 'answered 400'],
  ['401 of a Spring application', springRefusal, 'answered 401'],
  ['403', 403, 'answered 403'],
  ['404', 404, 'answered 404'],
  ['410', 410, 'answered 410'],
  ['a redirect', { status: 302, headers: { location: 'https://elsewhere.example/' } }, 'answered 302'],
]

for (const engine of engines) {
  describe(`a push of tokens that is refused, on ${engine.name}`, () => {
    for (const [name, pace, outcome] of refusals) {
      test(`${name}: the tokens are revoked, and the history says that nothing is in use`, async (t) => {
        const { stage, endpoint } = await pushed(t, engine, pace)
        assert.deepEqual(await parkedWith(stage), ['parked', outcome])
        await assertRevoked(stage, endpoint.heard[0]!.body)
        const events = revocations(stage)
        assert.equal(events.length, 1)
        const { client, by, outcome: said } = events[0]!
        assert.deepEqual([client, by, said], ['till', 'push', 'undelivered'])
      })
    }

    test('at an address that may not be called: no token stays valid', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const stage = await openStage(t, {
        engine,
        northbank: 'https://n.example/n',
        till: `https://127.0.0.1:${new URL(endpoint.url).port}/n`,
        config: { development: false, issuer: 'https://id.example.com' },
      })
      await stage.ring('till', { scope: 'openid offline_access' })
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.deepEqual(await parkedWith(stage), ['parked', 'address_forbidden'])
      assert.equal(revocations(stage).length, 1)
    })

    test('retried by an operator: the client learns that it got no tokens', async (t) => {
      const { stage, endpoint } = await pushed(t, engine, 400, 204)
      assert.deepEqual(await parkedWith(stage), ['parked', 'answered 400'])
      await retryOutbox(stage)
      await endpoint.hears(2)
      const { auth_req_id, error } = endpoint.heard[1]!.body
      assert.deepEqual([auth_req_id, error], [endpoint.heard[0]!.body.auth_req_id, 'transaction_failed'])
      await stage.doorbell.idle()
      assert.equal(revocations(stage).length, 1)
    })

    test('a denial that is refused revokes nothing', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      endpoint.behaves(400)
      const stage = await openStage(t, { engine, till: endpoint.url })
      await stage.ring('till')
      await stage.decide(await stage.newestRequest(), 'denied')
      assert.deepEqual(await parkedWith(stage), ['parked', 'answered 400'])
      assert.equal(revocations(stage).length, 0)
    })
  })

  describe(`a push of tokens whose attempts are used up, on ${engine.name}`, () => {
    test('the tokens are kept for an operator, who can still deliver them', async (t) => {
      const { stage, endpoint, eraseParked } = await pushed(t, engine, 500, 500, 204)
      assert.equal(revocations(stage).length, 0)
      stage.clock.advance(2_000)
      assert.deepEqual(await parkedWith(stage), ['parked', 'answered 500; all 2 attempts used'])
      await retryOutbox(stage)
      await endpoint.hears(3)
      const authorization = `Bearer ${endpoint.heard[2]!.body.access_token}`
      assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 200)
      await stage.doorbell.idle()
      stage.clock.advance(2 * day)
      await eraseParked()
      assert.equal((await refresh(stage, endpoint.heard[2]!.body)).status, 200, 'delivered tokens are not revoked')
    })

    test('the tokens are revoked when the push can no longer be retried, a day later', async (t) => {
      const { stage, endpoint, eraseParked } = await pushed(t, engine, 500)
      stage.clock.advance(2_000)
      assert.deepEqual(await parkedWith(stage), ['parked', 'answered 500; all 2 attempts used'])
      stage.clock.advance(day - 300_000)
      await eraseParked()
      assert.equal(revocations(stage).length, 0)
      stage.clock.advance(300_000)
      await eraseParked()
      await assertRevoked(stage, endpoint.heard[0]!.body)
      assert.equal(revocations(stage).length, 1)
    })
  })
}

async function pushed(t: TestContext, engine: Engine, ...paces: ReceiverPace[]) {
  const endpoint = await openNotificationEndpoint(t)
  endpoint.behaves(...paces)
  const { openDatabase, collected } = collectStatements()
  const config = { notifications: { attempts: 2 } }
  const stage = await openStage(t, { engine, till: endpoint.url, config, parts: { openDatabase } })
  await stage.ring('till', { scope: 'openid offline_access' })
  await stage.decide(await stage.newestRequest(), 'approved')
  await endpoint.hears(1)
  await stage.doorbell.idle()
  /**
   * Waits until the server has erased the content of notifications that were parked a day ago. The server does this
   * once a minute.
   */
  async function eraseParked(): Promise<void> {
    collected.clear()
    await until(() => {
      stage.clock.advance(1_000)
      return [...collected.keys()].some((sql) => /set sealed = null where id in \(select id from old\)/.test(sql))
    })
  }
  return { stage, endpoint, eraseParked }
}

async function parkedWith(stage: Stage): Promise<unknown[]> {
  await stage.doorbell.idle()
  const { state, last_outcome } = (await callBacksOf(stage)).at(-1)!
  return [state, last_outcome]
}

async function assertRevoked(stage: Stage, tokens: Record<string, unknown>): Promise<void> {
  const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${tokens.access_token}` })
  assert.equal(userinfo.status, 401)
  assert.equal((await refresh(stage, tokens)).body.error, 'invalid_grant')
  const { body } = await stage.get('/backchannel/activity', { authorization: await bearerOf(stage) })
  assert.deepEqual(
    (body.activity as Record<string, unknown>[]).map(({ outcome, in_use }) => [outcome, in_use]),
    [['approved', false]],
  )
}

function refresh(stage: Stage, { refresh_token }: Record<string, unknown>) {
  const form = { grant_type: 'refresh_token', refresh_token: String(refresh_token) }
  return stage.post('/oauth/token', form, credentials.till)
}

function revocations(stage: Stage): Record<string, unknown>[] {
  const lines = stage.logLines.map((line) => JSON.parse(line) as Record<string, unknown>)
  return lines.filter(({ event }) => event === 'tokens.revoked')
}
