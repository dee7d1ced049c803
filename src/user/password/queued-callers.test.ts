import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { createFairQueue, type FairQueue, type QueuedCaller } from '../../platform/http/fair-queue.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { authenticatedClient, knownUser, lookingUpFrom, strangerAt } from './queued-callers.ts'

/** Opens a queue in which work lasts until the test ends it. `begun` lists the callers in the order of their turns. */
function openQueue() {
  const queue = createFairQueue(2)
  const begun: string[] = []
  const ends = new Map<string, () => void>()
  let mostTurns = 0

  function come(name: string, groups: QueuedCaller['groups'], connection?: QueuedCaller['connection']) {
    return queue.withTurn({ groups, connection }, async () => {
      begun.push(name)
      mostTurns = Math.max(mostTurns, queue.counts().turns)
      await new Promise<void>((resolve) => ends.set(name, resolve))
      return name
    })
  }

  /** Ends the work that began first. Resolves when the next work has begun. */
  async function end(): Promise<void> {
    const [name, resolve] = [...ends][0]!
    ends.delete(name)
    resolve()
    await new Promise(setImmediate)
  }

  const endAll = async () => {
    while (ends.size > 0) await end()
  }
  return { queue, come, begun, end, endAll, mostTurns: () => mostTurns }
}

const settled = () => new Promise(setImmediate)

/** Adds many callers at once. Resolves to the number of refused callers. */
async function crowd(
  { come }: ReturnType<typeof openQueue>,
  count: number,
  groupsOf: (number: number) => QueuedCaller['groups'],
) {
  let refused = 0
  for (let number = 0; number < count; number++) {
    come(`crowd ${number}`, groupsOf(number)).catch((error) => {
      assert.ok(error instanceof Overloaded)
      refused += 1
    })
  }
  await settled()
  return refused
}

function assertEmpty(queue: FairQueue) {
  assert.deepEqual(queue.counts(), { places: 0, turns: 0 })
}

