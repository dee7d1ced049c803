import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { createLockQueue, LockWaitTimeout, longestWaitMs } from './lock-queue.ts'
import { isDatabaseUnavailable } from './unavailable.ts'

/** Work that begins and ends when the queue and the test say so. */
function openWork(queue = createLockQueue()) {
  const begun: string[] = []
  const ends = new Map<string, PromiseWithResolvers<string>>()
  return {
    queue,
    begun,
    start(name: string, ...keys: string[]): Promise<string> {
      const end = Promise.withResolvers<string>()
      ends.set(name, end)
      return queue.withKeys(keys, () => {
        begun.push(name)
        return end.promise
      })
    },
    end: (name: string) => ends.get(name)!.resolve(name),
    fail: (name: string, error: Error) => ends.get(name)!.reject(error),
  }
}

/** A clock whose timers run only when the test calls them. */
function handClock() {
  const timers = new Set<() => void>()
  return {
    timers,
    after(milliseconds: number, callback: () => void) {
      assert.equal(milliseconds, longestWaitMs)
      timers.add(callback)
      return () => void timers.delete(callback)
    },
  }
}

test('work whose keys are free begins at once, without a timer', async () => {
  const clock = handClock()
  const { start, begun, end, queue } = openWork(createLockQueue(clock))
  const all = [start('one', 'a', 'b', 'a'), start('two', 'c'), start('three'), start('four')]
  assert.deepEqual(begun, ['one', 'two', 'three', 'four'])
  assert.equal(clock.timers.size, 0)
  for (const name of begun) end(name)
  assert.deepEqual(await Promise.all(all), begun)
  const again = start('five', 'a', 'b', 'c')
  assert.equal(begun.at(-1), 'five')
  end('five')
  await again
  assert.equal(queue.countWaiting(), 0)
})

test('work with the same key runs one after the other, in order of arrival', async () => {
  const { start, begun, end, queue } = openWork()
  const all = ['one', 'two', 'three'].map((name) => start(name, 'a'))
  const other = start('other', 'b')
  assert.deepEqual(begun, ['one', 'other'])
  assert.equal(queue.countWaiting(), 2)
  end('one')
  await turnOfLoop()
  assert.deepEqual(begun, ['one', 'other', 'two'])
  end('two')
  await turnOfLoop()
  assert.deepEqual(begun, ['one', 'other', 'two', 'three'])
  end('three')
  end('other')
  await Promise.all([...all, other])
})

test('work with several keys waits for all of them, and no two wait for each other', async () => {
  const { start, begun, end, queue } = openWork()
  const first = start('first', 'a')
  const rest = [start('ab', 'a', 'b'), start('ba', 'b', 'a'), start('cab', 'c', 'a', 'b'), start('b', 'b')]
  assert.deepEqual(begun, ['first'])
  for (const name of ['first', 'ab', 'ba', 'cab', 'b']) end(name)
  await Promise.all([first, ...rest])
  assert.deepEqual(begun, ['first', 'ab', 'ba', 'cab', 'b'])
  assert.equal(queue.countWaiting(), 0)
})

test('work that fails frees its keys', async () => {
  const { start, begun, end, fail, queue } = openWork()
  const [one, two] = [start('one', 'a', 'b'), start('two', 'b')]
  fail('one', new Error('lost'))
  await assert.rejects(one, /lost/)
  await turnOfLoop()
  assert.deepEqual(begun, ['one', 'two'])
  end('two')
  await two
  const thrown = queue.withKeys(['a'], () => {
    throw new Error('at once')
  })
  await assert.rejects(thrown, /at once/)
  const next = start('next', 'a', 'b')
  assert.equal(begun.at(-1), 'next')
  end('next')
  await next
})

test('work that waited for too long does not run, and those behind it do not wait for it', async () => {
  const clock = handClock()
  const { start, begun, end, queue } = openWork(createLockQueue(clock))
  const first = start('first', 'a')
  const late = start('late', 'a', 'b')
  const behind = start('behind', 'b')
  const last = start('last', 'a')
  const [timer] = clock.timers
  timer!()
  await assert.rejects(late, (error: unknown) => error instanceof LockWaitTimeout && isDatabaseUnavailable(error))
  await turnOfLoop()
  assert.deepEqual(begun, ['first', 'behind'])
  end('first')
  await first
  await turnOfLoop()
  assert.deepEqual(begun, ['first', 'behind', 'last'])
  end('behind')
  end('last')
  await Promise.all([behind, last])
  assert.equal(queue.countWaiting(), 0)
  assert.equal(clock.timers.size, 0)
})
