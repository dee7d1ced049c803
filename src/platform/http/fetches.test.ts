import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { inTime } from '../../../test/support/until.ts'
import { createFetches, fetchLimits } from './fetches.ts'
import type { Slot } from './load-shedding.ts'
import { Overloaded } from './unavailable.ts'

const { underWay, waiting } = fetchLimits

type Each = string | ((n: number) => string)

const at = (each: Each, n: number) => (typeof each === 'string' ? each : each(n))

/** Every fetch stays open until the test ends it. */
function scene() {
  const clock = createStageClock()
  const begun = new Map<string, PromiseWithResolvers<string>>()
  const fetches = createFetches<string>({
    clock,
    releaseSlotWhile: (_slot, fetched) => fetched,
    load(url) {
      const pending = Promise.withResolvers<string>()
      begun.set(url, pending)
      return pending.promise
    },
  })
  return {
    clock,
    begun,
    fetches,
    /** Resolves to the outcome of each call: a document, or an error. */
    ask(count: number, url: Each, address: Each) {
      const outcomes = Array.from({ length: count }, (_, n) =>
        fetches.get(at(url, n), { address: at(address, n) } as Slot).catch((error: Error) => error),
      )
      return inTime(Promise.all(outcomes), () => `the outcomes of ${count} calls`)
    },
    end(text?: string) {
      for (const { resolve, reject } of begun.values()) text === undefined ? reject(new Error('no')) : resolve(text)
      begun.clear()
    },
  }
}

const refused = (outcomes: unknown[]) => outcomes.filter((each) => each instanceof Overloaded).length

describe('callers that wait for one document', () => {
  test('share one fetch, and are limited for each network', async () => {
    const { ask, begun, fetches, end } = scene()
    const outcomes = ask(1000, 'https://a.example/keys', (n) => `192.0.2.${n % 256}`)
    assert.deepEqual(fetches.count(), { underWay: 1, waiting: waiting.eachNetworkAndUrl })
    assert.equal(begun.size, 1)
    end('keys')
    assert.equal(refused(await outcomes), 1000 - waiting.eachNetworkAndUrl)
    assert.deepEqual(fetches.count(), { underWay: 0, waiting: 0 })
  })

  test('are limited in all: ten thousand callers of a thousand networks', async () => {
    const { ask, fetches, end } = scene()
    const outcomes = ask(10_000, 'https://a.example/keys', (n) => `10.${n % 250}.${n % 4}.1`)
    assert.deepEqual(fetches.count(), { underWay: 1, waiting: waiting.eachUrl })
    end('keys')
    assert.equal(refused(await outcomes), 10_000 - waiting.eachUrl)
  })

  test('are limited for one network, however many documents they wait for', async () => {
    const { ask, fetches, end } = scene()
    // The fetches are begun from other networks, so that the limit on fetches under way is not reached here.
    const others = ask(
      8,
      (n) => `https://a${n}.example/keys`,
      (n) => `198.51.${n}.1`,
    )
    const outcomes = ask(
      1000,
      (n) => `https://a${n % 8}.example/keys`,
      (n) => `192.0.2.${n % 256}`,
    )
    assert.deepEqual(fetches.count(), { underWay: 8, waiting: 8 + waiting.eachNetwork })
    const elsewhere = ask(1, 'https://a0.example/keys', '203.0.113.1')
    assert.equal(fetches.count().waiting, 8 + waiting.eachNetwork + 1, 'another network may still wait')
    end('keys')
    assert.equal(refused(await outcomes), 1000 - waiting.eachNetwork)
    assert.equal(refused([...(await others), ...(await elsewhere)]), 0)
    assert.deepEqual(fetches.count(), { underWay: 0, waiting: 0 })
  })

  test('are limited in all, over all documents and networks', async () => {
    const { ask, fetches, end } = scene()
    const outcomes = ask(
      10_000,
      (n) => `https://a${n % 20}.example/keys`,
      (n) => `10.${n >> 8}.${n & 255}.1`,
    )
    assert.deepEqual(fetches.count(), { underWay: 20, waiting: waiting.inAll })
    const later = ask(1, 'https://a1.example/keys', '203.0.113.1')
    end('keys')
    assert.equal(refused(await outcomes), 10_000 - waiting.inAll)
    assert.equal(refused(await later), 1)
    assert.deepEqual(fetches.count(), { underWay: 0, waiting: 0 })
  })

  test('are counted by the /64 and the /48 of an IPv6 address', async () => {
    const { ask, fetches, end } = scene()
    const outcomes = ask(1000, 'https://a.example/keys', (n) => `2001:db8:1:${n.toString(16)}::1`)
    assert.equal(fetches.count().waiting, waiting.eachNetworkAndUrl)
    end('keys')
    await outcomes
  })
})

describe('fetches under way', () => {
  test('are limited for each network, whatever it names, and so are its waiting callers', async () => {
    const { ask, fetches, end } = scene()
    const outcomes = ask(1000, (n) => `https://a${n}.example/`, '192.0.2.1')
    assert.deepEqual(fetches.count(), { underWay: underWay.eachNetwork, waiting: underWay.eachNetwork })
    const others = ask(1, 'https://b.example/', '203.0.113.1')
    assert.equal(fetches.count().underWay, underWay.eachNetwork + 1)
    end('list')
    assert.equal(refused(await outcomes), 1000 - underWay.eachNetwork)
    assert.deepEqual(await others, ['list'])
  })

  test('are limited for each receiver and in all, for ten thousand callers of as many networks', async () => {
    const { ask, fetches, end } = scene()
    const network = (n: number) => `${10 + Math.floor(n / 65_536)}.${(n >> 8) & 255}.${n & 255}.1`
    const one = ask(1000, (n) => `https://x${n}.evil.example/${n}`, network)
    assert.equal(fetches.count().underWay, underWay.eachReceiver)
    const all = ask(10_000, (n) => `https://evil${n}.example/`, network)
    assert.equal(fetches.count().underWay, underWay.inAll)
    end('list')
    assert.equal(refused([...(await one), ...(await all)]), 11_000 - underWay.inAll)
  })

  test('that failed are not repeated for a while, and then by one caller', async () => {
    const { ask, begun, fetches, clock, end } = scene()
    const once = () => ask(1, 'https://a.example/', '192.0.2.1')
    const first = once()
    end()
    assert.match(String(await first), /no/)
    assert.match(String(await once()), /no/)
    assert.equal(begun.size, 0, 'remembered')
    clock.advance(1000)
    const again = ask(10, 'https://a.example/', '192.0.2.1')
    assert.deepEqual(fetches.count(), { underWay: 1, waiting: 10 })
    end('list')
    assert.deepEqual(new Set(await again), new Set(['list']))
  })
})
