/**
 * Requests with too little time for an answer. Their lifetime is extended. If they are not answered, their client must
 * wait longer before its next request.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { expire } from '../../src/ciba/decision/decide.ts'
import { createDenialPauseStore } from '../../src/ciba/request-limits/denial-pause-store.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { engines } from '../support/engines.ts'
import { allRows, furnished, newRequest } from '../support/rows.ts'
import { type Answer, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const second = 1_000

/** The limits as outside development. */
const usual: ConfigInput = {
  requests: { minExpiry: 30 },
  limits: { perClientAndUser: { open: 2, perMinute: 5 }, pauseAfterDenial: { first: 30, longest: 3600 } },
}

for (const engine of engines) {
  describe(`requests that expire within a minute, on ${engine.name}`, () => {
    // No workers run, so the sweep runs only when the test calls it.
    const open = (t: TestContext, config: ConfigInput = usual): Promise<Stage> =>
      openStage(t, { engine, config, parts: { workers: false } })

    /** Advances the clock, and lets the sweep settle what has expired. */
    async function wait(stage: Stage, seconds: number): Promise<void> {
      stage.clock.advance(seconds * second)
      await stage.doorbell.sweep()
    }

    const outcome = ({ status, headers }: Answer) => [status, headers.get('retry-after')]

    test("get the server's minimum as lifetime, and their client is told it", async (t) => {
      const stage = await open(t)
      for (const [asked, given] of [
        ['1', 30],
        ['29', 30],
        ['31', 31],
      ] as const) {
        const { body } = await stage.ring('kiosk', {
          requested_expiry: asked,
          login_hint: asked === '1' ? 'ana' : 'ben',
        })
        assert.equal(body.expires_in, given)
      }
      stage.clock.advance(29 * second)
      assert.equal((await stage.waiting('ana')).length, 1, 'the user can still answer')
    })

    test('are accepted less and less often: of 240 within an hour, eight reach the user', async (t) => {
      const stage = await open(t)
      const acceptedAt: number[] = []
      for (let seconds = 0; seconds < 3600; seconds += 15) {
        const { status } = await stage.ring('kiosk', { requested_expiry: '1' })
        if (status === 200) acceptedAt.push(seconds)
        await wait(stage, 15)
      }
      // Two requests are pending at once. They expire one after the other, and each expiry makes the pause longer.
      assert.equal(acceptedAt.length, 8, String(acceptedAt))
    })

    test('count before the sweep has settled them', async (t) => {
      const stage = await open(t)
      await stage.ring('kiosk', { requested_expiry: '30' })
      stage.clock.advance(30 * second)
      for (const each of [1, 2, 3]) assert.deepEqual(outcome(await stage.ring('kiosk')), [429, '1'], String(each))
      assert.equal((await stage.ring('northbank')).status, 200, 'another client may ask')
      assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'and it may ask Ben')
      await stage.doorbell.sweep()
      assert.deepEqual(outcome(await stage.ring('kiosk')), [429, '30'])
    })

    test('cause no pause if they are approved, or asked for at least a minute; an approval clears the pause', async (t) => {
      const stage = await open(t)
      await stage.ring('kiosk', { requested_expiry: '30' })
      await stage.decide(await stage.newestRequest(), 'approved')
      await wait(stage, 30)
      assert.equal((await stage.ring('kiosk', { requested_expiry: '60' })).status, 200, 'approved, and not collected')
      await wait(stage, 60)
      const pauses = () => rowsOf(stage, 'select pause from denial_pauses')
      assert.deepEqual(await pauses(), [])
      await stage.ring('kiosk', { requested_expiry: '59' })
      await wait(stage, 59)
      assert.deepEqual(
        (await pauses()).map(({ pause }) => Number(pause)),
        [30 * second],
      )
      await wait(stage, 31)
      await stage.ring('kiosk')
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.deepEqual(await pauses(), [])
    })

    test('cause the same pauses for a decoy user', async (t) => {
      const stage = await open(t, { ...usual, requests: { ...usual.requests, unknownUsers: 'pretend' } })
      const story = async (login_hint: string) => {
        const heard = [outcome(await stage.ring('kiosk', { login_hint, requested_expiry: '1' }))]
        stage.clock.advance(30 * second)
        heard.push(outcome(await stage.ring('kiosk', { login_hint })))
        await stage.doorbell.sweep()
        heard.push(outcome(await stage.ring('kiosk', { login_hint })))
        return heard
      }
      assert.deepEqual(await story('somebody'), await story('ana'))
    })

    test('change nothing where pauses are switched off', async (t) => {
      const stage = await open(t, {})
      for (const each of [1, 2, 3]) {
        const { status, body } = await stage.ring('kiosk', { requested_expiry: '1' })
        assert.deepEqual([status, body.expires_in], [200, 1], String(each))
        stage.clock.advance(1 * second)
      }
    })

    test('lengthen the pause in the step of their expiry, once, however many nodes find them', async (t) => {
      const { clock, nodes, one } = await furnished(t, engine, { count: 2 })
      const nodeNeeds = nodes.map((node) => ({
        ...node.needs,
        denialPauses: createDenialPauseStore(node.database, { first: 30 * second, longest: 3600 * second }),
      }))
      const users = Array.from({ length: 20 }, (_, number) => `user-${number}`)
      const requests = users.flatMap((userId) =>
        ['kiosk', 'kiosk', 'booth'].map((clientId) =>
          newRequest(clock.now(), { userId, clientId, expiresAt: clock.now() + 30 * second }),
        ),
      )
      const many = { maxOpenPerUser: 1000 }
      await Promise.all(requests.map((request) => one.requests.accept(request, request.id, many)))
      clock.advance(30 * second)
      const [forwards, backwards] = [requests, requests.toReversed()]
      const done = await Promise.all([
        ...forwards.map((request) => expire(request, nodeNeeds[0]!)),
        ...backwards.map((request) => expire(request, nodeNeeds[1]!)),
      ])
      assert.equal(done.filter(Boolean).length, 60)
      const pauses = await allRows(one.database, 'denial_pauses')
      assert.equal(pauses.length, 40)
      for (const { client_id, pause, paused_until } of pauses) {
        const expected = client_id === 'kiosk' ? 60 * second : 30 * second
        assert.deepEqual([pause, paused_until], [expected, clock.now() + expected])
      }
    })

    test('an approval just before the sweep does not count as unanswered', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const limits = { first: 30 * second, longest: 3600 * second }
      const needs = { ...one.needs, denialPauses: createDenialPauseStore(one.database, limits) }
      const request = newRequest(clock.now(), { expiresAt: clock.now() + 30 * second })
      await one.requests.accept(request, request.id, { maxOpenPerUser: 9 })
      const yes = { userId: request.userId, outcome: 'approved', settledBy: 'x', now: clock.now(), authentication: {} }
      await one.requests.settle(request.id, { ...yes, outcome: 'approved' })
      clock.advance(30 * second)
      assert.equal(await expire(request, needs), false, 'the sweep has read it as pending')
      assert.equal(await expire((await one.requests.find(request.id))!, needs), true)
      assert.deepEqual(await allRows(one.database, 'denial_pauses'), [])
    })

    test('a pause never exceeds the longest one, however many expire in one step', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const pauses = createDenialPauseStore(one.database, { first: 30 * second, longest: 100 * second })
      const [statement] = pauses.lengthen('u', 'c', clock.now())
      if (statement === undefined || !('rows' in statement)) return assert.fail('one statement about rows')
      const times = (count: number) => ({ ...statement, rows: Array(count).fill(statement.rows[0]) })
      const pause = async () => (await allRows(one.database, 'denial_pauses'))[0]?.pause
      const step = (count: number) =>
        one.database.step({ sql: 'select 1 as one', values: [] }, { also: [times(count)] })
      await step(1)
      assert.equal(await pause(), 30 * second)
      await step(1)
      assert.equal(await pause(), 60 * second)
      await step(200)
      assert.equal(await pause(), 100 * second)
    })
  })
}
