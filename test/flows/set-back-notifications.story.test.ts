/** A wall clock that is set back does not delay notifications that wait for another attempt. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint, type ReceiverPace } from '../support/notification-endpoint.ts'
import { openStage } from '../support/stage.ts'
import { callBacksOf, rowsOf } from '../support/tables.ts'

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** What HAProxy 2.6 answers while no server of its backend is up. */
const haproxyPage =
  '<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n'

const variants: [what: string, as: 'northbank' | 'till', pace: ReceiverPace, setBack: number][] = [
  ['a ping after an answer with 500', 'northbank', 500, 2 * minute],
  ['a ping after a lost connection', 'northbank', 'drop', hour],
  [
    'a push after the page of HAProxy',
    'till',
    { status: 503, headers: { 'content-type': 'text/html', 'cache-control': 'no-cache' }, body: haproxyPage },
    hour,
  ],
  ['a push after a Retry-After of two minutes', 'till', { status: 429, headers: { 'retry-after': '120' } }, day],
  ['a push after an answer with 502', 'till', 502, 30 * day],
]

for (const engine of engines) {
  describe(`a wall clock that is set back, on ${engine.name}`, () => {
    for (const [what, as, pace, setBack] of variants) {
      test(`does not delay ${what}`, async (t) => {
        const { stage, endpoint } = await openFailing(t, engine, as, pace)
        stage.clock.setBack(setBack)
        // The server queries the outbox again after two seconds at the latest.
        stage.clock.advance(2 * second)
        await stage.doorbell.idle()
        await endpoint.hears(2)
        await stage.doorbell.idle()
        const [{ state, attempts } = {}] = await callBacksOf(stage)
        assert.deepEqual([state, attempts], ['delivered', 2])
      })
    }

    for (const [what, as, pace, setBack] of variants) {
      test(`while the server is stopped does not delay ${what}`, async (t) => {
        const { stage, endpoint } = await openFailing(t, engine, as, pace)
        await stage.doorbell.close()
        stage.clock.setBack(setBack)
        await stage.restart()
        await endpoint.hears(2)
      })
    }

    for (const setBack of [2 * minute, hour, day]) {
      test(`by ${setBack / minute} min does not keep the lease of a server that was killed`, async (t) => {
        const { stage, endpoint } = await openFailing(t, engine, 'till', 502)
        await stage.doorbell.close()
        await rowsOf(
          stage,
          `update notifications set state = 'sending', lease = 'x' where state = 'waiting' returning id`,
        )
        stage.clock.setBack(setBack)
        await stage.restart()
        await endpoint.hears(2)
      })
    }

    test('at another node, which has stopped since, delays nothing by more than a minute', async (t) => {
      const { stage, endpoint } = await openFailing(t, engine, 'till', 502)
      stage.clock.advance(minute)
      await endpoint.hears(2)
      await stage.doorbell.idle()
      endpoint.behaves(502, 204)
      await stage.ring('till')
      await stage.decide(await stage.newestRequest(), 'approved')
      await endpoint.hears(3)
      await stage.doorbell.idle()
      await rowsOf(
        stage,
        `update notifications set created_at = created_at + ${hour}, due_at = due_at + ${hour}
         where state = 'waiting' returning id`,
      )
      stage.clock.advance(minute)
      await stage.doorbell.idle()
      await endpoint.hears(4)
    })

    test('ends no pause that a receiver has asked for, if the server is restarted', async (t) => {
      const busy = { status: 429, headers: { 'retry-after': '500' } }
      const { stage, endpoint } = await openFailing(t, engine, 'till', busy)
      await stage.restart()
      stage.clock.advance(2 * minute)
      await stage.doorbell.idle()
      assert.equal(endpoint.heard.length, 1)
    })

    test('by less than a minute ends no pause', async (t) => {
      const busy = { status: 429, headers: { 'retry-after': '120' } }
      const { stage, endpoint } = await openFailing(t, engine, 'till', busy)
      for (let step = 0; step < 3; step++) {
        stage.clock.setBack(50 * second)
        stage.clock.advance(2 * second)
        await stage.doorbell.idle()
      }
      assert.equal(endpoint.heard.length, 1)
      stage.clock.advance(5 * minute)
      await stage.doorbell.idle()
      await endpoint.hears(2)
    })
  })
}

/** Opens a server whose first notification has failed and waits for another attempt. */
async function openFailing(t: TestContext, engine: Engine, as: 'northbank' | 'till', pace: ReceiverPace) {
  const endpoint = await openNotificationEndpoint(t)
  endpoint.behaves(pace, 204)
  const stage = await openStage(t, { engine, [as]: endpoint.url })
  await stage.ring(as)
  await stage.decide(await stage.newestRequest(), 'approved')
  await endpoint.hears(1)
  await stage.doorbell.idle()
  return { stage, endpoint }
}
