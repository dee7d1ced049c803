/** The messages of these tests are orders of tea, because the outbox does not depend on CIBA. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drunk, spilt, start, tea, teaRoom, turn } from '../../test/support/outbox.ts'
import { capacityFor, countByState, post } from '../../test/support/rows.ts'
import { until } from '../../test/support/until.ts'
import type { OutboxMessage, Outcome } from './notification.ts'

test('messages stored before the start are sent, and messages added later are sent at once', async (t) => {
  const { table, worker, served, outbox } = await teaRoom(t)
  await post(table, tea(), tea())
  worker.start()
  await worker.idle()
  assert.equal(served.length, 2)
  await post(table, tea())
  await worker.idle()
  assert.equal(served.length, 3)
  assert.deepEqual(await countByState(table), { waiting: 0, sending: 0, delivered: 3, parked: 0 })
  assert.equal((await outbox.find(served[0]!.id))!.lastOutcome, 'drunk')
})

test('a message that was not announced is found by the next regular query', async (t) => {
  const { table, worker, served, clock, outbox } = await teaRoom(t)
  worker.start()
  await worker.idle()
  await table.step({ sql: 'select 1 as one', values: [] }, { also: [outbox.add(tea())] })
  clock.advance(2_000)
  await until(() => served.length === 1)
})

test('a failed attempt is made again after growing pauses, until it succeeds', async (t) => {
  const { table, worker, served, clock, outbox, serve } = await teaRoom(t)
  serve(spilt, spilt, spilt, drunk)
  const message = tea()
  await post(table, message)
  worker.start()
  for (const [before, pause] of [
    [1, 500],
    [2, 1000],
    [3, 2000],
  ] as const) {
    await worker.idle()
    assert.equal(served.length, before)
    const { state, attempts, dueAt, lastOutcome } = (await outbox.find(message.id))!
    assert.deepEqual([state, attempts, lastOutcome], ['waiting', before, 'spilt'])
    assert.ok(dueAt - clock.now() >= pause / 2 && dueAt - clock.now() <= pause)
    // Only the timer for `dueAt` wakes the worker.
    clock.advance(dueAt - clock.now() - 1)
    await worker.idle()
    assert.equal(served.length, before)
    clock.advance(10)
    await until(() => served.length === before + 1)
  }
  await worker.idle()
  assert.equal((await outbox.find(message.id))!.state, 'delivered')
})

test('a message that is refused, out of attempts or time, or of an unknown kind is parked, with the reason', async (t) => {
  const { table, worker, clock, outbox, serve, served, logLines } = await teaRoom(t, { attempts: 2 })
  const reasonOf = async (message: OutboxMessage) => {
    const { state, lastOutcome } = (await outbox.find(message.id))!
    return [state, lastOutcome]
  }
  worker.start()

  const [refused, spiltTwice, late, coffee] = [tea(), tea(), tea({ giveUpAt: start }), tea({ kind: 'coffee' })]
  serve({ kind: 'refused', words: 'too cold' })
  await post(table, refused!)
  await worker.idle()
  assert.deepEqual(await reasonOf(refused!), ['parked', 'too cold'])

  serve(spilt)
  await post(table, spiltTwice!)
  await worker.idle()
  clock.advance(500)
  await worker.idle()
  assert.deepEqual(await reasonOf(spiltTwice!), ['parked', 'spilt; all 2 attempts used'])

  const before = served.length
  await post(table, late!, coffee!)
  await worker.idle()
  assert.deepEqual(await reasonOf(late!), ['parked', 'it expired before it could be sent'])
  assert.deepEqual(await reasonOf(coffee!), ['parked', 'no sender for the kind coffee'])
  assert.equal(served.length, before, 'they were not sent')
  assert.equal(logLines.filter((line) => line.includes('notification.parked')).length, 4)
})

test('if a sender throws, the attempt has failed, is retried, and the error is logged', async (t) => {
  const { table, worker, clock, outbox, serve, logLines } = await teaRoom(t)
  serve(() => Promise.reject(new Error('the kettle is broken')), drunk)
  const message = tea()
  await post(table, message)
  worker.start()
  await worker.idle()
  const { state, lastOutcome } = (await outbox.find(message.id))!
  assert.deepEqual([state, lastOutcome], ['waiting', 'an internal error'])
  assert.ok(logLines.some((line) => line.includes('the kettle is broken')))
  clock.advance(1000)
  await worker.idle()
  assert.equal((await outbox.find(message.id))!.state, 'delivered')
})

test('stopping waits for messages that are being sent', async (t) => {
  const { table, worker, serve, outbox } = await teaRoom(t)
  const poured = Promise.withResolvers<Outcome>()
  const begun = Promise.withResolvers<void>()
  serve(() => {
    begun.resolve()
    return poured.promise
  })
  const message = tea()
  await post(table, message)
  worker.start()
  await begun.promise
  const stopped = Promise.all([worker.stop(), worker.stop()])
  await post(table, tea())
  poured.resolve(drunk)
  await stopped
  assert.equal((await outbox.find(message.id))!.state, 'delivered')
  assert.equal((await countByState(table)).waiting, 1, 'a later message is left to other nodes')
})

test('a message that is not sent within the grace period is released, as if it had never been claimed', async (t) => {
  const { table, worker, serve, outbox, clock } = await teaRoom(t)
  const begun = Promise.withResolvers<void>()
  serve((_, signal) => {
    begun.resolve()
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  })
  const message = tea()
  await post(table, message)
  worker.start()
  await begun.promise
  const stopped = worker.stop(3000)
  // The worker sets the timer of the grace period only after its last query. So the clock is advanced until this timer
  // has fired.
  let over = false
  stopped.then(() => {
    over = true
  })
  await until(() => {
    clock.advance(1000)
    return over
  })
  const { state, attempts, lease } = (await outbox.find(message.id))!
  assert.deepEqual([state, attempts, lease], ['waiting', 0, undefined])

  serve(async (_, signal) => (signal.aborted ? spilt : drunk))
  worker.start()
  await worker.idle()
  assert.equal((await outbox.find(message.id))!.state, 'delivered', 'after another start, nothing is aborted')
})

test('a second start or stop has no effect, and nothing is sent after the stop', async (t) => {
  const { table, worker, served, listeners } = await teaRoom(t)
  worker.start()
  worker.start()
  await worker.idle()
  assert.equal(listeners(), 1)
  await worker.stop()
  await worker.stop()
  assert.equal(listeners(), 0)
  await post(table, tea())
  worker.wake()
  await worker.idle()
  assert.equal(served.length, 0)
})

test('after a database error the query is repeated, and until then the worker is not idle', async (t) => {
  const { table, worker, served, clock, logLines, fail } = await teaRoom(t)
  await post(table, tea())
  fail(2)
  let idle = false
  worker.start()
  worker.idle().then(() => {
    idle = true
  })
  await until(() => logLines.filter((line) => line.includes('outbox.look_failed')).length > 0)
  await turn()
  assert.equal(idle, false)
  await until(() => {
    clock.advance(2_000)
    return served.length === 1
  })
  await until(() => idle)
})

test('if an outcome cannot be recorded, the message is sent again after the lease', async (t) => {
  const { table, worker, served, clock, logLines, outbox, failWriting } = await teaRoom(t)
  const message = tea()
  await post(table, message)
  failWriting(1)
  worker.start()
  await until(() => logLines.some((line) => line.includes('outbox.record_failed')))
  await worker.idle()
  assert.equal((await outbox.find(message.id))!.state, 'sending')
  clock.advance(1000 + 2000 - 1)
  await worker.idle()
  assert.equal(served.length, 1)
  clock.advance(1 + 10)
  await until(() => served.length === 2)
  await worker.idle()
  assert.equal((await outbox.find(message.id))!.state, 'delivered')
})

test('an outcome is discarded if the lease ended meanwhile and another worker has the message', async (t) => {
  const { table, worker, served, serve, clock, logLines, outbox } = await teaRoom(t, { attempts: 1 })
  const message = tea()
  serve(async () => {
    const claim = { now: clock.now() + 3000, leaseUntil: clock.now() + 6000, lease: 'of another', room: capacityFor() }
    const [taken] = await outbox.claimDue(claim)
    await outbox.delivered(taken!, 'answered 204', clock.now())
    return { kind: 'failed', words: 'timeout' }
  })
  await post(table, message)
  worker.start()
  await worker.idle()
  assert.equal(served.length, 1)
  assert.equal((await outbox.find(message.id))!.state, 'delivered')
  assert.deepEqual(
    logLines.filter((line) => line.includes('notification.parked')),
    [],
  )
})
