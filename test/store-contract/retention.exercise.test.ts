/**
 * Finished rows are pruned in small steps after their retention time. Rows that are still in use stay
 * (docs/operating.md, Pruning).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { AuthenticationRequest } from '../../src/ciba/authentication-request/authentication-request.ts'
import { createSignedRequestStore } from '../../src/ciba/backchannel-authentication/signed-request-store.ts'
import { expire } from '../../src/ciba/decision/decide.ts'
import { createUsedAssertionStore } from '../../src/client/authentication/used-jti-store.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import { createPruning, type Kept } from '../../src/operations/pruning.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { type Engine, engines } from '../support/engines.ts'
import { oldRowsIn } from '../support/old-rows.ts'
import { allRows, capacityFor, furnished, insert, newMessage, newRequest, post, vault } from '../support/rows.ts'
import { credentials, openStage } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'
import { inTime, until } from '../support/until.ts'

const day = 86_400_000

for (const engine of engines) {
  describe(`requests, on ${engine.name}`, () => {
    test('requests that finished before the limit are deleted, however they ended; open or younger ones stay', async (t) => {
      const { clock, one, sendRequest, settle } = await scene(t, engine)
      const denied = await sendRequest()
      const redeemed = await sendRequest()
      const expired = await sendRequest({ expiresAt: clock.now() + 1000 })
      const open = await sendRequest({ expiresAt: clock.now() + 10 * day })
      const approved = await sendRequest({ expiresAt: clock.now() + 10 * day })
      await settle(denied, 'denied')
      await settle(redeemed, 'approved')
      await settle(approved, 'approved')
      await one.requests.redeem(redeemed.id, clock.now(), [])
      clock.advance(1000)
      await expire(expired, one.needs)
      const soon = clock.now() + 1
      clock.advance(day)
      const young = await sendRequest()
      await settle(young, 'denied')

      assert.equal(await one.requests.forgetFinished(soon, 10), 3)
      assert.deepEqual(await idsIn(one.database, 'backchannel_auth_requests'), idsOf(open, approved, young))
      assert.equal(await one.requests.forgetFinished(soon, 10), 0)
      assert.equal((await allRows(one.database, 'backchannel_auth_consent_history')).length, 5, 'history is kept')
    })

    test('an old request that has just finished keeps its whole retention time', async (t) => {
      const { clock, one, sendRequest, settle } = await scene(t, engine)
      const slow = await sendRequest({ expiresAt: clock.now() + 10 * day })
      clock.advance(9 * day)
      await settle(slow, 'denied')
      assert.equal(await one.requests.forgetFinished(clock.now(), 10), 0)
      assert.equal(await one.requests.forgetFinished(clock.now() + 1, 10), 1)
    })

    test('a request stays while a token issued for it is valid, and so does its row in the history', async (t) => {
      const { clock, one, sendRequest, settle } = await scene(t, engine)
      const models = createOidcModelStore(one.database)
      const request = await sendRequest()
      await settle(request, 'approved')
      const grant = grantOf(request, clock.now() + 90 * day)
      const refreshed = { ...grant, model: 'RefreshToken', idHash: 'a', grantHash: grant.idHash, requestId: undefined }
      await one.requests.redeem(request.id, clock.now(), [models.put(grant), models.put(refreshed)])
      const later = clock.now() + 60 * day
      assert.equal(await one.requests.forgetFinished(later, 10), 0)
      assert.equal(await one.decisions.forget(later, 10), 0)
      await one.database.step({ sql: 'select 1 as one', values: [] }, { also: [models.removeByRequest(request.id)] })
      assert.deepEqual(await allRows(one.database, 'oidc_models'), [])
      assert.equal(await one.requests.forgetFinished(later, 10), 1)
      assert.equal(await one.decisions.forget(later, 10), 1)
    })

    test('no more at once than the batch size, the oldest first; of two nodes each takes its own', async (t) => {
      const { clock, one, other, sendRequest, settle } = await scene(t, engine)
      const requests: AuthenticationRequest[] = []
      for (let number = 0; number < 25; number++) {
        clock.advance(1)
        requests.push(await sendRequest())
        await settle(requests.at(-1)!, 'denied')
      }
      const later = clock.now() + 1
      assert.equal(await one.requests.forgetFinished(later, 5), 5)
      assert.deepEqual(await idsIn(one.database, 'backchannel_auth_requests'), idsOf(...requests.slice(5)))
      const together = await Promise.all([one, other].map((node) => node.requests.forgetFinished(later, 20)))
      const left = await allRows(one.database, 'backchannel_auth_requests')
      assert.equal(together[0]! + together[1]! + left.length, 20, 'no row was counted twice')
    })
  })

  describe(`everything else, on ${engine.name}`, () => {
    test('notifications are deleted when they were delivered or parked long enough ago; waiting ones stay', async (t) => {
      const { clock, one } = await scene(t, engine)
      const [delivered, parked, waiting] = [newMessage(clock.now()), newMessage(clock.now()), newMessage(clock.now())]
      await post(one.database, delivered, parked, waiting)
      const lease = { now: clock.now(), leaseUntil: clock.now() + 1000, lease: 'a', room: capacityFor() }
      for (const message of await one.outbox.claimDue(lease)) {
        if (message.id === delivered.id) await one.outbox.delivered(message, 'answered 204', clock.now())
        if (message.id === parked.id) await one.outbox.park(message, 'answered 400', clock.now())
      }
      assert.equal(await one.outbox.forgetSettled(clock.now(), 10), 0)
      assert.equal(await one.outbox.forgetSettled(clock.now() + 1, 1), 1)
      assert.equal(await one.outbox.forgetSettled(clock.now() + 100 * day, 10), 1)
      assert.deepEqual(await idsIn(one.database, 'notifications'), [waiting.id])
    })

    test('signed requests, used assertions and models are deleted by their own age, a few at a time', async (t) => {
      const { clock, one } = await scene(t, engine)
      const signed = createSignedRequestStore(one.database, vault)
      const used = createUsedAssertionStore(one.database)
      const models = createOidcModelStore(one.database)
      for (let number = 0; number < 3; number++) {
        const request = newRequest(clock.now())
        await one.database.step(signed.keep(request.id, 'a.b.c', clock.now()))
        await used.use('kiosk', String(number), clock.now())
        await models.run(models.put(grantOf(request, clock.now())))
      }
      const forgetters = [signed.forget, used.forgetExpired, models.forgetExpired]
      for (const forget of forgetters) {
        assert.equal(await forget(clock.now(), 10), 0, 'not yet')
        assert.equal(await forget(clock.now() + 1, 2), 2, 'no more than the batch size')
        assert.equal(await forget(clock.now() + 1, 2), 1)
      }
    })
  })

  describe(`rows that are deleted once a minute, on ${engine.name}`, () => {
    test('are deleted the oldest first, and never more than asked at once', async (t) => {
      const { one } = await scene(t, engine)
      const now = 100 * day
      for (const { table, forget, row } of oldRowsIn(one.database)) {
        for (const [key, at] of Object.entries({ third: 3, second: 2, first: 1, young: now + day })) {
          await insert(one.database, table, row(key, at))
        }
        const left = async () => JSON.stringify(await allRows(one.database, table))
        assert.equal(await forget(now, 2), 2, table)
        assert.match(await left(), /third.*young|young.*third/, table)
        assert.deepEqual([await forget(now, 2), await forget(now, 2)], [1, 0], table)
        assert.match(await left(), /young/, table)
      }
    })
  })

  describe(`a whole server, on ${engine.name}`, () => {
    test('after the retention time a flow leaves its row in the history, and nothing else', async (t) => {
      const stage = await openStage(t, { engine, config: { retention: { requests: 2, notifications: 1 } } })
      await stage.ring('northbank')
      const request = await stage.newestRequest()
      await stage.decide(request, 'denied')
      await stage.doorbell.idle()
      assert.equal(await stage.doorbell.prune(), 0)
      // Northbank does not answer, so its ping is parked during this day.
      stage.clock.advance(day)
      await stage.doorbell.idle()
      stage.clock.advance(day + 1)
      await stage.doorbell.prune()
      const rows = await countRows(stage)
      assert.deepEqual([rows.backchannel_auth_requests, rows.backchannel_auth_consent_history], [0, 1])
      assert.equal(rows.notifications, 0)
      assert.deepEqual(await stage.waiting(), [])
      const late = await stage.decide(request, 'approved')
      assert.deepEqual([late.status, late.body.error], [404, 'not_found'])
    })

    test('rows of an access token are deleted with it, if it cannot be refreshed', async (t) => {
      const stage = await openStage(t, { engine, config: { tokens: { accessTtl: 600 } } })
      const tokens = async (scope: string) => {
        const { auth_req_id } = (await stage.ring('kiosk', { scope })).body
        await stage.decide(await stage.newestRequest(), 'approved')
        return (await stage.poll('kiosk', auth_req_id)).body
      }
      await tokens('openid')
      const { refresh_token } = await tokens('openid offline_access')
      const introspect = async (token: unknown) =>
        (await stage.post('/oauth/introspect', { token: String(token) }, credentials.kiosk)).body.active
      const { access_token } = await tokens('openid')
      stage.clock.advance(599_000)
      assert.equal(await introspect(access_token), true)
      stage.clock.advance(10_000)
      assert.equal(await introspect(access_token), false)
      await stage.doorbell.prune()
      // Two rows stay for the request whose tokens can be refreshed: the refresh token, and its grant.
      assert.equal((await countRows(stage)).oidc_models, 2)
      assert.equal(await introspect(refresh_token), true)
    })

    test('history is deleted too if configured', async (t) => {
      const stage = await openStage(t, { engine, config: { retention: { requests: 2, history: 3 } } })
      await stage.ring('kiosk')
      await stage.decide(await stage.newestRequest(), 'denied')
      stage.clock.advance(3 * day + 1)
      await stage.doorbell.prune()
      const rows = await countRows(stage)
      assert.deepEqual([rows.backchannel_auth_requests, rows.backchannel_auth_consent_history], [0, 0])
    })
  })
}

test('pruning takes one batch of each kind, pauses, and goes on', async (t) => {
  const { clock, log } = await scene(t, engines[0]!)
  const sizes = { full: [100, 100, 7] }
  const asked: string[] = []
  const news = Promise.withResolvers<void>()
  const kept: Kept[] = [
    { what: 'for ever', days: undefined, forget: () => assert.fail('no retention configured') },
    {
      what: 'letters',
      days: 3,
      async forget(before, atMost) {
        asked.push(`${(clock.now() - before) / day} days, ${atMost} rows`)
        if (asked.length === 4) news.resolve()
        return sizes.full.shift() ?? 0
      },
    },
  ]
  const pruning = createPruning({ kept, clock, log })
  assert.equal(await pruning.prune(), 207)
  assert.deepEqual(asked, ['3 days, 100 rows', '3 days, 100 rows', '3 days, 100 rows'])

  pruning.start()
  clock.advance(10_000)
  await inTime(news.promise, () => 'the next removal')
  await pruning.stop()
})

test('a kind of rows that cannot be removed keeps no other kind, and is logged once', async (t) => {
  const { clock, log, logLines } = await scene(t, engines[0]!)
  const sizes = [100, 7]
  let removals = 0
  const kept: Kept[] = [
    { what: 'letters', days: 0, forget: () => Promise.reject(new Error('away')) },
    {
      what: 'cards',
      days: 0,
      async forget() {
        removals += 1
        return sizes.shift() ?? 0
      },
    },
  ]
  const pruning = createPruning({ kept, clock, log })
  await assert.rejects(pruning.prune(), /away/)
  assert.deepEqual(sizes, [])
  pruning.start()
  await until(() => {
    clock.advance(10_000)
    return removals >= 5
  })
  await pruning.stop()
  const failed = logLines.filter((line) => line.includes('retention.failed'))
  assert.equal(failed.length, 1)
  assert.equal(JSON.parse(failed[0]!).what, 'letters')
})

const idsIn = async (database: Database, table: string) => (await allRows(database, table, 'id')).map(({ id }) => id)
const idsOf = (...requests: AuthenticationRequest[]) => requests.map(({ id }) => id).sort()

function grantOf(request: AuthenticationRequest, expiresAt: number) {
  const unowned = { grantHash: undefined, uidHash: undefined, clientId: undefined, userId: undefined }
  return { model: 'Grant', idHash: request.id, sealed: 'x', ...unowned, requestId: request.id, expiresAt }
}

async function scene(t: TestContext, engine: Engine) {
  const all = await furnished(t, engine, { count: engine.name === 'postgres' ? 2 : 1 })
  const { one, clock } = all
  return {
    ...all,
    async sendRequest(more: Partial<AuthenticationRequest> = {}) {
      const request = newRequest(clock.now(), more)
      assert.ok(await one.requests.accept(request, request.id, { maxOpenPerUser: 999 }))
      return request
    },
    settle: (request: AuthenticationRequest, outcome: 'approved' | 'denied') =>
      one.decide({
        requestId: request.id,
        userId: request.userId,
        outcome,
        decidedBy: 'user',
        deviceClientId: undefined,
        authentication: {},
        reported: false,
        address: undefined,
      } as Parameters<typeof one.decide>[0]),
  }
}
