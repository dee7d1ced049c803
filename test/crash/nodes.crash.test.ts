/**
 * Three nodes on one Postgres act as one provider under all failures: the short version of `npm run bench:nodes`. No
 * decision and no notification is lost, no request is redeemed twice; while the database is unreachable, responses are
 * 503 with Retry-After.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { playThreeNodes } from './three-nodes.ts'

test('three nodes, killed, stopped and cut off, with different clocks, Postgres down: all guarantees hold', async (t) => {
  const say = (line: string) => t.diagnostic(line)
  const report = await playThreeNodes({
    flows: 300,
    atOnce: 9,
    kills: 2,
    stopped: 4500,
    timeout: 1,
    durable: false,
    say,
  })
  const { letDown, facts, complaints, logged } = report
  t.diagnostic(JSON.stringify(facts))
  const none = {
    decisionsLost: 0,
    notificationsLost: 0,
    doubleRedemptions: 0,
    wrong5xx: 0,
    wrongAnswers: 0,
    nodesLost: 0,
  }
  assert.deepEqual(letDown, none, JSON.stringify({ complaints, logged }, null, 2))
  // All disturbances took place and had effects.
  for (const what of [
    'calls to clients cut off by a kill',
    'LISTEN connections terminated',
    'answers 503',
    'attempts without a response: connection lost',
    'attempts without a response: no answer in time',
    'notifications that took more than one attempt',
  ]) {
    assert.ok((facts[what] ?? 0) > 0, `${what}: ${JSON.stringify(facts)}`)
  }
})
