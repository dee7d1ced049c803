import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createVault } from '../platform/crypto.ts'
import { compose, contentAad, type NextState, nextState, type Outcome } from './notification.ts'

const now = 1_000_000
const deadline = now + 600_000

/** Returns the state after the nth attempt of eight. */
function after(attempt: number, outcome: Outcome, { giveUpAt = deadline, dice = 1 } = {}): NextState {
  return nextState(outcome, { attempts: attempt, giveUpAt }, now, 8, dice)
}

/** Returns the milliseconds until the next attempt. */
function pause(attempt: number, more: { after?: number; dice?: number } = {}): number {
  const { dice = 1, ...asked } = more
  const next = after(attempt, { kind: 'failed', words: 'answered 500', ...asked }, { dice, giveUpAt: now + 1e9 })
  assert.equal(next.state, 'waiting')
  return next.state === 'waiting' ? next.dueAt - now : 0
}

describe('the state after an attempt', () => {
  test('a message that arrived is delivered, after any number of attempts and however late', () => {
    const arrived: Outcome = { kind: 'delivered', words: 'answered 204' }
    for (const attempt of [1, 8, 99]) assert.deepEqual(after(attempt, arrived), { state: 'delivered' })
    assert.deepEqual(after(1, arrived, { giveUpAt: now }), { state: 'delivered' })
  })

  test('a message that was refused is parked at once', () => {
    const refused: Outcome = { kind: 'refused', words: 'answered 401' }
    assert.deepEqual(after(1, refused), { state: 'parked', reason: 'answered 401' })
  })

  test('the pauses double, up to a minute', () => {
    const pauses = [1, 2, 3, 4, 5, 6, 7].map((attempt) => pause(attempt))
    assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000])
    const later = nextState({ kind: 'failed', words: '' }, { attempts: 40, giveUpAt: now + 1e9 }, now, 50, 1)
    assert.deepEqual(later, { state: 'waiting', dueAt: now + 60_000 })
  })

  test('chance shortens a pause by at most a half', () => {
    for (const attempt of [1, 4, 7]) {
      const longest = pause(attempt, { dice: 1 })
      assert.equal(pause(attempt, { dice: 0 }), longest / 2)
      const middle = pause(attempt, { dice: 0.5 })
      assert.ok(middle > longest / 2 && middle < longest)
    }
  })

  test('a receiver can ask for a longer pause, but not for a shorter one', () => {
    assert.equal(pause(1, { after: 30_000 }), 30_000)
    assert.equal(pause(7, { after: 1000 }), 32_000)
  })

  test('times are whole milliseconds, even if a receiver asks for a fraction', () => {
    for (const asked of [1000.5, 600.0001]) {
      const took = pause(1, { after: asked })
      assert.ok(Number.isInteger(took) && took >= asked)
    }
    assert.ok(Number.isInteger(pause(1, { dice: 0.123456 })))
  })

  test('a message is parked after its last attempt', () => {
    const failed: Outcome = { kind: 'failed', words: 'timeout' }
    assert.equal(after(7, failed).state, 'waiting')
    for (const attempt of [8, 9]) {
      assert.deepEqual(after(attempt, failed), { state: 'parked', reason: 'timeout; all 8 attempts used' })
    }
  })

  test('there is no attempt at the deadline or later', () => {
    const failed: Outcome = { kind: 'failed', words: 'timeout' }
    const parked = { state: 'parked', reason: 'timeout; no time left for another attempt' }
    assert.deepEqual(after(1, failed, { giveUpAt: now + 500 }), parked)
    assert.deepEqual(after(1, failed, { giveUpAt: now + 501 }), { state: 'waiting', dueAt: now + 500 })
    assert.deepEqual(after(1, { ...failed, after: 600_000 }), parked)
  })

  test('after `usefulUntil` there is no further attempt, even before `giveUpAt`', () => {
    const failed: Outcome = { kind: 'failed', words: 'answered 503' }
    const parked = { state: 'parked', reason: 'answered 503; no time left for another attempt' }
    assert.deepEqual(after(1, { ...failed, usefulUntil: now + 500 }), parked)
    assert.deepEqual(after(1, { ...failed, usefulUntil: now + 501 }), { state: 'waiting', dueAt: now + 500 })
    assert.deepEqual(after(1, { ...failed, usefulUntil: deadline + 1, after: 600_000 }), parked)
  })
})

test('the content of a notification is encrypted, and does not decrypt in another row', () => {
  const vault = createVault(Buffer.alloc(32, 1).toString('base64url'))
  const notification = { kind: 'tea', subject: 's', receiver: 'ana', content: { tea: 'green' }, giveUpAt: deadline }
  const [one, other] = [compose(notification, now, vault), compose(notification, now, vault)]
  assert.deepEqual(
    [one.state, one.dueAt, one.createdAt, one.attempts, one.lease, one.settledAt],
    ['waiting', now, now, 0, undefined, undefined],
  )
  assert.ok(!JSON.stringify(one).includes('green'))
  assert.deepEqual(JSON.parse(vault.open(one.sealed!, contentAad(one.id))), { tea: 'green' })
  assert.throws(() => vault.open(one.sealed!, contentAad(other.id)), /cannot be decrypted/)
})
