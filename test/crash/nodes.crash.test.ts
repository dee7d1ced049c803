/**
 * Three nodes on one Postgres are one provider, whatever happens to them: the short version of `npm run bench:nodes`.
 * (No decision is lost, no notification, nothing is redeemed twice; a database that is away is a 503 that says when to
 * come again.)
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { playThreeNodes } from './three-nodes.ts'

test('three nodes: killed, stopped, cut off, their clocks apart, Postgres away: nobody is let down', async (t) => {
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
  const nobody = {
    decisionsLost: 0,
    notificationsLost: 0,
    doubleRedemptions: 0,
    wrong5xx: 0,
    wrongAnswers: 0,
    nodesLost: 0,
  }
  assert.deepEqual(letDown, nobody, JSON.stringify({ complaints, logged }, null, 2))
  // It did happen, and it was felt.
  for (const what of [
    'calls to clients cut off by a kill',
    'LISTEN connections terminated',
    'answers 503',
    'attempts without an answer: connection lost',
    'attempts without an answer: no answer in time',
    'notifications that took more than one attempt',
  ]) {
    assert.ok((facts[what] ?? 0) > 0, `${what}: ${JSON.stringify(facts)}`)
  }
})
