import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { Failures } from './failures.ts'

const hourMs = 3_600_000

describe('the pause after a failure', () => {
  test('ends after its time, also if the wall clock is set back meanwhile', () => {
    const clock = createStageClock()
    const failures = new Failures({ firstPauseMs: 500, longestPauseMs: 30_000, most: 10, clock })
    failures.failed('a', new Error('it failed'))
    clock.setBack(hourMs)
    clock.advance(499)
    assert.throws(() => failures.throwIfPaused('a'), /it failed/)
    assert.equal(failures.pauseLeft('a'), 1)
    clock.advance(1)
    failures.throwIfPaused('a')
    assert.equal(failures.pauseLeft('a'), 0)

    failures.failed('a', new Error('it failed again'))
    assert.equal(failures.pauseLeft('a'), 1000, 'twice as long')
    clock.setBack(hourMs)
    assert.equal(failures.pauseLeft('a'), 1000)
  })
})
