/** Many receivers hang. They do not take the slots of receivers that respond, on both engines. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Outcome } from '../../src/outbox/notification.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { engines } from '../support/engines.ts'
import { drunk, postOne, spilt, tea, teaRoom } from '../support/outbox.ts'
import { capacityFor, countByState, furnished, newMessage, post } from '../support/rows.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  describe(`receivers that hang, on ${engine.name}`, () => {
    test('thirty of them get half of the slots at first, a quarter afterwards, and delay nobody else', async (t) => {
      const { one } = await furnished(t, engine)
      const { worker, table, serve, served, outbox, clock } = await teaRoom(t, { on: one.database })
      let answer = Promise.withResolvers<Outcome>()
      let hanging = 0
      // Ends the attempts even if the test fails. Without this promise, they would never end.
      const isOver = Promise.withResolvers<Outcome>()
      serve(async ({ receiver }) => {
        if (!receiver.startsWith('hanging')) return drunk
        hanging += 1
        const outcome = await Promise.race([answer.promise, isOver.promise])
        hanging -= 1
        return outcome
      })
      const arrives = async (receiver: string, how: 'announced' | 'at once') => {
        const message = tea({ receiver })
        if (how === 'announced') await post(table, message)
        else assert.deepEqual(await postOne(worker, table, message), [], `${receiver} has a slot`)
        await until(async () => (await outbox.find(message.id))!.state === 'delivered')
      }
      const endsSlowly = () => {
        const former = answer
        answer = Promise.withResolvers()
        clock.advance(1_500)
        former.resolve(spilt)
      }
      try {
        worker.start()
        await arrives('till', 'announced')

        const receivers = Array.from({ length: 30 }, (_, number) => `hanging ${number}`)
        await post(table, ...receivers.flatMap((receiver) => Array.from({ length: 15 }, () => tea({ receiver }))))
        await until(() => hanging === 32)
        await arrives('till', 'announced')
        await arrives('till', 'at once')
        assert.equal(hanging, 32)
        assert.equal(new Set(served.map(({ receiver }) => receiver)).size, 31, 'each of them has got its turn')

        // When the first attempt at a receiver has ended, the receiver is known to be slow. Until all first attempts
        // have ended, other receivers get slots.
        endsSlowly()
        await until(async () => (await countSpilt(table)) === 32)
        // Queries of the outbox run one after the other. The query that finds the second message knows all slow
        // receivers.
        for (let looks = 0; looks < 2; looks++) await arrives('till', 'announced')
        endsSlowly()
        await until(() => hanging === 16)
        await arrives('till', 'announced')
        await arrives('kiosk', 'announced')
        await arrives('till', 'at once')
        assert.equal(hanging, 16)
        const next = served.filter(({ receiver }) => receiver.startsWith('hanging')).slice(-16)
        assert.equal(new Set(next.map(({ receiver }) => receiver)).size, 16, 'one slot for each receiver')
      } finally {
        isOver.resolve(drunk)
      }

      // The receivers respond at last.
      await worker.idle()
      clock.advance(2_000)
      await worker.idle()
      assert.deepEqual(await countByState(table), { waiting: 0, sending: 0, delivered: 458, parked: 0 })
    })

    for (const count of [14, 140]) {
      test(`${count} that have answered quickly, and then hang, delay others for a second for each 64 of them`, async (t) => {
        const { one } = await furnished(t, engine)
        const { worker, table, serve, outbox, clock } = await teaRoom(t, { on: one.database })
        const toEach = (messages: number) =>
          Array.from({ length: count * messages }, (_, number) => tea({ receiver: `fickle ${number % count}` }))
        worker.start()
        await post(table, tea({ receiver: 'till' }), ...toEach(2))
        await worker.idle()

        const isOver = Promise.withResolvers<Outcome>()
        let hanging = 0
        serve(({ receiver }) => {
          if (receiver === 'till') return Promise.resolve(drunk)
          hanging += 1
          return isOver.promise
        })
        try {
          await post(table, ...toEach(16))
          await until(() => hanging === 64)
          const message = tea({ receiver: 'till' })
          await post(table, message)
          for (let before = 128; before <= count; before += 64) {
            clock.advance(1_000)
            await until(() => hanging === before)
          }
          clock.advance(1_000)
          await until(async () => (await outbox.find(message.id))!.state === 'delivered')
          assert.ok(hanging <= 64 * Math.ceil(count / 64) + 16, `${hanging} hang`)
        } finally {
          isOver.resolve(drunk)
        }
        await worker.idle()
        assert.equal((await countByState(table)).delivered, 2 + 18 * count)
      })
    }

    test('of messages that wait, the receivers come in turn, with those under way counted', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const waiting = (receiver: string, age: number, count: number) =>
        Array.from({ length: count }, () => newMessage(clock.now() - age, { receiver }))
      const slow = Array.from({ length: 100 }, (_, number) => `slow ${number}`)
      await post(
        one.database,
        ...slow.flatMap((receiver) => waiting(receiver, 1000, 10)),
        ...waiting('busy', 900, 10),
        ...waiting('quick', 100, 3),
        ...waiting('new', 100, 3),
      )
      const taken = await one.outbox.claimDue({
        now: clock.now(),
        leaseUntil: clock.now() + 4000,
        lease: newSecret(12),
        room: capacityFor({
          ofOtherReceiver: 4,
          kinds: [{ kind: 'tea', room: 22, roomOfNew: 32, roomOfSlow: 16 }],
          receivers: [
            ...slow.map((receiver) => ({ kind: 'tea', receiver, room: 4, standing: 'slow' as const })),
            { kind: 'tea', receiver: 'busy', room: 12, underWay: 4, standing: 'quick' },
            { kind: 'tea', receiver: 'quick', room: 16, standing: 'quick' },
          ],
        }),
      })
      const counts = Object.groupBy(taken, ({ receiver }) => receiver.split(' ')[0]!)
      assert.deepEqual(
        Object.fromEntries(Object.entries(counts).map(([group, messages]) => [group, messages!.length])),
        { slow: 16, quick: 3, new: 3 },
      )
      assert.equal(new Set(counts.slow!.map(({ receiver }) => receiver)).size, 16)
    })
  })
}

async function countSpilt(table: Database): Promise<number> {
  const [row] = await table.read<{ n: number }>(
    "select count(*) as n from notifications where state = 'waiting' and last_outcome = 'spilt'",
    [],
  )
  return row!.n
}
