/** A synchronous standby is promoted five times under load: the short version of `npm run bench:failover`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { playPromotions } from './promotions.ts'

test('five promotions: nothing answered with 200 is missing, no tokens are issued twice', {
  timeout: 120_000,
}, async (t) => {
  const { missing, doubled, wrong, facts, seconds } = await playPromotions({
    promotions: 5,
    atOnce: 12,
    say: (line) => t.diagnostic(line),
  })
  t.diagnostic(`${Math.round(seconds)} s`)
  assert.deepEqual({ missing, doubled, wrong }, { missing: [], doubled: [], wrong: [] })
  // The promotions had effects.
  for (const what of ['answers 200', 'answers 503', 'requests verified']) assert.ok((facts[what] ?? 0) > 0, what)
})
