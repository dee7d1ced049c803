/**
 * A notification endpoint sends a `Retry-After` that ends after the deadline of the request. A push is retried for ten
 * minutes from the moment when the request is settled. A ping after the deadline would be useless and is not sent (M51,
 * PI-8, PU-2).
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { openTerminal } from '../cli/terminal.ts'
import { createStageClock } from '../support/clock.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint, type ReceiverPace } from '../support/notification-endpoint.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { callBacksOf } from '../support/tables.ts'

/** The secret of the test servers, which commands need. */
const stageSecret = Buffer.alloc(32, 7).toString('base64url')
const second = 1_000
const minute = 60 * second

/** What nginx answers while an upstream server is restarted, with the Retry-After that its operators add. */
const nginxPage = `<html>\r
<head><title>503 Service Temporarily Unavailable</title></head>\r
<body>\r
<center><h1>503 Service Temporarily Unavailable</h1></center>\r
<hr><center>nginx/1.24.0</center>\r
</body>\r
</html>\r
`

const inTwoMinutes: [name: string, pace: ReceiverPace][] = [
  ['503 with Retry-After: 120', { status: 503, headers: { 'retry-after': '120' } }],
  ['429 with Retry-After: 120', { status: 429, headers: { 'retry-after': '120' } }],
  [
    '503 with Retry-After as a date',
    {
      status: 503,
      headers: { date: 'Tue, 24 Nov 2026 10:00:00 GMT', 'retry-after': 'Tue, 24 Nov 2026 10:02:00 GMT' },
    },
  ],
  [
    '503 with the page of nginx',
    {
      status: 503,
      headers: { server: 'nginx/1.24.0', 'content-type': 'text/html', 'retry-after': '120' },
      body: nginxPage,
    },
  ],
  ['502 with Retry-After: 120', { status: 502, headers: { 'retry-after': '120' }, body: 'Bad Gateway' }],
]
const [, busy] = inTwoMinutes[0]!

