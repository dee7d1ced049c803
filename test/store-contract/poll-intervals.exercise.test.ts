/**
 * The rules for the interval exist twice: in TypeScript for polls that are counted in memory, and in SQL for polls that
 * are counted in the table.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createRequestStore } from '../../src/ciba/authentication-request/authentication-request-store.ts'
import { countPoll, isTooEarly } from '../../src/ciba/authentication-request/poll-interval.ts'
import { engines } from '../support/engines.ts'
import { allRows, furnished, newRequest } from '../support/rows.ts'

const many = { maxOpenPerUser: 1000 }

/** The pauses between polls are in milliseconds. A pause is negative if a clock was set back. */
const sequences: [name: string, interval: number, longest: number, pauses: number[]][] = [
  ['at once', 5, 30, [0, 0, 0, 0, 0, 0, 0, 0]],
  ['around the tolerance', 5, 30, [4_500, 4_499, 9_000, 8_999, 13_500, 13_500, 4_500, 4_499]],
  ['an interval of a second', 1, 30, [500, 499, 5_400, 5_399, 9_900, 9_900, 500, 499]],
  ['up to a longest interval that is no multiple', 7, 20, [0, 0, 0, 0, 18_000, 18_000, 6_300, 6_299]],
  ['no growth', 60, 60, [54_000, 53_999, 0, 54_000, 54_000, 54_000]],
  ['clocks set back', 5, 30, [-1, -3_600_000, 4_499, -600_000, 9_000, 9_000, 4_500, -86_400_000, 4_499]],
  ['kept once, again and again', 5, 30, [0, 9_000, 8_999, 13_500, 0, 18_000, 18_000, 4_500]],
]

for (const engine of engines) {
  describe(`the interval in the table, on ${engine.name}`, () => {
    for (const [name, interval, longestInterval, pauses] of sequences) {
      test(`changes as in memory: ${name}`, async (t) => {
        const { clock, one } = await furnished(t, engine)
        const requests = createRequestStore(one.database, { longestInterval })
        const expiresAt = clock.now() + 86_400_000
        await requests.accept(newRequest(clock.now(), { id: 'a', interval, expiresAt }), 'a', many)
        const inMemory = { interval, firstInterval: interval, keptPolls: 0 }
        let polledAt = clock.now()
        await requests.poll('a', 'kiosk', polledAt)
        for (const pause of pauses) {
          polledAt += pause
          const tooEarly = isTooEarly(pause, inMemory.interval)
          countPoll(inMemory, tooEarly, longestInterval)
          const poll = (await requests.poll('a', 'kiosk', polledAt))!
          assert.deepEqual(
            [poll.tooEarly, poll.request.interval, poll.keptPolls],
            [tooEarly, inMemory.interval, inMemory.keptPolls],
            `after ${pause} ms`,
          )
        }
      })
    }

    test('of a request that an earlier version has accepted is no longer than the longest', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await one.requests.accept(newRequest(clock.now(), { id: 'a' }), 'a', many)
      const asBefore = `update backchannel_auth_requests set interval_seconds = 85, first_interval_seconds = null,
        kept_polls = null, last_polled_at = $1 returning id`
      await one.database.step({ sql: asBefore, values: [clock.now()] })
      const poll = async (after: number) => {
        clock.advance(after)
        const { tooEarly, request } = (await one.requests.poll('a', 'kiosk', clock.now()))!
        return [tooEarly, request.interval]
      }
      assert.deepEqual(await poll(27_000), [false, 30])
      assert.deepEqual(await poll(26_999), [true, 30])
    })

    test('is replaced by the interval of a node that counted polls in memory', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      await one.requests.accept(newRequest(clock.now(), { id: 'a' }), 'a', many)
      const [{ auth_req_id_hash: hash }] = (await allRows(one.database, 'backchannel_auth_requests')) as [
        { auth_req_id_hash: string },
      ]
      const lastPolledAt = clock.now()
      const row = async () => {
        const [found] = await allRows(other.database, 'backchannel_auth_requests')
        return [found!.interval_seconds, found!.kept_polls, found!.last_polled_at]
      }
      const changed = { interval: 15, keptPolls: 1 }
      await one.requests.keepPolls([{ authReqIdHash: hash, lastPolledAt, changed }])
      assert.deepEqual(await row(), [15, 1, lastPolledAt])
      await one.requests.keepPolls([{ authReqIdHash: hash, lastPolledAt: lastPolledAt + 1 }])
      assert.deepEqual(await row(), [15, 1, lastPolledAt + 1], 'an interval that was not changed here is kept')
      await one.requests.keepPolls([{ authReqIdHash: hash, lastPolledAt, changed: { interval: 5, keptPolls: 0 } }])
      assert.deepEqual(await row(), [5, 0, lastPolledAt + 1])
    })
  })
}