describe('a crowd', () => {
  const crowds: [string, number, (number: number) => QueuedCaller['groups'], number][] = [
    ['of one address', 50, () => strangerAt('192.0.2.1'), 5],
    ['of one /24', 500, (number) => strangerAt(`192.0.2.${number % 250}`), 5],
    ['of three addresses', 150, (number) => strangerAt(`192.0.${number % 3}.1`), 15],
    ['of one /64', 50, (number) => strangerAt(`2001:db8:1:1::${number}`), 5],
    ['of one /48', 500, (number) => strangerAt(`2001:db8:1:${number.toString(16)}::1`), 10],
    ['of a thousand and a half networks', 1500, (number) => strangerAt(`10.${number >> 8}.${number & 255}.1`), 16],
    ['of unreadable addresses', 50, () => strangerAt(undefined), 5],
    ['of one client', 50, () => authenticatedClient('kiosk', '192.0.2.1'), 8],
    ['of clients of one network', 50, (number) => authenticatedClient(`c${number}`, '192.0.2.1'), 32],
    ['of one user', 50, () => knownUser('ana'), 8],
    ['that looks sign-ins up, of one address', 50, () => lookingUpFrom('192.0.2.1', false), 16],
    ['that looks sign-ins up, of one /48', 500, (n) => lookingUpFrom(`2001:db8:1:${n.toString(16)}::1`, false), 32],
    ['that looks sign-ins up, of as many networks', 1500, (n) => lookingUpFrom(`10.${n >> 8}.${n & 255}.1`, true), 256],
  ]
  for (const [name, count, groupsOf, places] of crowds) {
    test(`${name}, ${count} at once, has ${places} places, two with a turn; others are refused at once`, async () => {
      const opened = openQueue()
      assert.equal(await crowd(opened, count, groupsOf), count - places)
      assert.deepEqual(opened.queue.counts(), { places, turns: 2 })
      await opened.endAll()
      assert.equal(opened.begun.length, places)
      assert.equal(opened.mostTurns(), 2)
      assertEmpty(opened.queue)
    })
  }

  test('lets a caller of another network take the next turn', async () => {
    const opened = openQueue()
    await crowd(opened, 50, () => strangerAt('192.0.2.1'))
    const honest = opened.come('honest', strangerAt('198.51.100.7'))
    await opened.end()
    assert.equal(opened.begun.at(-1), 'honest')
    await opened.endAll()
    assert.equal(await honest, 'honest')
  })

  test('of a /48 takes turns as one group: a caller from elsewhere does not wait for each /64', async () => {
    const opened = openQueue()
    await crowd(opened, 500, (number) => strangerAt(`2001:db8:1:${number.toString(16)}::1`))
    opened.come('one', strangerAt('2001:db8:2::1'))
    opened.come('two', strangerAt('2001:db8:3::1'))
    await opened.end()
    await opened.end()
    assert.deepEqual(opened.begun.slice(2), ['one', 'two'])
    await opened.endAll()
  })

  test('of anonymous callers takes no place of a client or of a known user, and these take the next turns', async () => {
    const opened = openQueue()
    const refused = await crowd(opened, 1500, (number) => strangerAt(`10.${number >> 8}.${number & 255}.1`))
    assert.equal(refused, 1484)
    await assert.rejects(opened.come('stranger', strangerAt('198.51.100.7')), Overloaded)
    opened.come('client', authenticatedClient('kiosk', '198.51.100.7'))
    opened.come('user', knownUser('ana'))
    await opened.end()
    await opened.end()
    assert.deepEqual(opened.begun.slice(2), ['client', 'user'])
    await opened.endAll()
  })

  const few: [string, (number: number) => QueuedCaller['groups'], QueuedCaller['groups']][] = [
    [
      'anonymous callers of four /24s',
      (number) => strangerAt(`203.0.${number % 4}.${number % 250}`),
      strangerAt('192.0.2.1'),
    ],
    [
      'anonymous callers of two /48s',
      (number) => strangerAt(`2001:db8:${number % 2}:${number.toString(16)}::1`),
      strangerAt('2001:db8:7::1'),
    ],
    ['known users, two of them', (number) => knownUser(`u${number % 2}`), knownUser('ana')],
    [
      'clients of two networks',
      (number) => authenticatedClient(`c${number}`, `203.0.${number % 2}.1`),
      authenticatedClient('kiosk', '192.0.2.1'),
    ],
  ]
  for (const [name, groupsOf, elsewhere] of few) {
    test(`of ${name} takes all places and returns repeatedly: a caller from elsewhere soon has a turn`, async () => {
      const opened = openQueue()
      await crowd(opened, 500, groupsOf)
      const { places } = opened.queue.counts()
      const honest = opened.come('honest', elsewhere)
      assert.equal(await crowd(opened, 500, groupsOf), 500)
      assert.equal(opened.queue.counts().places, places, 'no more than before')
      // Groups take turns. So each of the other groups has at most one turn before the honest caller.
      for (let turn = 0; turn < 4; turn++) await opened.end()
      assert.ok(opened.begun.includes('honest'))
      await opened.endAll()
      assert.equal(await honest, 'honest')
      assert.equal(opened.mostTurns(), 2)
      assertEmpty(opened.queue)
    })
  }

  test('of few networks gives up places until all have as many, but none that has its turn', async () => {
    const opened = openQueue()
    await crowd(opened, 15, (number) => strangerAt(`203.0.${number % 3}.1`))
    const refused = await crowd(opened, 50, () => strangerAt('192.0.2.1'))
    // The new network gets four of the sixteen places: the free place, and one place from each of the three other
    // networks. A further exchange would not be fairer.
    assert.equal(refused, 46)
    assert.deepEqual(opened.queue.counts(), { places: 16, turns: 2 })
    await opened.endAll()
    assert.equal(opened.begun.length, 16)
    assertEmpty(opened.queue)
  })

  test('is served network by network', async () => {
    const opened = openQueue()
    for (const network of [1, 1, 1, 1, 2, 2, 3]) opened.come(`of ${network}`, strangerAt(`192.0.${network}.1`))
    await settled()
    await opened.endAll()
    assert.deepEqual(opened.begun, ['of 1', 'of 1', 'of 2', 'of 3', 'of 1', 'of 2', 'of 1'])
  })
})

