import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { createClockOffset } from './clock-offset.ts'

test('the offset is the difference of the clocks, and changes only if a measurement contradicts it by more than 20 ms', async () => {
  const machine = createStageClock(1_000_000)
  const offset = createClockOffset(machine)
  /**
   * The database's clock is ahead by `ahead` milliseconds. The query takes `there` milliseconds, and the answer `back`.
   */
  const measure = (ahead: number, there: number, back: number) =>
    offset.measure(async () => {
      machine.advance(there)
      const answer = machine.now() + ahead
      machine.advance(back)
      return answer
    })
  for (const [ahead, there, back, expected] of [
    [0, 5, 5, 0],
    [0, 0, 900, 0],
    [0, 900, 0, 0],
    [2_000, 10, 10, 2_000],
    [2_000, 0, 700, 2_000],
    [2_001, 0, 0, 2_000],
    [1_980, 0, 0, 2_000],
    [2_020, 0, 0, 2_000],
    [2_021, 0, 0, 2_021],
    [2_300, 900, 0, 2_750],
    [2_250, 0, 0, 2_250],
    [-3_600_000, 10, 30, -3_600_010],
    [-3_600_000, 0, 0, -3_600_010],
    [-3_600_031, 0, 0, -3_600_031],
  ] as const) {
    await measure(ahead, there, back)
    assert.equal(offset.milliseconds, expected)
  }
})
