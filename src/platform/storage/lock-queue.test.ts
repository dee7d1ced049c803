import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { createLockQueue, LockWaitTimeout, longestWaitMs } from './lock-queue.ts'
import { isDatabaseUnavailable } from './unavailable.ts'

/** Adds work to a queue. The queue begins the work, and the test ends it with `end` or `fail`. */
function openWork(queue = createLockQueue()) {
  const begun: string[] = []
  const ends = new Map<string, PromiseWithResolvers<string>>()
  function start(name: string, keys: string[], yields: boolean): Promise<string> {
    const end = Promise.withResolvers<string>()
    ends.set(name, end)
    const work = () => {
      begun.push(name)
      return end.promise
    }
    return queue.withKeys(keys, work, { yields })
  }
  return {
    queue,
    begun,
    start: (name: string, ...keys: string[]) => start(name, keys, false),
    /** Like `start`, but for work that yields. */
    startYielding: (name: string, ...keys: string[]) => start(name, keys, true),
    end: (name: string) => ends.get(name)!.resolve(name),
    fail: (name: string, error: Error) => ends.get(name)!.reject(error),
  }
}

/** A clock whose timers run only when the test calls them. */
function handClock() {
  const timers = new Set<() => void>()
  const time = { ms: 0 }
  return {
    timers,
    time,
    now: () => time.ms,
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

test('work that yields lets all later work go first, until it begins', async () => {
  const { start, startYielding, begun, end, queue } = openWork()
  const all = [startYielding('first', 'a'), startYielding('second', 'a'), startYielding('third', 'a')]
  all.push(start('decision', 'a'), start('ending', 'a'), startYielding('fourth', 'a'))
  assert.equal(queue.countWaiting(), 5)
  const order = ['first', 'decision', 'ending', 'second', 'third', 'fourth']
  for (const [index, name] of order.entries()) {
    assert.deepEqual(begun, order.slice(0, index + 1))
    end(name)
    await turnOfLoop()
  }
  await Promise.all(all)
})

test('work that yields is not overtaken by work that arrives a quarter of a second later', async () => {
  const clock = handClock()
  const { start, startYielding, begun, end, queue } = openWork(createLockQueue(clock))
  const all = [start('holder', 'user', 'client'), startYielding('request', 'user', 'client')]
  all.push(startYielding('about another user', 'other', 'client'))
  for (const [name, ms] of Object.entries({ early: 249, late: 250, later: 251 })) {
    clock.time.ms = ms
    all.push(start(name, 'user'))
  }
  const order = ['holder', 'early', 'request', 'about another user', 'late', 'later']
  for (const name of order) {
    end(name)
    await turnOfLoop()
  }
  assert.deepEqual(begun.toSorted(), order.toSorted())
  assert.ok(begun.indexOf('early') < begun.indexOf('request'))
  assert.ok(begun.indexOf('request') < begun.indexOf('late'))
  await Promise.all(all)
  assert.equal(queue.countWaiting(), 0)
})

test('work that yields also gives up keys that it has while it waits for others', async () => {
  const clock = handClock()
  const { start, startYielding, begun, end, queue } = openWork(createLockQueue(clock))
  const holder = start('holder', 'a')
  const yielding = startYielding('yielding', 'a', 'b', 'c')
  const [late] = [start('late', 'b', 'a'), start('both', 'c', 'b'), start('c', 'c')]
  assert.deepEqual(begun, ['holder'], 'late work waits for a, and the others for late work')
  const [, lateTimer] = clock.timers
  lateTimer!()
  await assert.rejects(late, LockWaitTimeout)
  await turnOfLoop()
  for (const name of ['both', 'c', 'holder']) {
    assert.equal(begun.includes('yielding'), false)
    assert.ok(begun.includes(name), name)
    end(name)
    await turnOfLoop()
  }
  assert.deepEqual(begun, ['holder', 'both', 'c', 'yielding'])
  end('yielding')
  await Promise.all([holder, yielding])
  assert.equal(queue.countWaiting(), 0)
})

test('whatever arrives: no two run with one key, all run in the end, and none that yields before one that does not', async () => {
  for (let seed = 1; seed <= 200; seed++) {
    let state = seed
    const below = (most: number) => {
      state = (state * 48_271) % 2_147_483_647
      return state % most
    }
    const { start, startYielding, begun, end, queue } = openWork()
    const keysOf = new Map<string, string[]>()
    const ended = new Set<string>()
    const promises: Promise<string>[] = []
    const running = () => begun.filter((name) => !ended.has(name))
    const endOne = async () => {
      const names = running()
      const name = names[below(names.length)]!
      ended.add(name)
      end(name)
      await turnOfLoop()
    }
    for (let number = 0; number < 30; number++) {
      const keys = ['a', 'b', 'c', 'd'].filter(() => below(2) === 0)
      const yields = below(2) === 0
      const name = `${yields ? 'yielding' : 'first'} ${number}`
      keysOf.set(name, keys)
      promises.push((yields ? startYielding : start)(name, ...keys))
      if (below(3) === 0 && running().length > 0) await endOne()
    }
    // From here on, no new work is added.
    while (running().length > 0) {
      const held = running().flatMap((name) => keysOf.get(name)!)
      assert.equal(held.length, new Set(held).size, `seed ${seed}: ${running().join()}`)
      const before = begun.length
      await endOne()
      for (const name of begun.slice(before).filter((each) => each.startsWith('yielding'))) {
        const overtaken = [...keysOf].filter(
          ([other, keys]) =>
            other.startsWith('first') && !begun.includes(other) && keys.some((key) => keysOf.get(name)!.includes(key)),
        )
        assert.deepEqual(overtaken, [], `seed ${seed}: ${name}`)
      }
    }
    assert.equal(begun.length, 30, `seed ${seed}`)
    await Promise.all(promises)
    assert.equal(queue.countWaiting(), 0)
  }
})
