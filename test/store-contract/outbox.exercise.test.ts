/** The guarantees of the outbox's store, on both engines. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { OutboxMessage } from '../../src/outbox/notification.ts'
import type { OutboxStore } from '../../src/outbox/outbox-store.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { allRows, capacityFor, countByState, furnished, newMessage, post } from '../support/rows.ts'
import { inTime } from '../support/until.ts'

for (const engine of engines) {
  describe(`the outbox, on ${engine.name}`, () => {
    test('of two workers that claim at once, none gets a message of the other', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      const messages = Array.from({ length: 60 }, (_, n) => newMessage(clock.now(), { receiver: `receiver ${n % 20}` }))
      await post(one.database, ...messages)
      const claims = await Promise.all(
        Array.from({ length: 8 }, (_, n) =>
          claim((n % 2 ? one : other).outbox, clock.now(), { room: capacityFor({ ofOtherKind: 10 }) }),
        ),
      )
      const taken = claims.flat().map(({ id }) => id)
      assert.equal(new Set(taken).size, taken.length, 'no message twice')
      for (const { lease, attempts, state } of claims.flat()) {
        assert.ok(lease)
        assert.deepEqual([attempts, state], [1, 'sending'])
      }
      while ((await claim(one.outbox, clock.now())).length > 0);
      assert.deepEqual(await countByState(one.database), { waiting: 0, sending: 60, delivered: 0, parked: 0 })
    })

    test('a message that is not due stays, due ones come in order', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const early = newMessage(clock.now())
      const late = newMessage(clock.now(), { dueAt: clock.now() + 1000 })
      await post(one.database, late, early)
      assert.deepEqual(await one.outbox.nextDue(clock.now()), { next: clock.now() + 1000, isAnyLeft: true })
      assert.deepEqual(ids(await claim(one.outbox, clock.now(), { leaseUntil: clock.now() + 4000 })), [early.id])
      assert.deepEqual(await one.outbox.nextDue(clock.now()), { next: clock.now() + 1000, isAnyLeft: false })
      clock.advance(1000)
      assert.deepEqual(ids(await claim(one.outbox, clock.now())), [late.id])
    })

    test('after the end of a lease another worker takes over, and the late report of the first changes nothing', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      await post(one.database, newMessage(clock.now()))
      const [first] = await claim(one.outbox, clock.now(), { leaseUntil: clock.now() + 1000 })
      assert.deepEqual(await one.outbox.nextDue(clock.now()), { next: clock.now() + 1000, isAnyLeft: false })
      clock.advance(999)
      assert.deepEqual(await claim(other.outbox, clock.now()), [])
      clock.advance(1)
      const [second] = await claim(other.outbox, clock.now())
      assert.deepEqual([second!.id, second!.attempts], [first!.id, 2])

      const before = await allRows(one.database, 'notifications')
      assert.equal(await one.outbox.delivered(first!, 'answered 200', clock.now()), false)
      assert.equal(await one.outbox.reschedule(first!, 'answered 500', clock.now()), false)
      assert.equal(await one.outbox.releaseLease(first!, clock.now()), false)
      assert.equal(await one.outbox.park(first!, 'answered 400', clock.now()), false)
      assert.deepEqual(await allRows(one.database, 'notifications'), before)
      assert.equal(await other.outbox.delivered(second!, 'answered 200', clock.now()), true)
      assert.equal(await other.outbox.delivered(second!, 'answered 200', clock.now()), false)
    })

    test('a receiver has no more under way than its limit, and others go on', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const [slow, fast] = ['slow', 'fast'].map((receiver) =>
        Array.from({ length: 5 }, () => newMessage(clock.now(), { receiver })),
      )
      await post(one.database, ...slow!, ...fast!)
      const [kind, ofOtherLane] = ['tea', 2]
      const first = await claim(one.outbox, clock.now(), { room: capacityFor({ ofOtherReceiver: ofOtherLane }) })
      assert.deepEqual(receiversOf(first), ['fast', 'fast', 'slow', 'slow'])
      // One message to the slow receiver is still being sent. Both messages to the fast receiver have been delivered.
      const single = { kind, receiver: 'slow', room: 1 }
      const second = await claim(one.outbox, clock.now(), {
        room: capacityFor({ ofOtherReceiver: ofOtherLane, receivers: [single] }),
      })
      assert.deepEqual(receiversOf(second), ['fast', 'fast', 'slow'])
      const none = { kind, receiver: 'slow', room: 0 }
      const third = await claim(one.outbox, clock.now(), {
        room: capacityFor({ ofOtherReceiver: ofOtherLane, receivers: [none] }),
      })
      assert.deepEqual(receiversOf(third), ['fast'])
    })

    test('a kind has no more under way than its limit, the oldest first, and others go on', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const kinds = ['tea', 'coffee']
      const messages = kinds.map((kind) =>
        Array.from({ length: 5 }, (_, n) => newMessage(clock.now() - 100 + n, { kind, receiver: `receiver ${n}` })),
      )
      await post(one.database, ...messages.flat())
      const tea = { kind: 'tea', room: 2 }
      const first = await claim(one.outbox, clock.now(), { room: capacityFor({ kinds: [tea] }) })
      assert.deepEqual(ids(first).sort(), ids([...messages[0]!.slice(0, 2), ...messages[1]!]).sort())
      const full = { kind: 'tea', room: 0 }
      assert.deepEqual(await claim(one.outbox, clock.now(), { room: capacityFor({ kinds: [full] }) }), [])
    })

    test('behind thousands for one receiver, the few for others are found at once', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const crowd = Array.from({ length: 2000 }, () => newMessage(clock.now() - 1000, { receiver: 'crowded' }))
      const hidden = ['ana', 'zoe'].flatMap((receiver) =>
        Array.from({ length: 6 }, (_, n) => newMessage(clock.now() - 10 + n, { receiver })),
      )
      const late = newMessage(clock.now() + 1, { receiver: 'late' })
      const coffee = newMessage(clock.now(), { kind: 'coffee', receiver: 'crowded' })
      await post(one.database, ...crowd, ...hidden, late, coffee)
      const kinds = [
        { kind: 'tea', room: 64 },
        { kind: 'coffee', room: 64 },
      ]
      const full = { kind: 'tea', receiver: 'crowded', room: 0 }
      const taken = await claim(one.outbox, clock.now(), {
        room: capacityFor({ ofOtherReceiver: 4, kinds, receivers: [full] }),
      })
      // The oldest messages of each receiver are expected.
      const expected = [...hidden.slice(0, 4), ...hidden.slice(6, 10), coffee]
      assert.deepEqual(ids(taken).sort(), ids(expected).sort())
      const more = await claim(one.outbox, clock.now(), {
        room: capacityFor({ ofOtherReceiver: 4, kinds, receivers: [full] }),
      })
      assert.deepEqual(ids(more).sort(), ids([...hidden.slice(4, 6), ...hidden.slice(10)]).sort())
      // A kind without capacity is not searched.
      const none = [{ kind: 'tea', room: 0 }]
      assert.deepEqual(await claim(one.outbox, clock.now(), { room: capacityFor({ kinds: none }) }), [])
    })

    test('outcomes that arrive together are one step, and each gets its own result', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const messages = Array.from({ length: 30 }, () => newMessage(clock.now()))
      await post(one.database, ...messages)
      const taken = await claim(one.outbox, clock.now())
      const lost = { ...taken[0]!, lease: 'of another' }
      const told = await Promise.all([
        one.outbox.delivered(lost, 'answered 200', clock.now()),
        ...taken.slice(1, 10).map((message) => one.outbox.delivered(message, 'answered 204', clock.now())),
        ...taken.slice(10, 20).map((message) => one.outbox.reschedule(message, 'answered 500', clock.now() + 500)),
        ...taken.slice(20).map((message) => one.outbox.park(message, 'answered 400', clock.now())),
      ])
      assert.deepEqual(told, [false, ...Array.from({ length: 29 }, () => true)])
      assert.deepEqual(await countByState(one.database), { waiting: 10, sending: 1, delivered: 9, parked: 10 })
      assert.equal((await one.outbox.nextDue(clock.now())).next, clock.now() + 500)
    })

    test('with messages for thousands of receivers, a kind is not scanned to find more of them', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const crowd = Array.from({ length: 2000 }, (_, n) =>
        newMessage(clock.now() - 5000 + n, { receiver: `receiver ${2000 - n}` }),
      )
      const few = Array.from({ length: 3 }, (_, n) => newMessage(clock.now(), { kind: 'coffee', receiver: `${n}` }))
      await post(one.database, ...crowd, ...few)
      const room = (tea: number) =>
        capacityFor({
          ofOtherReceiver: 4,
          kinds: [
            { kind: 'tea', room: tea },
            { kind: 'coffee', room: 64 },
          ],
        })
      // The oldest messages of all receivers are expected, and not those of the receivers whose names come first.
      const taken = await claim(one.outbox, clock.now(), { room: room(64) })
      assert.deepEqual(ids(taken).sort(), ids([...crowd.slice(0, 64), ...few]).sort())
      assert.equal(
        (await claim(one.outbox, clock.now(), { room: room(600) })).length,
        600,
        'more than are looked at by age',
      )
    })

    test('delivered messages keep no content', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await post(one.database, newMessage(clock.now(), { address: 'https://client.example/notify' }))
      const [message] = await claim(one.outbox, clock.now())
      assert.ok(message!.sealed)
      await one.outbox.delivered(message!, 'answered 204', clock.now())
      const kept = (await one.outbox.find(message!.id))!
      assert.deepEqual(
        [kept.state, kept.sealed, kept.lease, kept.lastOutcome, kept.settledAt, kept.address],
        ['delivered', undefined, undefined, 'answered 204', clock.now(), 'https://client.example/notify'],
      )
      assert.deepEqual(await claim(one.outbox, clock.now() + 1e9), [])
    })

    test('a failed message waits until it is due again, with its content and its number of attempts', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await post(one.database, newMessage(clock.now()))
      const [message] = await claim(one.outbox, clock.now())
      assert.equal(await one.outbox.reschedule(message!, 'answered 500', clock.now() + 500), true)
      assert.deepEqual(await claim(one.outbox, clock.now() + 499), [])
      const [again] = await claim(one.outbox, clock.now() + 500)
      assert.deepEqual([again!.attempts, again!.lastOutcome, again!.sealed], [2, 'answered 500', message!.sealed])
      assert.notEqual(again!.lease, message!.lease)
    })

    test('a message whose lease is released counts as never claimed, and is announced', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await post(one.database, newMessage(clock.now()))
      const [taken] = await claim(one.outbox, clock.now())
      const heard = new Promise((resolve) => one.database.listen('outbox', (key) => key === taken!.id && resolve(key)))
      assert.equal(await one.outbox.releaseLease(taken!, clock.now()), true)
      assert.equal(await inTime(heard, () => 'the announcement of the released message'), taken!.id)
      const [again] = await claim(one.outbox, clock.now())
      assert.equal(again!.attempts, 1)
    })

    test('only a parked message that still has content can be retried', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await post(one.database, newMessage(clock.now()))
      const [message] = await claim(one.outbox, clock.now())
      const retry = () => one.outbox.retry(message!.id, clock.now(), clock.now() + 60_000)
      assert.equal(await retry(), false, 'it is being sent')
      await one.outbox.park(message!, 'answered 400', clock.now())
      const parked = (await one.outbox.find(message!.id))!
      assert.deepEqual([parked.state, parked.sealed, parked.lastOutcome], ['parked', message!.sealed, 'answered 400'])

      clock.advance(1000)
      const heard = new Promise((resolve) => one.database.listen('outbox', resolve))
      assert.equal(await retry(), true)
      assert.equal(await retry(), false, 'it waits')
      assert.equal(await inTime(heard, () => 'the announcement of the retried message'), message!.id)
      const [again] = await claim(one.outbox, clock.now())
      assert.deepEqual([again!.attempts, again!.giveUpAt, again!.settledAt], [1, clock.now() + 60_000, undefined])
      await one.outbox.park(again!, 'answered 400', clock.now())

      assert.equal(await one.outbox.eraseParked(clock.now(), 9), 0)
      assert.equal(await one.outbox.eraseParked(clock.now() + 1, 9), 1)
      assert.equal(await one.outbox.eraseParked(clock.now() + 1, 9), 0)
      assert.equal((await one.outbox.find(message!.id))!.sealed, undefined)
      assert.equal(await retry(), false, 'it has no content any more')
      assert.equal(await one.outbox.retry('no such message', clock.now(), clock.now()), false)
    })

    test('new content replaces the old, also when another worker has taken over; never after delivery', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await post(one.database, newMessage(clock.now()))
      const replace = async (message: OutboxMessage, content: string) => {
        const first = { sql: 'select 1 as one', values: [] }
        await one.database.step(first, { also: [one.outbox.replaceContent(message.id, content)] })
        return (await one.outbox.find(message.id))!.sealed
      }
      const [first] = await claim(one.outbox, clock.now(), { leaseUntil: clock.now() + 1000 })
      assert.equal(await replace(first!, 'one'), 'one')
      clock.advance(1000)
      const [second] = await claim(one.outbox, clock.now())
      // The first holder of the lease redeems the request in the same step. The content must not be lost although the
      // lease has ended.
      assert.equal(await replace(first!, 'two'), 'two')
      await one.outbox.delivered(second!, 'answered 204', clock.now())
      assert.equal(await replace(second!, 'three'), undefined)
    })

    test('lists are newest first, by state, without the content of messages', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const messages: OutboxMessage[] = []
      for (let number = 0; number < 3; number++) {
        messages.push(newMessage(clock.now()))
        clock.advance(1000)
      }
      await post(one.database, ...messages)
      const [oldest] = await claim(one.outbox, clock.now(), { room: capacityFor({ ofOtherKind: 1 }) })
      await one.outbox.park(oldest!, 'answered 400', clock.now())
      assert.deepEqual(ids(await one.outbox.list(undefined)), ids(messages.toReversed()))
      assert.deepEqual(ids(await one.outbox.list(undefined, 1)), ids(messages.slice(2)))
      const parked = await one.outbox.list('parked')
      assert.deepEqual(ids(parked), [oldest!.id])
      assert.ok(!('sealed' in parked[0]!) && !('lease' in parked[0]!))
      assert.deepEqual(await countByState(one.database), { waiting: 2, sending: 0, delivered: 0, parked: 1 })
    })

    test('the table refuses rows that contradict the states', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await post(one.database, newMessage(clock.now()))
      const nonsense = [
        "state = 'lost'",
        "state = 'sending'",
        "lease = 'mine'",
        "state = 'parked'",
        "state = 'delivered', sealed = null",
        "state = 'delivered', settled_at = 1",
        'settled_at = 1',
        'lane = null',
      ]
      for (const sets of nonsense) {
        const sql = `update notifications set ${sets} returning id`
        await assert.rejects(one.database.step({ sql, values: [] }), /constraint/i, sets)
      }
    })
  })
}

function claim(outbox: OutboxStore, now: number, more: Partial<Parameters<OutboxStore['claimDue']>[0]> = {}) {
  return outbox.claimDue({
    now,
    leaseUntil: now + 4000,
    lease: newSecret(12),
    room: capacityFor(),
    ...more,
  })
}

const ids = (messages: { id: string }[]) => messages.map(({ id }) => id)
const receiversOf = (messages: { receiver: string }[]) => messages.map(({ receiver }) => receiver).sort()
