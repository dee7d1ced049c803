/**
 * A client changes its delivery mode or its notification endpoint while requests are open. Notifications are sent in
 * the mode and to the endpoint that the client has when they are sent (OV-3, OV-4, PU-11).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { openShop, type Shop, type WayOfChanging } from '../support/changing-client.ts'
import { type Engine, engines } from '../support/engines.ts'
import { type NotificationEndpoint, openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { retryOutbox } from '../support/retry-outbox.ts'
import { callBacksOf, rowsOf } from '../support/tables.ts'
import { assertResult, at, changes, isAccepted, type Mode } from './delivery-changes.ts'

const ways: WayOfChanging[] = ['clientconfig', 'clientconfig, with former parameter names', 'registration']
const minute = 60_000

for (const engine of engines) {
  for (const way of ways) {
    describe(`a change by ${way} between the request and the decision, on ${engine.name}`, () => {
      for (const [from, to, by] of changes) {
        for (const status of ['approved', 'denied'] as const) {
          test(`from ${from} to ${to}: ${status}, by ${by}`, async (t) => {
            const { shop, old, next } = await openWith(t, engine, way, from)
            const { authReqId, requestId } = await shop.ring()
            await shop.changesTo(at(to, next))
            await shop.stage.decide(requestId, status)
            await shop.stage.doorbell.idle()
            assert.equal(old.heard.length, 0, 'nothing reaches the withdrawn endpoint')
            await assertResult(shop, { by, status, authReqId, next })
          })
        }
      }
    })
  }

  describe(`a change after the first attempt of a push, on ${engine.name}`, () => {
    for (const way of ways) {
      test(`by ${way}, to another endpoint: the same tokens are pushed there`, async (t) => {
        const { shop, old, next } = await openWith(t, engine, way, 'push')
        await pushedInVain(shop, old)
        await shop.changesTo(at('push', next))
        await nextAttempt(shop)
        const [pushed] = await next.hears(1)
        assert.equal(pushed!.text, old.heard[0]!.text)
        assert.equal(old.heard.length, 1)
        const [row] = await rowsOf(shop.stage, `select kind, address, state from notifications where kind = 'push'`)
        assert.deepEqual(row, { kind: 'push', address: next.url, state: 'delivered' })
      })

      for (const [name, isAttempted] of [['before', false], ['after']] as [string, boolean?][]) {
        test(`by ${way}, to poll: it polls ${name} the next attempt, and has one set of tokens`, async (t) => {
          const { shop, old } = await openWith(t, engine, way, 'push')
          const { authReqId, pushed } = await pushedInVain(shop, old)
          await shop.changesTo({ mode: 'poll' })
          if (isAttempted !== false) await nextAttempt(shop)
          const { status, body, text } = await shop.poll(authReqId)
          assert.equal(status, 200, text)
          assert.equal(await isAccepted(shop, body.access_token), true)
          assert.equal(await isAccepted(shop, pushed.access_token), false)
          await nextAttempt(shop)
          assert.equal(old.heard.length, 1, 'nothing is pushed any more')
          assert.deepEqual(
            (await callBacksOf(shop.stage)).map(({ state, last_outcome }) => [state, last_outcome]),
            [['delivered', 'not sent: the client polls now']],
          )
          assert.equal((await shop.poll(authReqId)).body.error, 'invalid_grant', 'the tokens are issued once')
        })
      }

      test(`by ${way}, to ping: it is pinged at the new endpoint, and has one set of tokens`, async (t) => {
        const { shop, old, next } = await openWith(t, engine, way, 'push')
        const { authReqId, pushed } = await pushedInVain(shop, old)
        await shop.changesTo(at('ping', next))
        await nextAttempt(shop)
        await assertResult(shop, { by: 'ping', status: 'approved', authReqId, next })
        assert.equal(await isAccepted(shop, pushed.access_token), false)
      })
    }

    test('to poll, twenty polls at once: one gets the tokens', async (t) => {
      const { shop, old } = await openWith(t, engine, 'clientconfig', 'push')
      const { authReqId } = await pushedInVain(shop, old)
      await shop.changesTo({ mode: 'poll' })
      const answers = await Promise.all(Array.from({ length: 20 }, () => shop.poll(authReqId)))
      const tokens = answers.filter(({ status }) => status === 200)
      assert.equal(tokens.length, 1)
      assert.equal(await isAccepted(shop, tokens[0]!.body.access_token), true)
    })

    test('to poll, when the user has revoked the tokens: no other tokens are issued', async (t) => {
      const { shop, old } = await openWith(t, engine, 'clientconfig', 'push')
      const { authReqId, requestId } = await pushedInVain(shop, old)
      const bearer = await bearerOf(shop.stage)
      await shop.stage.post('/backchannel/revoke', { request_id: requestId }, bearer)
      await shop.changesTo({ mode: 'poll' })
      assert.equal((await shop.poll(authReqId)).body.error, 'invalid_grant')
      await nextAttempt(shop)
      assert.equal((await shop.poll(authReqId)).body.error, 'invalid_grant')
    })

    test('to ping and back, when the user has revoked the tokens: a retry by an operator says access_denied', async (t) => {
      const { shop, old, next } = await openWith(t, engine, 'clientconfig', 'push')
      const { requestId } = await pushedInVain(shop, old)
      await shop.stage.post('/backchannel/revoke', { request_id: requestId }, await bearerOf(shop.stage))
      await shop.changesTo(at('ping', next))
      await nextAttempt(shop)
      assert.equal(next.heard.length, 0, 'nothing can be collected')
      await shop.changesTo(at('push', next))
      await retryOutbox(shop.stage)
      assert.equal((await next.hears(1))[0]!.body.error, 'access_denied')
    })

    test('to poll, past the deadline: the tokens cannot be collected any more', async (t) => {
      const { shop, old } = await openWith(t, engine, 'clientconfig', 'push')
      const { authReqId } = await pushedInVain(shop, old, { requested_expiry: '30' })
      await shop.changesTo({ mode: 'poll' })
      shop.stage.clock.advance(30_000)
      assert.equal((await shop.poll(authReqId)).status, 400)
    })

    test('a push that has arrived stays: a poll gets no second set of tokens', async (t) => {
      const { shop, old } = await openWith(t, engine, 'clientconfig', 'push')
      const { authReqId, requestId } = await shop.ring()
      await shop.stage.decide(requestId, 'approved')
      const [pushed] = await old.hears(1)
      await shop.stage.doorbell.idle()
      await shop.changesTo({ mode: 'poll' })
      assert.equal((await shop.poll(authReqId)).body.error, 'invalid_grant')
      assert.equal(await isAccepted(shop, pushed!.body.access_token), true)
    })

    test('a ping client that polls twice keeps its tokens, although its ping has not arrived', async (t) => {
      const { shop, old } = await openWith(t, engine, 'clientconfig', 'ping')
      old.behaves({ status: 503, headers: { 'retry-after': '60' } })
      const { authReqId, requestId } = await shop.ring()
      await shop.stage.decide(requestId, 'approved')
      await old.hears(1)
      await shop.stage.doorbell.idle()
      const { body } = await shop.poll(authReqId)
      assert.equal((await shop.poll(authReqId)).body.error, 'invalid_grant')
      assert.equal(await isAccepted(shop, body.access_token), true)
    })

    test('to poll and back to push: the request stays a request for poll', async (t) => {
      const { shop, old, next } = await openWith(t, engine, 'clientconfig', 'push')
      const { authReqId } = await pushedInVain(shop, old)
      await shop.changesTo({ mode: 'poll' })
      await nextAttempt(shop)
      await shop.changesTo(at('push', next))
      assert.equal((await shop.poll(authReqId)).status, 200)
      assert.equal(next.heard.length, 0)
    })
  })

  describe(`a change before a request expires, on ${engine.name}`, () => {
    const expiries: [from: Mode, to: Mode, pushes: number][] = [
      ['ping', 'push', 1],
      ['push', 'push', 1],
      ['push', 'ping', 0],
      ['push', 'poll', 0],
      ['poll', 'push', 0],
    ]
    for (const [from, to, pushes] of expiries) {
      test(`from ${from} to ${to}: ${pushes === 1 ? 'the expiry is pushed' : 'there is no notification'}`, async (t) => {
        const { shop, old, next } = await openWith(t, engine, 'clientconfig', from)
        await shop.ring({ requested_expiry: '30' })
        await shop.changesTo(at(to, next))
        shop.stage.clock.advance(30_000)
        await shop.stage.doorbell.sweep()
        await shop.stage.doorbell.idle()
        assert.equal(old.heard.length, 0)
        assert.deepEqual(
          next.heard.map(({ body }) => body.error),
          Array(pushes).fill('expired_token'),
        )
      })
    }
  })
}

async function openWith(t: TestContext, engine: Engine, way: WayOfChanging, from: Mode) {
  const old = await openNotificationEndpoint(t)
  const next = await openNotificationEndpoint(t)
  return { shop: await openShop(t, { engine, way, first: at(from, old) }), old, next }
}

/** Sends a request and approves it. The tokens are issued, but the endpoint asks for another attempt a minute later. */
async function pushedInVain(shop: Shop, endpoint: NotificationEndpoint, more: Record<string, string> = {}) {
  endpoint.behaves({ status: 503, headers: { 'retry-after': '60' } })
  const request = await shop.ring(more)
  await shop.stage.decide(request.requestId, 'approved')
  const [pushed] = await endpoint.hears(1)
  await shop.stage.doorbell.idle()
  return { ...request, pushed: pushed!.body }
}

async function nextAttempt(shop: Shop): Promise<void> {
  shop.stage.clock.advance(minute + 1_000)
  await shop.stage.doorbell.idle()
}
