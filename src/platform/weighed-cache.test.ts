import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createWeighedCache } from './weighed-cache.ts'

const heldBy = (cache: { get(key: string): string | undefined }) => [...'abcde'].filter((key) => cache.get(key))

test('the values that were set first are removed when all together take too much', () => {
  const cache = createWeighedCache<string>(100)
  for (const key of 'abcd') cache.set(key, key, 25)
  assert.deepEqual(heldBy(cache), ['a', 'b', 'c', 'd'])
  cache.set('e', 'e', 30)
  assert.deepEqual(heldBy(cache), ['c', 'd', 'e'], 'one large value takes the place of two')
  cache.set('c', 'c', 25)
  cache.set('a', 'a', 25)
  assert.deepEqual(heldBy(cache), ['a', 'c', 'e'], 'c was set again, so d was the first')
})

test('a removed or replaced value takes nothing any more', () => {
  const cache = createWeighedCache<string>(100)
  for (let times = 0; times < 10; times++) cache.set('a', 'a', 90)
  cache.remove('a')
  cache.remove('a')
  cache.set('b', 'b', 50)
  cache.set('c', 'c', 50)
  assert.deepEqual(heldBy(cache), ['b', 'c'])
  cache.clear()
  cache.set('d', 'd', 100)
  assert.deepEqual(heldBy(cache), ['d'])
})

test('the first values are removed as far as the caller says', () => {
  const cache = createWeighedCache<string>(100)
  for (const key of 'abc') cache.set(key, key, 10)
  cache.removeOldestWhile((value) => value !== 'c')
  assert.deepEqual(heldBy(cache), ['c'])
})
