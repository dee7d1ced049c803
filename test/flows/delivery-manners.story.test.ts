/** How a notification endpoint may behave. Its behaviour affects no other client (M6, M51, M52, PI-5 to PI-8). */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { openNotificationEndpoint, type ReceiverPace } from '../support/notification-endpoint.ts'
import { openStage, type Stage } from '../support/stage.ts'
import { callBacksOf } from '../support/tables.ts'

type Mode = 'northbank' | 'till'

async function openWith(t: TestContext, as: Mode, ...manners: ReceiverPace[]) {
  const endpoint = await openNotificationEndpoint(t)
  endpoint.behaves(...manners)
  const stage = await openStage(t, { [as]: endpoint.url, config: { notifications: { timeout: 1, attempts: 3 } } })
  return { endpoint, stage }
}

async function decided(stage: Stage, as: Mode, status: 'approved' | 'denied' = 'approved') {
  const response = (await stage.ring(as)).body
  const answer = await stage.decide(await stage.newestRequest(), status)
  assert.equal(answer.status, 200, 'the decision stands, whatever the endpoint does (M6)')
  return response
}

async function lastOf(stage: Stage) {
  await stage.doorbell.idle()
  return (await callBacksOf(stage)).at(-1)!
}

describe('delivered, and not repeated', () => {
  const manners: [string, ReceiverPace][] = [
    ['204', 204],
    ['200', 200],
    ['200 with a body', { status: 200, body: '{"error":"invalid_request"}' }],
    ['200 with a body that never ends', 'endless body'],
    ['202', 202],
  ]
  for (const as of ['northbank', 'till'] as const) {
    for (const [name, manner] of manners) {
      test(`${as} answers ${name} (PI-5, PU-8)`, async (t) => {
        const { endpoint, stage } = await openWith(t, as, manner)
        await decided(stage, as)
        const { state, attempts } = await lastOf(stage)
        assert.deepEqual([state, attempts], ['delivered', 1])
        stage.clock.advance(120_000)
        await stage.doorbell.idle()
        assert.equal(endpoint.heard.length, 1)
      })
    }
  }
})

describe('parked at once, and not retried', () => {
  for (const as of ['northbank', 'till'] as const) {
    for (const status of [400, 401, 403, 404, 410] as const) {
      test(`${as} answers ${status} (M51, PI-8)`, async (t) => {
        const { endpoint, stage } = await openWith(t, as, status)
        await decided(stage, as)
        const { state, last_outcome } = await lastOf(stage)
        assert.deepEqual([state, last_outcome], ['parked', `answered ${status}`])
        stage.clock.advance(120_000)
        await stage.doorbell.idle()
        assert.equal(endpoint.heard.length, 1)
      })
    }

    for (const status of [301, 302, 307, 308] as const) {
      test(`${as} answers ${status}, and the redirect is not followed (M17, M51, PI-7)`, async (t) => {
        const elsewhere = await openNotificationEndpoint(t)
        const { endpoint, stage } = await openWith(t, as, { status, headers: { location: elsewhere.url } })
        await decided(stage, as)
        assert.equal((await lastOf(stage)).state, 'parked')
        assert.deepEqual([endpoint.heard.length, elsewhere.heard.length], [1, 0])
      })
    }
  }

  test('the push of an error follows the same rules (M52)', async (t) => {
    const { endpoint, stage } = await openWith(t, 'till', 401)
    await decided(stage, 'till', 'denied')
    const { state, last_outcome } = await lastOf(stage)
    assert.deepEqual([state, last_outcome, endpoint.heard.length], ['parked', 'answered 401', 1])
  })
})