for (const engine of engines) {
  describe(`a push whose Retry-After ends after the deadline, on ${engine.name}`, () => {
    for (const [name, pace] of inTwoMinutes) {
      test(`${name}: the same tokens arrive two minutes later, and work`, async (t) => {
        const { stage, endpoint } = await openWith(t, engine, 'till', pace, 204)
        await stage.ring('till', { requested_expiry: '30' })
        await stage.decide(await stage.newestRequest(), 'approved')
        await endpoint.hears(1)
        await waitTwoMinutes(stage)
        await endpoint.hears(2)
        assert.equal(endpoint.heard[0]!.text, endpoint.heard[1]!.text)
        const authorization = `Bearer ${endpoint.heard[1]!.body.access_token}`
        assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 200)
        assert.equal((await settled(stage)).state, 'delivered')
      })
    }

    test('a denial arrives two minutes later', async (t) => {
      const { stage, endpoint } = await openWith(t, engine, 'till', busy, 204)
      await stage.ring('till', { requested_expiry: '30' })
      await stage.decide(await stage.newestRequest(), 'denied')
      await endpoint.hears(1)
      await waitTwoMinutes(stage)
      await endpoint.hears(2)
      assert.deepEqual(
        endpoint.heard.map(({ body }) => body.error),
        ['access_denied', 'access_denied'],
      )
      assert.equal((await settled(stage)).state, 'delivered')
    })

    test('an expiry arrives two minutes later', async (t) => {
      const { stage, endpoint } = await openWith(t, engine, 'till', busy, 204)
      await stage.ring('till', { requested_expiry: '30' })
      stage.clock.advance(30 * second)
      await stage.doorbell.sweep()
      await endpoint.hears(1)
      await waitTwoMinutes(stage)
      await endpoint.hears(2)
      assert.equal(endpoint.heard[1]!.body.error, 'expired_token')
      assert.equal((await settled(stage)).state, 'delivered')
    })

    test('an error arrives two minutes later', async (t) => {
      let asked = 0
      const find = async () => ({ id: ana.id, disabled: asked++ > 1 })
      const config = { users: { find, findByHint: async () => ({ id: ana.id }) } }
      const { stage, endpoint } = await openWith(t, engine, 'till', busy, 204, config)
      await stage.ring('till', { requested_expiry: '30' })
      const requestId = await stage.newestRequest()
      await stage.doorbell.idle()
      asked = 1
      await stage.doorbell.requests.approve(requestId, ana.id)
      await endpoint.hears(1)
      await waitTwoMinutes(stage)
      await endpoint.hears(2)
      assert.equal(endpoint.heard[1]!.body.error, 'transaction_failed')
      assert.equal((await settled(stage)).state, 'delivered')
    })

    test('within ten minutes of the decision the push is sent again', async (t) => {
      const late: ReceiverPace = { status: 503, headers: { 'retry-after': '590' } }
      const { stage, endpoint } = await openWith(t, engine, 'till', late, 204)
      await stage.ring('till', { requested_expiry: '30' })
      await stage.decide(await stage.newestRequest(), 'approved')
      await endpoint.hears(1)
      assert.equal((await settled(stage)).state, 'waiting')
      await wait(stage, 590 * second)
      await endpoint.hears(2)
      assert.equal(endpoint.heard[0]!.text, endpoint.heard[1]!.text)
      assert.equal((await settled(stage)).state, 'delivered')
    })

    test('after the ten minutes the push is parked', async (t) => {
      const tooLong: ReceiverPace = { status: 503, headers: { 'retry-after': '601' } }
      const { stage, endpoint } = await openWith(t, engine, 'till', tooLong, 204)
      await stage.ring('till', { requested_expiry: '30' })
      await stage.decide(await stage.newestRequest(), 'approved')
      await endpoint.hears(1)
      const { state, last_outcome } = await settled(stage)
      assert.deepEqual([state, last_outcome], ['parked', 'answered 503; no time left for another attempt'])
      assert.equal(endpoint.heard.length, 1)
    })
  })

  describe(`a ping whose Retry-After ends after the deadline, on ${engine.name}`, () => {
    for (const [name, pace] of inTwoMinutes) {
      test(`${name}: it is parked at once, and not sent again`, async (t) => {
        const { stage, endpoint } = await openWith(t, engine, 'northbank', pace, 204)
        await stage.ring('northbank', { requested_expiry: '30' })
        await stage.decide(await stage.newestRequest(), 'approved')
        await endpoint.hears(1)
        const { state, last_outcome } = await settled(stage)
        assert.equal(state, 'parked')
        assert.match(String(last_outcome), /; no time left for another attempt$/)
        await waitTwoMinutes(stage)
        await stage.doorbell.idle()
        assert.equal(endpoint.heard.length, 1)
      })
    }

    test('a ping that was not sent before the deadline is not sent', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const options = { engine, northbank: endpoint.url }
      const stage = await openStage(t, { ...options, parts: { workers: false } })
      await stage.ring('northbank', { requested_expiry: '30' })
      await stage.decide(await stage.newestRequest(), 'approved')
      stage.clock.advance(31 * second)
      // Only one server may use a SQLite file, so the first server is closed.
      await stage.doorbell.close()
      const same = { name: engine.name, fresh: async () => ({ url: stage.database, drop: async () => {} }) }
      const sending = await openStage(t, { ...options, engine: same, parts: { clock: stage.clock } })
      const { state, last_outcome } = await settled(sending)
      assert.deepEqual([state, last_outcome], ['parked', 'the request expired before the ping could be sent'])
      assert.equal(endpoint.heard.length, 0)
    })

    test('an operator retries it with "doorbell outbox retry": it is refused, and a push is sent', async (t) => {
      const [northbank, till] = [await openNotificationEndpoint(t), await openNotificationEndpoint(t)]
      for (const endpoint of [northbank, till]) endpoint.behaves(404, 204)
      // Commands use the clock of the machine. By that clock, the requests expired long ago.
      const clock = createStageClock(Date.now() - 60 * minute)
      const stage = await openStage(t, { engine, northbank: northbank.url, till: till.url, parts: { clock } })
      for (const as of ['northbank', 'till'] as const) {
        clock.advance(1)
        await stage.ring(as, { requested_expiry: '300' })
        await stage.decide(await stage.newestRequest(), 'approved')
        await stage.doorbell.idle()
      }
      const parked = await callBacksOf(stage)
      assert.deepEqual(
        parked.map(({ kind, state }) => [kind, state]),
        [
          ['ping', 'parked'],
          ['push', 'parked'],
        ],
      )
      const [ping, push] = parked.map(({ id }) => String(id))

      const terminal = await openTerminal(t, { DOORBELL_SECRET: stageSecret, DOORBELL_DATABASE: stage.database })
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ issuer: 'https://id.example.com' }))
      const { code, stderr } = await terminal.run(['outbox', 'retry', ping!])
      assert.equal(code, 1)
      assert.match(stderr, /It is a ping, and its request has expired/)
      assert.deepEqual(await terminal.json(['outbox', 'retry', '--all-parked']), { retried: [push] })
      // The command has set the due time of the push by the clock of the machine, which is ahead of the clock of the
      // stage.
      clock.advance(65 * minute)
      await stage.doorbell.idle()
      assert.deepEqual([northbank.heard.length, till.heard.length], [1, 2])
    })
  })
}

async function openWith(
  t: TestContext,
  engine: Engine,
  as: 'northbank' | 'till',
  first: ReceiverPace,
  then: ReceiverPace,
  config: object = {},
) {
  const endpoint = await openNotificationEndpoint(t)
  endpoint.behaves(first, then)
  return { endpoint, stage: await openStage(t, { engine, [as]: endpoint.url, config }) }
}

const waitTwoMinutes = (stage: Stage) => wait(stage, 2 * minute)

async function wait(stage: Stage, ms: number): Promise<void> {
  await stage.doorbell.idle()
  stage.clock.advance(ms + second)
  await stage.doorbell.sweep()
  await stage.doorbell.idle()
}

async function settled(stage: Stage) {
  await stage.doorbell.idle()
  return (await callBacksOf(stage)).at(-1)!
}
