import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Place, Places } from './places.ts'

const never = new AbortController().signal
/** A place becomes free one turn of the event loop after it was left. */
const turn = () => new Promise(setImmediate)

/** Callers of `places`, recorded in the order in which they enter. */
function visitors(places: Places) {
  const entered: string[] = []
  const taken = new Map<string, Place>()
  return {
    entered,
    async come(key: string, number: number, signal = never) {
      taken.set(`${key}${number}`, await places.enter(key, signal))
      entered.push(`${key}${number}`)
    },
    async go(name: string) {
      taken.get(name)!.leave()
      await turn()
    },
    async move(name: string, group: string) {
      const hasMoved = taken.get(name)!.moveTo(group)
      await turn()
      return hasMoved
    },
  }
}

describe('places', () => {
  test('are limited for each key and in all', async () => {
    const places = new Places({ each: 2, inAll: 5 })
    const { come, entered } = visitors(places)
    for (const key of ['a', 'b', 'c']) for (const number of [1, 2, 3]) void come(key, number)
    await turn()
    assert.deepEqual(entered, ['a1', 'a2', 'b1', 'b2', 'c1'])
    assert.equal(places.taken, 5)
  })

  const speeds = { of: (key: string) => (key.startsWith('slow') ? 'slow' : 'quick'), most: { slow: 3 } }

  test('of a group of keys are limited, and other keys pass the waiting ones', async () => {
    const places = new Places({ each: 2, inAll: 5, groups: speeds })
    const { come, go, entered } = visitors(places)
    for (const key of ['slow-a', 'slow-b', 'slow-c']) for (const number of [1, 2]) void come(key, number)
    for (const key of ['b', 'c']) void come(key, 1)
    await turn()
    assert.deepEqual(entered.splice(0), ['slow-a1', 'slow-a2', 'slow-b1', 'b1', 'c1'])
    await go('b1')
    assert.deepEqual(entered.splice(0), [], 'no place of others')
    await go('slow-a1')
    assert.equal(entered.length, 1)
    assert.match(entered[0]!, /^slow-[bc]/)
  })

  test('can count for another group, if it has room, and are free for their own group then', async () => {
    const places = new Places({ each: 4, inAll: 6, groups: { ...speeds, most: { quick: 2, slow: 3 } } })
    const { come, go, move, entered } = visitors(places)
    for (const key of ['a', 'b', 'slow-a']) for (const number of [1, 2, 3]) void come(key, number)
    await turn()
    assert.deepEqual(entered.splice(0), ['a1', 'a2', 'slow-a1', 'slow-a2', 'slow-a3'])
    assert.equal(await move('a1', 'slow'), false)
    assert.deepEqual(entered, [])
    await go('slow-a1')
    assert.equal(await move('a1', 'slow'), true)
    assert.equal(await move('a1', 'slow'), true, 'it is there already')
    assert.equal(entered.splice(0).length, 1)
    assert.equal(await move('a2', 'slow'), false)
    await go('a1')
    assert.deepEqual(entered, [], 'the place was no longer one of its own group')
    assert.equal(await move('a2', 'slow'), true)
    assert.equal(entered.length, 1)
  })

  test('that become free go to each line in turn, not to the longest', async () => {
    const { come, go, entered } = visitors(new Places({ each: 2, inAll: 4 }))
    for (let number = 1; number <= 100; number++) for (const key of ['a', 'b']) void come(key, number)
    for (const key of ['c', 'd']) void come(key, 1)
    await turn()
    for (const name of ['a1', 'b1', 'a2', 'b2']) await go(name)
    assert.deepEqual(entered.slice(4), ['a3', 'b3', 'c1', 'd1'])
  })

  test('are not kept for callers that have given up', async () => {
    const places = new Places({ each: 1 })
    const { come, go, entered } = visitors(places)
    const stop = new AbortController()
    await come('a', 1)
    const givingUp = assert.rejects(come('a', 2, stop.signal), /enough/)
    void come('a', 3)
    stop.abort(new Error('enough'))
    await givingUp
    await assert.rejects(come('a', 4, stop.signal), /enough/)
    await go('a1')
    assert.deepEqual(entered, ['a1', 'a3'])
    await go('a3')
    assert.equal(places.taken, 0)
  })
})
