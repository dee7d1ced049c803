import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../test/support/clock.ts'
import { untilAborted, untilTimeout } from './until-aborted.ts'

const never = new Promise<string>(() => {})

describe('work with a time limit', () => {
  test('resolves and rejects as the work does, and then needs no timer', async () => {
    let running = 0
    const clock = {
      after() {
        running++
        return () => running--
      },
    }
    assert.equal(await untilTimeout('at once', 1000, clock), 'at once')
    assert.equal(await untilTimeout(Promise.resolve('later'), 1000, clock), 'later')
    await assert.rejects(untilTimeout(Promise.reject(new Error('no')), 1000, clock), { message: 'no' })
    assert.equal(running, 0)
  })

  test('is waited for until its time is over', async () => {
    const clock = createStageClock()
    const waits = untilTimeout(never, 10_000, clock)
    let isOver = false
    waits.catch(() => {
      isOver = true
    })
    clock.advance(9_999)
    await Promise.resolve()
    assert.equal(isOver, false)
    clock.advance(1)
    await assert.rejects(waits, { name: 'TimeoutError', message: 'no answer within 10 seconds' })
  })

  test('ends at a signal too, whichever is first', async () => {
    const clock = createStageClock()
    const stopping = new AbortController()
    const one = untilAborted(untilTimeout(never, 10_000, clock), stopping.signal)
    clock.advance(10_000)
    await assert.rejects(one, { name: 'TimeoutError' })
    const other = untilAborted(untilTimeout(never, 10_000, clock), stopping.signal)
    stopping.abort(new Error('the server stops'))
    await assert.rejects(other, { message: 'the server stops' })
  })
})
