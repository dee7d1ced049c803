import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { claimOf, ProvenCallers, ReturningUsers, UnprovenCallers } from './unproven-callers.ts'

type Each = string | ((n: number) => string)

const at = (each: Each, n: number) => (typeof each === 'string' ? each : each(n))

/** Lets up to `count` callers enter, as long as there is capacity. Returns how many have entered. */
function come(callers: UnprovenCallers, count: number, client: Each, address: Each): number {
  let stayed = 0
  for (let n = 0; n < count; n++) {
    const claim = claimOf(at(client, n), at(address, n))
    if (!callers.hasCapacity(claim)) continue
    callers.enter(claim)
    stayed += 1
  }
  return stayed
}

describe('of 1000 slots, strangers', () => {
  test('that claim one client from one network have a third, and that client has capacity from its own', () => {
    const callers = new UnprovenCallers(1000)
    assert.equal(
      come(callers, 1000, 'victim', (n) => `198.51.100.${n % 256}`),
      334,
    )
    assert.equal(come(callers, 50, 'other', '198.51.100.7'), 50, 'another client, from where they are')
    assert.equal(come(callers, 100, 'victim', '203.0.113.1'), 100, 'the client itself')
  })

  test('that claim a thousand clients from one network have half, and other networks have capacity', () => {
    const callers = new UnprovenCallers(1000)
    const addressOf = (n: number) => `2001:db8:1:${n.toString(16)}::1`
    assert.equal(
      come(callers, 1000, (n) => `made-up ${n}`, addressOf),
      500,
    )
    assert.equal(come(callers, 100, 'victim', '2001:db8:2::1'), 100)
  })

  test('of ten thousand networks have three quarters, and no count is left behind', () => {
    const callers = new UnprovenCallers(1000)
    const addressOf = (n: number) => `10.${n >> 8}.${n & 255}.1`
    assert.equal(come(callers, 10_000, 'victim', addressOf), 750)
    for (let n = 0; n < 750; n++) callers.leave(claimOf('victim', addressOf(n)))
    assert.equal(callers.count, 0)
    assert.equal(come(callers, 1000, 'victim', '203.0.113.1'), 334)
  })

  test('always get one slot while there are few', () => {
    for (const most of [1, 2, 3]) assert.equal(come(new UnprovenCallers(most), 1, 'a', '192.0.2.1'), 1)
  })
})

describe('of 1000 slots, users who return', () => {
  /** Lets up to `count` calls of a user enter, as long as there is capacity. */
  function come(users: ReturningUsers, count: number, userId: Each) {
    const entered = []
    for (let n = 0; n < count; n++) {
      if (users.hasCapacity(at(userId, n))) entered.push(users.enter(at(userId, n)))
    }
    return entered
  }

  test('have an eighth, of which one user may have half, and a second one a quarter', () => {
    const users = new ReturningUsers(1000)
    assert.deepEqual([come(users, 1000, 'ana').length, come(users, 1000, 'ben').length], [63, 32])
    assert.equal(come(users, 1000, (n) => `user ${n}`).length, 125 - 63 - 32)
  })

  test('of which ten thousand come at once: the eighth is theirs, and no count is left behind', () => {
    const users = new ReturningUsers(1000)
    const entered = come(users, 10_000, (n) => `user ${n}`)
    assert.equal(entered.length, 125)
    for (const share of entered) users.leave(share)
    assert.equal(come(users, 1000, 'ana').length, 63)
  })

  test('always get one slot while there are few', () => {
    for (const most of [1, 2, 3, 7]) assert.equal(come(new ReturningUsers(most), 5, 'ana').length, 1)
  })
})

test('a client that has authenticated is recognised by address, in IPv6 by its /64', () => {
  const proven = new ProvenCallers()
  proven.add('kiosk', '192.0.2.1')
  proven.add('kiosk', '2001:db8::1')
  assert.deepEqual(
    ['192.0.2.1', '192.0.2.2', '2001:db8::ffff', '2001:db8:0:1::1', undefined].map((each) => proven.has('kiosk', each)),
    [true, false, true, false, false],
  )
  assert.equal(proven.has('northbank', '192.0.2.1'), false)
})

test('the number of remembered clients is limited', () => {
  const proven = new ProvenCallers()
  for (let n = 0; n < 20_000; n++) proven.add('kiosk', `10.${n >> 8}.${n & 255}.1`)
  assert.equal(proven.has('kiosk', '10.0.0.1'), false)
  assert.equal(proven.has('kiosk', '10.78.31.1'), true)
  for (let n = 0; n < 2000; n++) proven.add(`client ${n}`, '192.0.2.1')
  assert.equal(proven.has('client 0', '192.0.2.1'), false)
  assert.equal(proven.has('client 1999', '192.0.2.1'), true)
})
