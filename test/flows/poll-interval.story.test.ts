/**
 * A client must wait for its interval between two polls. The interval grows if the client polls too early, but always
 * returns to the first interval (CIBA §7.3, §11).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { type Engine, engines } from '../support/engines.ts'
import { playedBy, refusalOf } from '../support/foreign-client.ts'
import { CIBA, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const pending = 'authorization_pending'
const early = 'slow_down'

/** The polls of Kiosk are counted in memory, those of Northbank in the table. */
const clients = ['kiosk', 'northbank'] as const

for (const engine of engines) {
  for (const client of clients) {
    describe(`the interval of ${client}, on ${engine.name}`, () => {
      test('a client that polls on a timer is never too early, however long its polls are on the wire (TK-4)', async (t) => {
        const variants: [name: string, interval: number, pauses: number[]][] = [
          ['0 to 30 ms on the wire', 5, [4_970, 5_030, 4_985, 5_000, 4_970, 5_015]],
          ['one poll half a second late', 5, [5_500, 4_500, 5_000, 5_000, 5_000, 5_000]],
          ['an interval of one second', 1, [1_500, 500, 1_000, 970, 1_030, 500]],
          ['an interval of ten seconds', 10, [11_000, 9_000, 10_000, 9_000, 10_000, 9_000]],
          ['an interval of a minute', 60, [66_000, 54_000, 60_000, 54_000, 60_000, 54_000]],
          ['pauses that are longer than needed', 5, [7_000, 5_000, 60_000, 4_900, 10_000, 5_000]],
        ]
        for (const [name, interval, pauses] of variants) {
          const { poll, interval: told } = await waiting(t, engine, client, { interval })
          assert.equal(told, interval)
          assert.equal(await poll(0), pending, name)
          for (const pause of pauses) assert.equal(await poll(pause), pending, `${name}: after ${pause} ms`)
        }
      })

      test('a poll is too early if more than a tenth of the interval, and more than half a second, is missing (TE-1)', async (t) => {
        for (const [interval, least] of [
          [1, 500],
          [2, 1_500],
          [5, 4_500],
          [10, 9_000],
          [30, 27_000],
        ] as const) {
          const patient = await waiting(t, engine, client, { interval })
          const hasty = await waiting(t, engine, client, { interval })
          for (const { poll } of [patient, hasty]) assert.equal(await poll(0), pending)
          assert.equal(await patient.poll(least), pending, `${least} ms of ${interval} s`)
          assert.equal(await hasty.poll(least - 1), early, `${least - 1} ms of ${interval} s`)
        }
      })

      test('the interval grows up to the longest, which is 30 seconds unless set (M40)', async (t) => {
        for (const [settings, least] of [
          [{}, 27_000],
          [{ longestInterval: 20 }, 18_000],
          [{ longestInterval: 7 }, 6_300],
          [{ longestInterval: 5 }, 4_500],
          [{ interval: 45 }, 40_500],
        ] as const) {
          const { poll } = await waiting(t, engine, client, settings)
          await poll(0)
          for (let number = 0; number < 20; number++) assert.equal(await poll(100), early)
          assert.equal(await poll(least - 1), early, JSON.stringify(settings))
          assert.equal(await poll(least), pending, JSON.stringify(settings))
        }
      })

      test('after two polls that have kept a longer interval, the first interval applies again', async (t) => {
        const stage = await openStage(t, { engine })
        for (const [name, pauses, answers] of [
          ['kept twice', [1_000, 10_000, 10_000, 5_000], 'eppp'],
          ['kept once', [1_000, 10_000, 5_000], 'epe'],
          ['kept once, early, kept twice', [0, 10_000, 5_000, 15_000, 15_000, 5_000], 'epeppp'],
          ['a growth of 20 s, kept twice', [0, 0, 0, 0, 25_000, 25_000, 5_000, 4_499], 'eeeepppe'],
          ['grown, back, and grown again', [0, 10_000, 10_000, 0, 8_999, 13_500, 13_500, 4_500], 'eppeeppp'],
        ] as const) {
          const { poll } = await waitingAt(stage, client)
          await poll(0)
          const heard: unknown[] = []
          for (const pause of pauses) {
            heard.push(await poll(pause))
            // The interval is stored after the answer is sent. No real client polls again within that time.
            await stage.doorbell.idle()
          }
          assert.deepEqual(heard, spelledOut(answers), name)
        }
      })

      test('twenty clients that add five seconds at each slow_down return to the first interval', async (t) => {
        const stage = await openStage(t, { engine })
        const all = await Promise.all(Array.from({ length: 20 }, async (_, number) => timer(stage, client, number)))
        while (all.some(({ polls }) => polls < 9)) {
          const next = all.toSorted((one, other) => one.arrivesAt() - other.arrivesAt())[0]!
          stage.clock.advance(next.arrivesAt() - stage.clock.now())
          await next.poll()
        }
        // One poll of each client was half a second late, so the next poll was too early.
        assert.deepEqual(new Set(all.map(({ own }) => own)), new Set([10]))
        await stage.doorbell.idle()
        const rows = await rowsOf(stage, 'select distinct interval_seconds from backchannel_auth_requests')
        assert.deepEqual(rows, [{ interval_seconds: 5 }])
      })

      test('the polls of openid-client, sent on a timer, are never too early', async (t) => {
        const { stage, authReqId, poll } = await waiting(t, engine, client)
        const configuration = await playedBy(stage, client)
        assert.equal(await poll(0), pending)
        for (const pause of [4_970, 5_030, 4_970, 5_030, 4_970]) {
          stage.clock.advance(pause)
          const call = openid.genericGrantRequest(configuration, CIBA, { auth_req_id: authReqId })
          assert.deepEqual(await refusalOf(call), { error: pending, status: 400 })
        }
      })
    })
  }
}

async function waiting(t: TestContext, engine: Engine, client: (typeof clients)[number], requests = {}) {
  return waitingAt(await openStage(t, { engine, config: { requests } }), client)
}

async function waitingAt(stage: Stage, client: (typeof clients)[number]) {
  const { body } = await stage.ring(client)
  return {
    stage,
    authReqId: String(body.auth_req_id),
    interval: body.interval,
    /** Polls after a pause. */
    async poll(pause: number): Promise<unknown> {
      stage.clock.advance(pause)
      return (await stage.poll(client, body.auth_req_id)).body.error
    },
  }
}

/**
 * Opens a client that polls on a timer. Each poll takes 0 to 30 ms to arrive. The third poll is more than half a second
 * late.
 */
async function timer(stage: Stage, as: (typeof clients)[number], number: number) {
  const { auth_req_id } = (await stage.ring(as)).body
  let sentAt = stage.clock.now() + number * 37
  const client = {
    own: 5,
    polls: 0,
    arrivesAt: () => sentAt + (client.polls === 2 ? 600 + number : (client.polls * 11 + number * 7) % 31),
    async poll() {
      const { error } = (await stage.poll(as, auth_req_id)).body
      if (error === early) client.own += 5
      else assert.equal(error, pending)
      client.polls += 1
      sentAt += client.own * 1000
    },
  }
  return client
}

const spelledOut = (answers: string) => [...answers].map((letter) => (letter === 'e' ? early : pending))
