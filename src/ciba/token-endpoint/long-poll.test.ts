import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { createLog } from '../../platform/log.ts'
import { createHeldPolls, type Release } from './long-poll.ts'

test('a change releases one of ten thousand held polls, without a query for the others', async () => {
  const clock = createStageClock()
  let changed: (id: string) => void = () => {}
  const held = createHeldPolls({
    database: {
      epoch: 1,
      listen(_topic, onChange) {
        changed = onChange
        return () => {}
      },
    },
    stillPending: () => assert.fail('asked the table'),
    most: 10_000,
    clock,
    log: createLog('silent'),
  })
  const released = new Map<string, Release>()
  for (let number = 0; number < 10_000; number++) {
    const requestId = `request-${number}`
    const poll = { requestId, until: clock.now() + 30_000, isCertain: true }
    const caller = { isClosed: () => false, onClose: () => {} }
    held.hold(poll, caller).then((why) => released.set(requestId, why))
  }
  clock.advance(20_000)
  changed('request-1234')
  await new Promise(setImmediate)
  assert.deepEqual([...released], [['request-1234', 'changed']])
  assert.equal(held.count(), 9_999)
  held.close()
  await new Promise(setImmediate)
  assert.equal(released.size, 10_000)
  assert.equal(held.count(), 0)
})
