import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createChallengeLimit, mostChallenges } from './challenge-limit.ts'

function openLimit(most?: number) {
  let now = 0
  const limit = createChallengeLimit({ now: () => now }, most)
  const issue = (signIn: string, times: number) =>
    Array.from({ length: times }, () => limit.mayIssue(signIn)).filter(Boolean).length
  return { ...limit, issue, advance: (milliseconds: number) => (now += milliseconds) }
}

test('each sign-in gets a limited number of challenges, as long as it can be continued', () => {
  const { issue, advance } = openLimit()
  assert.equal(issue('one', mostChallenges + 5), mostChallenges)
  assert.equal(issue('other', mostChallenges - 1), mostChallenges - 1)
  advance(3_599_999)
  issue('new', 1)
  assert.deepEqual([issue('one', 1), issue('other', 2)], [0, 1])
})

test('the number of counts is limited: old counts are forgotten, and if there are too many, the oldest', () => {
  const { issue, advance, countSignIns } = openLimit(100)
  for (let number = 0; number < 1000; number++) issue(`sign-in ${number}`, mostChallenges)
  assert.equal(countSignIns(), 100)
  assert.equal(issue('sign-in 999', 1), 0)
  advance(3_600_000)
  issue('new', 1)
  assert.equal(countSignIns(), 1)
})