describe('a place', () => {
  const connected = () => {
    let leave = () => {}
    const isClosed = { value: false }
    return {
      isClosed: () => isClosed.value,
      onClose: (heard: () => void) => {
        leave = heard
      },
      leave: () => {
        isClosed.value = true
        leave()
      },
    }
  }

  test('is free again when its caller leaves while waiting, and the turn is not given', async () => {
    const opened = openQueue()
    await crowd(opened, 4, () => strangerAt('192.0.2.1'))
    const connection = connected()
    const waiting = opened.come('gone', strangerAt('192.0.2.1'), connection)
    await assert.rejects(opened.come('sixth', strangerAt('192.0.2.1')), Overloaded)
    connection.leave()
    await assert.rejects(waiting, OAuthError)
    const after = opened.come('after', strangerAt('192.0.2.1'))
    await settled()
    await opened.endAll()
    assert.equal(await after, 'after')
    assert.ok(!opened.begun.includes('gone'))
    assertEmpty(opened.queue)
  })

  test('is not taken for a caller that has disconnected already', async () => {
    const opened = openQueue()
    const connection = connected()
    connection.leave()
    await assert.rejects(opened.come('gone', strangerAt('192.0.2.1'), connection), OAuthError)
    assertEmpty(opened.queue)
  })

  test('keeps its turn until the work ends, although its caller has disconnected: it cannot be stopped', async () => {
    const opened = openQueue()
    const connection = connected()
    const working = opened.come('gone', strangerAt('192.0.2.1'), connection)
    await settled()
    connection.leave()
    assert.deepEqual(opened.queue.counts(), { places: 1, turns: 1 })
    await opened.endAll()
    assert.equal(await working, 'gone')
    assertEmpty(opened.queue)
  })

  test('is free again however the work ends', async () => {
    const { queue } = openQueue()
    const groups = strangerAt('192.0.2.1')
    for (let number = 0; number < 20; number++) {
      await assert.rejects(
        queue.withTurn({ groups }, () => Promise.reject(new Error('broken'))),
        /broken/,
      )
      await queue.withTurn({ groups }, async () => {})
    }
    assertEmpty(queue)
  })
})

describe('callers that come again and again, one call at a time,', () => {
  const groupsThatReturn: [string, number, QueuedCaller['groups'][]][] = [
    ['of two networks', 1, [strangerAt('10.0.0.1'), strangerAt('10.0.1.1')]],
    ['of three networks, two turns at once', 2, ['10.0.0.1', '10.0.1.1', '10.0.2.1'].map((each) => strangerAt(each))],
    ['a known user and a client', 1, [knownUser('eve'), authenticatedClient('evil', '10.0.0.1')]],
  ]
  for (const [name, atOnce, comingAgain] of groupsThatReturn) {
    test(`${name}: each of five callers of another network has a turn after one of each of theirs at most`, async () => {
      const queue = createFairQueue(atOnce)
      const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
      let others = 0
      let isOver = false
      const again = comingAgain.map(async (groups) => {
        // The number of rounds is limited, so that the test fails instead of running forever.
        while (!isOver && others < 1000) {
          await queue.withTurn({ groups }, async () => {
            others += 1
            await turn()
          })
        }
      })
      await turn()
      const seen: number[] = []
      const five = Array.from({ length: 5 }, () =>
        queue.withTurn({ groups: strangerAt('203.0.113.1') }, async () => {
          seen.push(others)
          await turn()
        }),
      )
      await Promise.all(five)
      isOver = true
      await Promise.all(again)
      const gaps = seen.map((turns, index) => turns - (seen[index - 1] ?? seen[0]!))
      assert.ok(Math.max(...gaps) <= 2 * comingAgain.length, `turns of the others between two: ${gaps}`)
      assertEmpty(queue)
    })
  }
})

test('work that does not end keeps its turn for a limited time only, and its result is delivered', async () => {
  const clock = createStageClock()
  const queue = createFairQueue(1, clock)
  const held = Promise.withResolvers<string>()
  const stuck = queue.withTurn({ groups: strangerAt('192.0.2.1') }, () => held.promise)
  const next = queue.withTurn({ groups: strangerAt('192.0.2.1') }, async () => 'next')
  await new Promise(setImmediate)
  clock.advance(9_999)
  assert.equal(queue.counts().turns, 1)
  assert.equal(queue.counts().places, 2)
  clock.advance(1)
  assert.equal(await next, 'next')
  held.resolve('late')
  assert.equal(await stuck, 'late')
  assertEmpty(queue)
})
