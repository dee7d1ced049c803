import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../test/support/clock.ts'
import { createPeriodicTask } from './periodic-task.ts'

/** Work that ends when the test calls `end`, and is due again one second later. */
function heldWork(onRest?: () => void) {
  const clock = createStageClock()
  const ends: (() => void)[] = []
  const task = createPeriodicTask({
    clock,
    work: () => new Promise((resolve) => ends.push(() => resolve(1_000))),
    ...(onRest && { onRest }),
  })
  return {
    task,
    clock,
    begun: () => ends.length,
    async end() {
      ends.at(-1)!()
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
