import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../test/support/clock.ts'
import { createTimeLimit, untilAborted, untilTimeout } from './until-aborted.ts'

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

  test('of thousands of calls ends each in its time, with one timer at a time', async () => {
    const clock = createStageClock()
    let timers = 0
    const counting = {
      ...clock,
      after(milliseconds: number, callback: () => void) {
        timers += 1
        return clock.after(milliseconds, callback)
      },
    }
    const stopping = new AbortController()
    const inTime = createTimeLimit(10_000, { clock: counting, signal: stopping.signal })
    for (let call = 0; call < 1_000; call++) assert.equal(await inTime(Promise.resolve(call)), call)
    await assert.rejects(inTime(Promise.reject(new Error('no'))), { message: 'no' })
    assert.equal(timers, 1)

    const early = inTime(never)
    clock.advance(4_000)
    const late = inTime(never)
    const outcomes: string[] = []
    for (const one of [early, late]) one.catch(({ name, message }: Error) => outcomes.push(`${name}: ${message}`))
    const settled = () => new Promise(setImmediate)
    clock.advance(5_999)
    await settled()
    assert.deepEqual(outcomes, [])
    clock.advance(1)
    await settled()
    assert.deepEqual(outcomes, ['TimeoutError: no answer within 10 seconds'])
    stopping.abort(new Error('the server stops'))
    await assert.rejects(late, { message: 'the server stops' })
    await assert.rejects(inTime(never), { message: 'the server stops' })
  })
})