describe('retried a few times', () => {
  const manners: [string, ReceiverPace][] = [
    ['500', 500],
    ['503', 503],
    ['429', 429],
    ['with a cut connection', 'drop'],
    ['nothing', 'hang'],
  ]
  for (const [name, manner] of manners) {
    test(`Northbank answers ${name}: three attempts, then parked (M52)`, async (t) => {
      const { endpoint, stage } = await openWith(t, 'northbank', manner)
      await decided(stage, 'northbank')
      await tryUntilSettled(stage)
      const { state, attempts, last_outcome } = await lastOf(stage)
      assert.deepEqual([state, attempts], ['parked', 3])
      assert.match(String(last_outcome), /all 3 attempts used/)
      assert.equal(endpoint.heard.length, 3)
      assert.equal(new Set(endpoint.heard.map(({ text, authorization }) => `${authorization} ${text}`)).size, 1)
    })
  }

  test('Retry-After is honoured', async (t) => {
    const { endpoint, stage } = await openWith(t, 'northbank', { status: 429, headers: { 'retry-after': '90' } }, 204)
    await decided(stage, 'northbank')
    await stage.doorbell.idle()
    stage.clock.advance(89_000)
    await stage.doorbell.idle()
    assert.equal(endpoint.heard.length, 1)
    stage.clock.advance(1_100)
    await stage.doorbell.idle()
    assert.equal(endpoint.heard.length, 2)
    assert.equal((await lastOf(stage)).state, 'delivered')
  })

  test('a repeated push is the same, byte for byte (M37, PU-11)', async (t) => {
    const { endpoint, stage } = await openWith(t, 'till', 500, 'drop', 204)
    await decided(stage, 'till')
    await stage.doorbell.idle()
    await stage.restart()
    await tryUntilSettled(stage)
    assert.equal((await lastOf(stage)).state, 'delivered')
    assert.equal(endpoint.heard.length, 3)
    assert.equal(new Set(endpoint.heard.map(({ text }) => text)).size, 1)
    const authorization = `Bearer ${endpoint.heard[2]!.body.access_token}`
    assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 200, 'the tokens work (M36)')
  })

  test('a request that has expired is not retried (PI-8)', async (t) => {
    const { endpoint, stage } = await openWith(t, 'northbank', 500)
    await stage.ring('northbank', { requested_expiry: '1' })
    await stage.decide(await stage.newestRequest(), 'approved')
    await stage.doorbell.idle()
    stage.clock.advance(5_000)
    const { state } = await lastOf(stage)
    assert.equal(state, 'parked')
    assert.ok(endpoint.heard.length <= 2)
  })
})

describe('the result can be polled, whether or not the ping arrived (M6, M51)', () => {
  for (const manner of [401, 302, 500, 'drop'] as ReceiverPace[]) {
    test(`Northbank answers ${manner}, polls, and gets its tokens (PI-8)`, async (t) => {
      const { endpoint, stage } = await openWith(t, 'northbank', manner)
      const { auth_req_id } = await decided(stage, 'northbank')
      await endpoint.hears(1)
      await stage.doorbell.idle()
      assert.equal((await stage.poll('northbank', auth_req_id)).status, 200)
    })
  }

  test("Northbank's endpoint hangs: pushes to Till and requests are not delayed", async (t) => {
    const till = await openNotificationEndpoint(t)
    const northbank = await openNotificationEndpoint(t)
    northbank.behaves('hang')
    const stage = await openStage(t, {
      northbank: northbank.url,
      till: till.url,
      config: { notifications: { timeout: 30 } },
    })
    for (let i = 0; i < 10; i++) await decided(stage, 'northbank')
    await northbank.hears(4)

    const started = performance.now()
    const { auth_req_id } = await decided(stage, 'till')
    const [push] = await till.hears(1)
    assert.equal(push!.body.auth_req_id, auth_req_id)
    const kiosk = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    assert.equal((await stage.poll('kiosk', kiosk.auth_req_id)).status, 200)
    assert.ok(performance.now() - started < 5_000)
    assert.equal(northbank.heard.length, 4, 'no more than its limit at once')
    northbank.behaves(204)
    await northbank.close() // Makes the open calls fail, so that the stage can close.
  })
})

describe('callbacks to internal addresses are refused (M16, M17)', () => {
  for (const as of ['northbank', 'till'] as const) {
    for (const host of [
      'localhost',
      '127.0.0.1',
      '[::1]',
      '169.254.169.254',
      '10.0.0.1',
      '[::ffff:127.0.0.1]',
      '0.0.0.0',
    ]) {
      test(`${as} at ${host}, outside development: parked as address_forbidden`, async (t) => {
        const target = await openNotificationEndpoint(t)
        const addresses = {
          northbank: 'https://n.example/n',
          till: 'https://t.example/n',
          [as]: `https://${host}:${new URL(target.url).port}/n`,
        }
        const stage = await openStage(t, {
          ...addresses,
          config: { development: false, issuer: 'https://id.example.com' },
        })
        const response = await decided(stage, as)
        const { state, last_outcome } = await lastOf(stage)
        assert.deepEqual([state, last_outcome], ['parked', 'address_forbidden'])
        assert.equal(target.heard.length, 0)
        if (as === 'northbank') assert.equal((await stage.poll(as, response.auth_req_id)).status, 200)
      })
    }
  }
})

/** Advances the clock from one attempt to the next. */
async function tryUntilSettled(stage: Stage) {
  for (let round = 0; round < 8; round++) {
    await stage.doorbell.idle()
    if (['delivered', 'parked'].includes(String((await callBacksOf(stage)).at(-1)!.state))) return
    stage.clock.advance(2_000)
  }
}
