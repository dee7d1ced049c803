import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../test/support/clock.ts'
import { createLog } from './log.ts'
import { createPeriodicTask } from './periodic-task.ts'
import { createRepeatedFailures } from './repeated-failures.ts'

/** Work that ends when the test calls `end`, and is due again one second later. */
function heldWork(onRest?: () => void) {
  const clock = createStageClock()
  const lines: Record<string, unknown>[] = []
  const attempts: PromiseWithResolvers<number>[] = []
  const task = createPeriodicTask({
    clock,
    failures: createRepeatedFailures(
      createLog('info', { write: (line) => void lines.push(JSON.parse(line)) }),
      { event: 'rates.look_failed' },
      'the rates could not be read',
    ),
    retryAfterMs: 300,
    work() {
      attempts.push(Promise.withResolvers())
      return attempts.at(-1)!.promise
    },
    ...(onRest && { onRest }),
  })
  return {
    task,
    clock,
    begun: () => attempts.length,
    logged: () => lines.map(({ event, msg, failures }) => [event, msg, failures]),
    async end(failure?: Error) {
      if (failure) attempts.at(-1)!.reject(failure)
      else attempts.at(-1)!.resolve(1_000)
      await new Promise(setImmediate)
    },
  }
}

describe('periodic work', () => {
  test('begins after the first pause, and again after each pause that it asks for', async () => {
    const { task, clock, begun, end } = heldWork()
    task.start(500)
    clock.advance(499)
    assert.equal(begun(), 0)
    clock.advance(1)
    assert.equal(begun(), 1)
    await end()
    clock.advance(999)
    assert.equal(begun(), 1)
    clock.advance(1)
    assert.equal(begun(), 2)
  })

  test('is repeated once, and never in parallel, however often it is requested meanwhile', async () => {
    let rests = 0
    const { task, begun, end } = heldWork(() => {
      rests += 1
    })
    task.start(0)
    for (let times = 0; times < 3; times++) task.wake()
    assert.deepEqual([begun(), rests], [1, 0])
    await end()
    assert.deepEqual([begun(), rests], [2, 0])
    await end()
    assert.deepEqual([begun(), rests], [2, 1])
  })

  test('begins anew when it is requested at the moment it comes to rest', async () => {
    let asked = false
    const { task, begun, end } = heldWork(() => {
      if (!asked) task.wake()
      asked = true
    })
    task.start(0)
    await end()
    assert.equal(begun(), 2)
  })

  test('does nothing before start nor after stop, which waits for work under way', async () => {
    const { task, clock, begun, end } = heldWork()
    task.wake()
    assert.equal(begun(), 0)
    task.start(0)
    let isStopped = false
    const stopped = task.stop().then(() => {
      isStopped = true
    })
    await new Promise(setImmediate)
    assert.equal(isStopped, false)
    await end()
    await stopped
    task.wake()
    clock.advance(10_000)
    assert.equal(begun(), 1)
  })

  test('that fails is repeated sooner; the first failure and the next success are logged', async () => {
    const { task, clock, begun, end, logged } = heldWork()
    task.start(0)
    for (let failures = 1; failures <= 100; failures++) {
      await end(new Error('the database is away'))
      clock.advance(300)
      assert.equal(begun(), failures + 1)
    }
    const failed = ['rates.look_failed', 'the rates could not be read; it will be tried again', undefined]
    assert.deepEqual(logged(), [failed])
    await end()
    const over = ['failures.over', 'the rates could not be read; now it has succeeded', 100]
    assert.deepEqual(logged(), [failed, over])
    clock.advance(1_000)
    await end()
    clock.advance(1_000)
    await end(new Error('again'))
    assert.deepEqual(logged(), [failed, over, failed])
    await task.stop()
  })

  test('can be started again', async () => {
    const { task, begun, end } = heldWork()
    task.start(0)
    const stopped = task.stop()
    await end()
    await stopped
    task.start(0)
    assert.equal(begun(), 2)
  })
})
