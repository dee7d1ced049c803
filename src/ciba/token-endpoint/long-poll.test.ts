import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { createLog } from '../../platform/log.ts'
import { createHeldPolls, type Release } from './long-poll.ts'

test('of ten thousand polls a change lets one go, and nobody asks about the others', async () => {
  const clock = createStageClock()
  let changed: (id: string) => void = () => {}
  const held = createHeldPolls({
    database: {
      epoch: 1,
      listen(_topic, heard) {
        changed = heard
        return () => {}
      },
    },
    stillPending: () => assert.fail('asked the table'),
    most: 10_000,
    clock,
    log: createLog('silent'),
  })
  const over = new Map<string, Release>()
  for (let number = 0; number < 10_000; number++) {
    const requestId = `request-${number}`
    const poll = { requestId, until: clock.now() + 30_000, isCertain: true }
    const caller = { isClosed: () => false, onClose: () => {} }
    held.hold(poll, caller).then((why) => over.set(requestId, why))
  }
  clock.advance(20_000)
  changed('request-1234')
  await new Promise(setImmediate)
  assert.deepEqual([...over], [['request-1234', 'changed']])
  assert.equal(held.count(), 9_999)
  held.close()
  await new Promise(setImmediate)
  assert.equal(over.size, 10_000)
  assert.equal(held.count(), 0)
})
