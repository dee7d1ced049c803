/** Tests of how many messages are sent at once: to one receiver, of one kind, and in total. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drunk, postFour, postOne, spilt, tea, teaRoom, turn } from '../../test/support/outbox.ts'
import { countByState, post } from '../../test/support/rows.ts'
import { until } from '../../test/support/until.ts'
import type { Outcome } from './notification.ts'

test('a receiver that hangs delays only its own messages, and never gets more than four at once', async (t) => {
  const { table, worker, served, serve } = await teaRoom(t)
  const opened = Promise.withResolvers<void>()
  let hanging = 0
  let most = 0
  serve(async (message) => {
    if (message.receiver !== 'ben') return drunk
    hanging += 1
    most = Math.max(most, hanging)
    await opened.promise
    hanging -= 1
    return drunk
  })
  worker.start()
  // The test waits for each message to Ana. So the worker finds each pair by a separate query, while earlier messages
  // to Ben are in progress.
  for (let number = 0; number < 10; number++) {
    await post(table, tea({ receiver: 'ben' }), tea({ receiver: 'ana' }))
    await until(() => served.filter(({ receiver }) => receiver === 'ana').length === number + 1)
  }
  await until(async () => (await countByState(table)).delivered === 10)
  assert.deepEqual([hanging, most], [4, 4])
  opened.resolve()
  await worker.idle()
  assert.deepEqual(await countByState(table), { waiting: 0, sending: 0, delivered: 20, parked: 0 })
})

test('if three messages hang and four more arrive, still four are sent at once', async (t) => {
  const { table, worker, serve, outbox } = await teaRoom(t)
  const opened = Promise.withResolvers<void>()
  let hanging = 0
  serve(async () => {
    hanging += 1
    await opened.promise
    return drunk
  })
  worker.start()
  await post(table, tea(), tea(), tea())
  await until(() => hanging === 3)
  await post(table, tea(), tea(), tea(), tea())
  await until(() => hanging === 4)
  // The worker's queries run one after the other. So when the message to the other receiver is being sent, the previous
  // query has ended.
  const other = tea({ receiver: 'ben' })
  await post(table, other)
  await until(async () => (await outbox.find(other.id))!.state === 'sending')
  assert.equal((await countByState(table)).waiting, 3)
  opened.resolve()
  await worker.idle()
  assert.equal(hanging, 8)
})

test('a receiver that responds quickly gets up to sixteen at once, and four again after a failure', async (t) => {
  const { table, worker, serve } = await teaRoom(t)
  let atOnce = 0
  let most = 0
  const slowly = (outcome: Outcome) => async () => {
    atOnce += 1
    most = Math.max(most, atOnce)
    for (let turns = 0; turns < 20; turns++) await turn()
    atOnce -= 1
    return outcome
  }
  serve(slowly(drunk))
  await post(table, ...Array.from({ length: 200 }, () => tea()))
  worker.start()
  await worker.idle()
  assert.equal(most, 16)

  serve(slowly(spilt))
  await post(table, tea())
  await worker.idle()
  most = 0
  await post(table, ...Array.from({ length: 40 }, () => tea()))
  await worker.idle()
  assert.equal(most, 4)
})

test('a kind that hangs for all receivers does not delay another kind', async (t) => {
  const { table, worker, served, serve, outbox } = await teaRoom(t)
  const opened = Promise.withResolvers<Outcome>()
  serve(() => opened.promise)
  await post(table, ...Array.from({ length: 700 }, (_, number) => tea({ receiver: `receiver ${number}` })))
  worker.start()
  await until(() => served.length === 32)
  // More messages became due before the milk than one query considers (`manyDue`).
  const milk = tea({ kind: 'milk' })
  await post(table, milk)
  await until(async () => (await outbox.find(milk.id))!.state === 'delivered')
  assert.equal(served.length, 32)
  opened.resolve(drunk)
  await worker.idle()
  assert.equal(served.length, 700)
})

test('a message without capacity waits, and later messages do not overtake it', async (t) => {
  const { table, worker, served, serve, outbox, fail, logLines } = await teaRoom(t)
  const [first, others] = [Promise.withResolvers<Outcome>(), Promise.withResolvers<Outcome>()]
  serve(
    () => first.promise,
    () => others.promise,
  )
  worker.start()
  await worker.idle()
  await postFour(worker, table)
  await until(() => served.length === 4)
  const fifth = tea()
  assert.deepEqual(await postOne(worker, table, fifth), ['outbox'])
  assert.equal((await outbox.find(fifth.id))!.state, 'waiting')
  // Another receiver of the same kind has capacity.
  assert.deepEqual(await postOne(worker, table, tea({ receiver: 'ben' })), [])
  await until(() => served.length === 5)

  // There is capacity again, but the worker's query fails, so that the worker does not find the waiting message yet.
  fail(1)
  first.resolve(drunk)
  await until(() => logLines.some((line) => line.includes('outbox.look_failed')))
  assert.deepEqual(await postOne(worker, table, tea()), ['outbox'])
  others.resolve(drunk)
  await worker.idle()
  assert.equal(served.length, 7)
  // The receiver has no backlog any more.
  assert.deepEqual(await postOne(worker, table, tea()), [])
})

test('a receiver that responds slowly, even without errors, gets no more than four at once', async (t) => {
  const { table, worker, serve, clock } = await teaRoom(t)
  const slow = countingAtOnce(async () => {
    await turn()
    clock.advance(1_000)
    await turn()
  })
  serve(slow.send)
  await post(table, ...Array.from({ length: 40 }, () => tea()))
  worker.start()
  await worker.idle()
  assert.equal(slow.most(), 4)
})

for (const [what, slow] of [
  ['database that records slowly', ({ clock, beforeWriting }) => beforeWriting(() => clock.advance(2_000))],
  [
    'slow look-up before the call',
    ({ clock, beforeCall }) =>
      beforeCall(async () => {
        await turn()
        clock.advance(2_000)
      }),
  ],
] satisfies [string, (room: Awaited<ReturnType<typeof teaRoom>>) => void][]) {
  test(`a ${what} makes no receiver slow`, async (t) => {
    const room = await teaRoom(t)
    slow(room)
    const quick = countingAtOnce(turn)
    room.serve(quick.send)
    await post(room.table, ...Array.from({ length: 40 }, () => tea()))
    room.worker.start()
    await room.worker.idle()
    assert.ok(quick.most() > 4, `${quick.most()} at once`)
  })
}

test('messages whose look-up takes long leave their slots to other messages after a second', async (t) => {
  const { table, worker, served, clock, beforeCall } = await teaRoom(t)
  const toEach = (name: string) => Array.from({ length: 64 }, (_, number) => tea({ receiver: `${name} ${number}` }))
  await post(table, ...toEach('receiver'))
  worker.start()
  await worker.idle()
  const found = Promise.withResolvers<void>()
  let lookUps = 0
  beforeCall(async ({ receiver }) => {
    if (!receiver.startsWith('receiver')) return
    lookUps += 1
    await found.promise
  })
  await post(table, ...toEach('receiver'))
  await until(() => lookUps === 64)
  await postOne(worker, table, tea({ receiver: 'ben' }))
  await turn()
  assert.equal(served.length, 64)
  clock.advance(1_000)
  await until(() => served.length === 65)
  found.resolve()
  await worker.idle()
  assert.equal(served.length, 129)
})

test('while its whole kind is full, a message to a free receiver waits too, and is not overtaken', async (t) => {
  const { table, worker, served, serve, fail, logLines } = await teaRoom(t)
  const [first, others] = [Promise.withResolvers<Outcome>(), Promise.withResolvers<Outcome>()]
  const toEach = () => Array.from({ length: 64 }, (_, number) => tea({ receiver: `receiver ${number}` }))
  // Each receiver responds once, because receivers that have not responded yet do not get all slots of the kind.
  await post(table, ...toEach())
  worker.start()
  await worker.idle()
  serve(
    () => first.promise,
    () => others.promise,
  )
  await post(table, ...toEach())
  await until(() => served.length === 128)
  const waiting = tea({ receiver: 'ben' })
  assert.deepEqual(await postOne(worker, table, waiting), ['outbox'])
  fail(1)
  first.resolve(drunk)
  await until(() => logLines.some((line) => line.includes('outbox.look_failed')))
  assert.deepEqual(await postOne(worker, table, tea({ receiver: 'zoe' })), ['outbox'], 'the message to Ben is older')
  assert.deepEqual(await postOne(worker, table, tea({ kind: 'milk', receiver: 'zoe' })), [], 'of another kind')
  others.resolve(drunk)
  await worker.idle()
  assert.deepEqual(await postOne(worker, table, tea({ receiver: 'zoe' })), [])
})

test('no more than sixty-four are sent at once, and all are sent in the end', async (t) => {
  const { table, worker, serve } = await teaRoom(t)
  const quick = countingAtOnce(turn)
  serve(quick.send)
  await post(table, ...Array.from({ length: 300 }, (_, number) => tea({ receiver: `receiver ${number % 50}` })))
  worker.start()
  await worker.idle()
  assert.ok(quick.most() <= 64, `${quick.most()} at once`)
  assert.equal((await countByState(table)).delivered, 300)
})

/** A sender that delivers after `work`, and counts how many of its messages are sent at the same time. */
function countingAtOnce(work: () => Promise<unknown>) {
  let atOnce = 0
  let most = 0
  return {
    most: () => most,
    async send(): Promise<Outcome> {
      atOnce += 1
      most = Math.max(most, atOnce)
      await work()
      atOnce -= 1
      return drunk
    },
  }
}
