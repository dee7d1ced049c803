import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pruneByCursor } from './cursor-prune.ts'

/** A table of numbers. Rows with odd numbers may be removed. */
function table(ids: number[]) {
  const left = new Set(ids.map((id) => String(id).padStart(4, '0')))
  let looked = 0
  const forget = pruneByCursor({
    async next(after, before, atMost) {
      const found = [...left].filter((id) => id > after && Number(id) < before).slice(0, atMost)
      looked += found.length
      return found
    },
    async remove(these) {
      const gone = these.filter((id) => Number(id) % 2 === 1)
      for (const id of gone) left.delete(id)
      return gone.length
    },
  })
  return { forget, left: () => [...left].map(Number), looked: () => looked }
}

const numbers = (from: number, to: number, step = 1) =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step)

test('at most the given number of rows is removed, and none that is too young', async () => {
  const { forget, left } = table(numbers(1, 10))
  assert.equal(await forget(8, 2), 2)
  assert.deepEqual(left(), [2, 4, 5, 6, 7, 8, 9, 10])
  assert.equal(await forget(8, 5), 2)
  assert.deepEqual(left(), [2, 4, 6, 8, 9, 10])
})

test('rows that must stay are looked at once before the scan starts again', async () => {
  const { forget, left, looked } = table([...numbers(2, 2000, 2), ...numbers(2001, 2009, 2)])
  // A thousand rows must stay. Each call looks at a hundred of them.
  for (let time = 0; time < 10; time++) {
    assert.equal(await forget(9999, 10), 0)
    assert.equal(looked(), (time + 1) * 100)
  }
  assert.equal(await forget(9999, 10), 5)
  assert.equal(looked(), 1005)
  assert.equal(left().length, 1000)
  // The next call starts again at the beginning.
  assert.equal(await forget(9999, 10), 0)
  assert.equal(looked(), 1105)
})

test('rows whose removal failed are removed in the next round', async () => {
  let failures = 1
  const left = new Set(['a', 'b', 'c'])
  const forget = pruneByCursor({
    next: async (after, _before, atMost) => [...left].filter((id) => id > after).slice(0, atMost),
    async remove(ids) {
      if (failures-- > 0) throw new Error('no table')
      for (const id of ids) left.delete(id)
      return ids.length
    },
  })
  await assert.rejects(forget(1, 2), /no table/)
  assert.equal(await forget(1, 2), 1)
  assert.equal(await forget(1, 9), 2)
  assert.equal(left.size, 0)
})
