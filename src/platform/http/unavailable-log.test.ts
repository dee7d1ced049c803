import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLog } from '../log.ts'
import { createUnavailableLog } from './unavailable-log.ts'

test('the first call is logged with its cause, without a stack; then calls are counted per interval', () => {
  const lines: Record<string, unknown>[] = []
  let now = 0
  let ring = () => {}
  const after = (_milliseconds: number, callback: () => void) => {
    ring = callback
    return () => {}
  }
  const clock = { now: () => now, after }
  const log = createUnavailableLog(createLog('info', { write: (line) => void lines.push(JSON.parse(line)) }), clock)
  const away = () => Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
  for (let call = 0; call < 100; call += 1) log(`req-${call}`, new Error('x', { cause: away() }))
  assert.equal(lines.length, 1)
  assert.partialDeepStrictEqual(lines[0], { level: 50, call: 'req-0', cause: 'ECONNREFUSED: refused' })
  now = 10_000
  ring()
  assert.partialDeepStrictEqual(lines[1], { cause: 'ECONNREFUSED: refused', calls: 99, seconds: 10 })
  ring()
  assert.equal(lines.length, 2, 'an interval without such calls ends the counting')
  log('req-x', away())
  assert.equal(lines[2]?.call, 'req-x')
  assert.doesNotMatch(JSON.stringify(lines), /stack/)
})
