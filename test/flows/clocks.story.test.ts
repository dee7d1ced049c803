/**
 * A clock is set back, or the clocks of two nodes differ. This does no harm to clients that keep their polling
 * interval.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { aheadOf, machineClock } from '../support/clock.ts'
import { type Engine, engines } from '../support/engines.ts'
import { playedBy, refusalOf } from '../support/foreign-client.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { CIBA, credentials, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

const pending = 'authorization_pending'
const early = 'slow_down'

/** Milliseconds by which a wall clock is set back: by NTP, by hand, or after a host was suspended. */
const setBacks = [1, 700, 4_000, 80_000, 3_600_000, 86_400_000]

for (const engine of engines) {
  describe(`the wall clock is set back, on ${engine.name}`, () => {
    for (const client of ['kiosk', 'northbank'] as const) {
      test(`a client that keeps its interval notices nothing: ${client}`, async (t) => {
        const stage = await openStage(t, { engine })
        const { auth_req_id } = (await stage.ring(client)).body
        const poll = async (after: number) => {
          stage.clock.advance(after)
          return (await stage.poll(client, auth_req_id)).body.error
        }
        assert.equal(await poll(0), pending)
        for (const setBack of setBacks) {
          stage.clock.setBack(setBack)
          assert.equal(await poll(5_000), pending, `set back by ${setBack} ms`)
          assert.equal(await poll(5_000), pending, 'and after that')
        }
        assert.equal(await poll(4_499), early, 'the pause is still measured')
        await stage.doorbell.idle()
        const [row] = await rowsOf(stage, 'select interval_seconds from backchannel_auth_requests')
        assert.equal(row!.interval_seconds, 10)
      })
    }

    test('openid-client gets no slow_down either, even if its server is restarted meanwhile', async (t) => {
      const stage = await openStage(t, { engine })
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const client = await playedBy(stage, 'kiosk')
      const poll = () => refusalOf(openid.genericGrantRequest(client, CIBA, { auth_req_id: String(auth_req_id) }))
      assert.equal((await poll()).error, pending)
      for (const setBack of setBacks) {
        stage.clock.setBack(setBack)
        if (setBack > 1_000) await stage.restart()
        stage.clock.advance(5_000)
        assert.equal((await poll()).error, pending, `set back by ${setBack} ms`)
      }
    })

    test('a held poll is answered in time', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { longPoll: 20 } } })
      for (const setBack of setBacks) {
        const { auth_req_id } = (await stage.ring('kiosk')).body
        const answer = stage.poll('kiosk', auth_req_id)
        const held = async (count: number) =>
          (await stage.get('/metrics')).text.includes(`doorbell_polls_held ${count}\n`)
        await until(() => held(1))
        stage.clock.setBack(setBack)
        stage.clock.advance(19_000)
        assert.ok(await held(1))
        stage.clock.advance(1_000)
        assert.equal((await answer).body.error, pending, `set back by ${setBack} ms`)
      }
    })

    test('authinfo and the list of requests show requests from before', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { defaultExpiry: 86_400 } } })
      const phone = credentials.phoneService
      for (const [number, setBack] of setBacks.entries()) {
        const { auth_req_id } = (await stage.ring('kiosk')).body
        stage.clock.setBack(setBack)
        const form = { login_hint: 'ana', auth_req_id: String(auth_req_id) }
        const { body } = await stage.post('/backchannel/authinfo', form, phone)
        assert.equal((body.requests as { status: string }[])[0]!.status, 'pending')
        assert.equal((await stage.waiting()).length, number + 1, `set back by ${setBack} ms`)
        assert.equal((await stage.doorbell.requests.list('user-ana')).length, number + 1)
      }
    })

    test('requests from before do not count towards the limits of the last minute for ever', async (t) => {
      for (const setBack of [90_000, 600_000, 3_600_000, 86_400_000, 30 * 86_400_000]) {
        const stage = await openStage(t, { engine, config: { limits: { perClientAndUser: { perMinute: 2 } } } })
        const rings = async () => (await stage.ring('kiosk')).status
        assert.deepEqual([await rings(), await rings(), await rings()], [200, 200, 429])
        stage.clock.setBack(setBack)
        assert.deepEqual([await rings(), await rings(), await rings()], [200, 200, 429], `set back by ${setBack} ms`)
      }
    })

    test('numbers in /metrics are still updated', async (t) => {
      const stage = await openStage(t, { engine })
      const open = async () => /^doorbell_requests_open (\d+)$/m.exec((await stage.get('/metrics')).text)?.[1]
      assert.equal(await open(), '0')
      for (const [number, setBack] of setBacks.entries()) {
        await stage.ring('kiosk', { requested_expiry: '86400' })
        stage.clock.setBack(setBack)
        stage.clock.advance(10_000)
        assert.equal(await open(), String(number + 1), `set back by ${setBack} ms`)
      }
    })
  })
}

describe('the clocks of two nodes differ', () => {
  const postgres = engines.find(({ name }) => name === 'postgres')!
  const differences = [-60_000, -2_000, -700, 700, 2_000, 60_000]

  test('a ping client that polls both in turn and keeps its interval gets no slow_down', async (t) => {
    for (const difference of differences) {
      const { stage, polls } = await twoNodes(t, postgres, difference)
      const { auth_req_id } = (await stage.ring('northbank')).body
      const poll = (turn: number) => polls[turn % 2]!('northbank', auth_req_id)
      assert.equal(await poll(0), pending)
      for (let turn = 1; turn < 8; turn++) {
        stage.clock.advance(5_000)
        assert.equal(await poll(turn), pending, `${difference} ms, turn ${turn}`)
      }
      for (const turn of [8, 9]) {
        stage.clock.advance(2_000)
        assert.equal(await poll(turn), early, `${difference} ms: the pause is still measured at node ${turn % 2}`)
      }
    }
  })

  test('a pending request is shown at a node whose clock is behind', async (t) => {
    for (const difference of differences) {
      const { stage, other } = await twoNodes(t, postgres, difference)
      await stage.ring('kiosk')
      const form = { login_hint: 'ana' }
      const { body } = await other.post('/backchannel/authinfo', form, credentials.phoneService)
      assert.equal((body.requests as unknown[]).length, 1, `${difference} ms`)
    }
  })

  test('a poll client that changes nodes when its node stops gets no slow_down', async (t) => {
    for (const difference of differences) {
      const { stage, polls, other } = await twoNodes(t, postgres, difference)
      const { auth_req_id } = (await stage.ring('kiosk')).body
      assert.equal(await polls[1]!('kiosk', auth_req_id), pending)
      await other.doorbell.close()
      stage.clock.advance(5_000)
      assert.equal(await polls[0]!('kiosk', auth_req_id), pending, `${difference} ms`)
    }
  })
})

/**
 * Opens two nodes on one Postgres. The clock of the first node is that of the database. The clock of the second node is
 * ahead of it.
 */
async function twoNodes(t: TestContext, engine: Engine, difference: number) {
  const stage = await openStage(t, { engine })
  const machine = aheadOf(machineClock, difference)
  const other = await openNeighbour(
    t,
    stage,
    {},
    {
      clock: aheadOf(stage.clock, difference),
      openDatabase: (url, surroundings) => openDatabase(url, { ...surroundings, machine }),
    },
  )
  const polls = [stage, other].map((node) => async (client: 'kiosk' | 'northbank', authReqId: unknown) => {
    const form = { grant_type: CIBA, auth_req_id: String(authReqId) }
    return (await node.post('/oauth/token', form, credentials[client])).body.error
  })
  return { stage, other, polls }
}
