/** Tests that messages are sent as soon as the step (the transaction) that adds them is committed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { postFour, postOne, start, tea, teaRoom, turn } from '../../test/support/outbox.ts'
import { countByState } from '../../test/support/rows.ts'
import { until } from '../../test/support/until.ts'

test('a message is sent as soon as it is stored, without a query for due messages', async (t) => {
  const { table, worker, served, outbox, claims } = await teaRoom(t)
  worker.start()
  await worker.idle()
  const before = claims()
  const messages = [tea(), tea({ receiver: 'ben' })]
  let rowsWhenKept: unknown
  const happened = await worker.enqueue(messages, async (adding, topics) => {
    assert.deepEqual(topics, [], 'it is not announced to other nodes')
    const rows = await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    rowsWhenKept = (await outbox.list(undefined)).map(({ state, attempts, dueAt }) => [state, attempts, dueAt])
    return rows.length > 0
  })
  assert.equal(happened, true)
  // The step itself has claimed the messages. If this process ended now, another process would claim them after the end
  // of the lease.
  assert.deepEqual(rowsWhenKept, [
    ['sending', 1, start + 3000],
    ['sending', 1, start + 3000],
  ])
  await until(async () => (await countByState(table)).delivered === 2)
  assert.equal(claims(), before)
  assert.deepEqual(served.map(({ id }) => id).sort(), messages.map(({ id }) => id).sort())
})

test('a message whose step did not happen or failed is not sent and uses no capacity', async (t) => {
  const { table, worker, served } = await teaRoom(t)
  worker.start()
  for (let times = 0; times < 10; times++) {
    assert.equal(await worker.enqueue([tea()], async () => false), false)
    await assert.rejects(
      worker.enqueue([tea()], () => Promise.reject(new Error('no step'))),
      /no step/,
    )
  }
  await worker.idle()
  assert.equal(served.length, 0)
  await postFour(worker, table)
  await until(() => served.length === 4)
})

test('if a step took so long that the lease is too short, the message is claimed again and sent once', async (t) => {
  const { table, worker, served, clock, outbox } = await teaRoom(t)
  worker.start()
  await worker.idle()
  const message = tea()
  await worker.enqueue([message], async (adding) => {
    await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    clock.advance(2001)
    return true
  })
  await worker.idle()
  assert.equal(served.length, 0)
  clock.advance(1000)
  await worker.idle()
  await until(async () => (await outbox.find(message.id))!.state === 'delivered')
  assert.deepEqual(
    served.map(({ attempts }) => attempts),
    [2],
  )
})

test('the worker is not idle while a step that adds messages is under way', async (t) => {
  const { worker, table, served } = await teaRoom(t)
  worker.start()
  const kept = Promise.withResolvers<boolean>()
  const posted = worker.enqueue([tea()], async (adding) => {
    await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    return kept.promise
  })
  let idle = false
  const waiting = worker.idle().then(() => {
    idle = true
  })
  for (let turns = 0; turns < 10; turns++) await turn()
  assert.equal(idle, false)
  kept.resolve(true)
  await Promise.all([posted, waiting])
  assert.equal(served.length, 1)
})

test('before the worker starts and after it stops, messages wait for other nodes', async (t) => {
  const { table, worker, served, outbox } = await teaRoom(t)
  assert.deepEqual(await postOne(worker, table, tea()), ['outbox'])
  worker.start()
  await worker.idle()
  assert.equal(served.length, 1)

  // The worker is stopped while a step (a transaction) is in progress.
  const kept = Promise.withResolvers<boolean>()
  const message = tea()
  const posted = worker.enqueue([message], async (adding) => {
    await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    return kept.promise
  })
  let stopped = false
  const stopping = worker.stop().then(() => {
    stopped = true
  })
  await turn()
  assert.equal(stopped, false)
  kept.resolve(true)
  await Promise.all([posted, stopping])
  assert.equal((await outbox.find(message.id))!.state, 'delivered')
  assert.deepEqual(await postOne(worker, table, tea()), ['outbox'])
  assert.equal((await countByState(table)).waiting, 1)
})
