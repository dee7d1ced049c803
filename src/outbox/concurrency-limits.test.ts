import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createConcurrencyLimits } from './concurrency-limits.ts'

const toReceivers = (kind: string, count: number) =>
  Array.from({ length: count }, (_, number) => ({ kind, receiver: `${kind} ${number}` }))
const till = { kind: 'push', receiver: 'till' }
const slow = { kind: 'push', receiver: 'slow' }

describe('the limits', () => {
  for (const users of [1_000, 10_000]) {
    test(`still know the clients after messages of another kind to ${users} users`, () => {
      const limits = createConcurrencyLimits()
      limits.end(limits.begin(till), 'quickly')
      const attempt = limits.begin(slow)
      limits.hang(attempt)
      limits.end(attempt)
      for (const user of toReceivers('web_push', users)) limits.end(limits.begin(user), 'quickly')
      assert.deepEqual([limits.standingOf(till), limits.standingOf(slow)], ['quick', 'slow'])
    })
  }

  test('remember the thousand receivers of a kind that had messages last', () => {
    const limits = createConcurrencyLimits()
    const clients = toReceivers('push', 1_001)
    for (const client of clients) limits.end(limits.begin(client), 'quickly')
    const quick = clients.filter((client) => limits.standingOf(client) === 'quick')
    assert.deepEqual(quick, clients.slice(1))
  })

  test('give the slots of 256 attempts that hang to others, and those of no further attempts', () => {
    const limits = createConcurrencyLimits()
    let begun = 0
    for (const receiver of toReceivers('push', 1_000)) {
      if (limits.fullPlace(receiver) !== undefined) break
      limits.hang(limits.begin(receiver))
      begun += 1
    }
    assert.equal(begun, 256 + 32)
    assert.deepEqual(limits.fullPlace(till), { kind: 'push', standing: 'new' })
    const [{ room } = {}] = limits.room([]).kinds
    assert.equal(room, 32, 'for those that answer quickly')
  })

  test('count a receiver that hung sixteen times as quick again after sixty-four quick responses', () => {
    const limits = createConcurrencyLimits()
    for (let number = 0; number < 2; number++) limits.end(limits.begin(till), 'quickly')
    const attempts = Array.from({ length: 16 }, () => limits.begin(till))
    for (const attempt of attempts) limits.hang(attempt)
    for (const attempt of attempts) limits.end(attempt)
    let answers = 0
    for (; limits.standingOf(till) !== 'quick'; answers++) limits.end(limits.begin(till), 'quickly')
    assert.equal(answers, 64)
  })
})
