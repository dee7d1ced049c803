/**
 * Tests the limits at their default values. Places are kept in the memory of the process, so a test with ten thousand
 * places needs no server. `test/flows/begun-sign-ins.story.test.ts` has lower limits, and shows that each place is a
 * row.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../test/support/clock.ts'
import { loadConfig } from '../config/load.ts'
import { createSignInPlaces, NoPlace } from './sign-in-places.ts'

async function openPlaces() {
  const { limits } = await loadConfig({ env: {}, overrides: { development: true, database: 'sqlite::memory:' } })
  const { openPerNetwork, openInAll } = limits.signIn
  const clock = createStageClock()
  const places = createSignInPlaces({ perNetwork: openPerNetwork, inAll: openInAll }, clock)
  let begun = 0
  /** Begins a sign-in and stores its row. Returns the rows to be removed, or after how many seconds to try again. */
  function begin(address: string): string[] | number {
    try {
      const place = places.begin(address)
      const removed = place.keep(`row ${begun++}`, clock.now() + 600_000)
      return [...removed, ...place.end()]
    } catch (error) {
      if (error instanceof NoPlace) return error.retryAfter
      throw error
    }
  }
  return { places, clock, begin }
}

const network = (n: number) => `10.${n >> 8}.${n & 255}.1`

describe('unfinished sign-ins, with the default limits', () => {
  test('of one network there are a hundred, of ten times as many callers too', async () => {
    const { places, begin } = await openPlaces()
    const answers = Array.from({ length: 1000 }, (_, n) => begin(`198.51.100.${n % 250}`))
    assert.deepEqual([answers.filter((each) => each === 60).length, places.count()], [900, 100])
  })

  test('of all networks there are ten thousand, of ten times as many calls from ten thousand networks too', async () => {
    const { places, clock, begin } = await openPlaces()
    for (let n = 0; n < 10_000; n++) assert.deepEqual(begin(network(n % 1000)), [])
    assert.equal(places.count(), 10_000)
    clock.advance(59_000)
    // The network of the newcomer has fewer sign-ins than the other networks. So the newcomer takes the place of one of
    // their sign-ins.
    const newcomer = begin('203.0.113.7')
    assert.equal((newcomer as string[]).length, 1)
    let refused = 0
    for (let n = 0; n < 100_000; n++) if (typeof begin(network(n % 10_000)) === 'number') refused += 1
    assert.equal(places.count(), 10_000)
    assert.ok(refused > 0 && refused < 100_000, String(refused))
    clock.advance(60_000)
    const [removed, ...others] = begin('192.0.2.7') as string[]
    assert.deepEqual([typeof removed, others, places.count()], ['string', [], 10_000])
  })

  test('all places are free again when the sign-ins have expired, whatever has ended before', async () => {
    const { places, clock, begin } = await openPlaces()
    for (let n = 0; n < 10_000; n++) begin(network(n % 1000))
    for (let n = 0; n < 500; n++) places.ended(`row ${n}`)
    clock.advance(300_000)
    for (let n = 0; n < 500; n++) assert.equal(Array.isArray(begin('203.0.113.7')), n < 100)
    assert.equal(places.count(), 9_600)
    clock.advance(300_000)
    for (let n = 0; n < 10_000; n++) begin(network(n % 1000))
    assert.equal(places.count(), 10_000)
    assert.equal((begin('192.0.2.7') as string[]).length, 1, 'one of those begun five minutes ago makes room')
  })
})
