import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { mostKeys } from './key-members.ts'
import { createKeySets, KeysUnavailable } from './key-sets.ts'

const key = { kty: 'EC', crv: 'P-256', kid: 'one', x: 'x', y: 'y', alg: 'ES256', use: 'sig' }

function keySetsOf(set: unknown, prefix = '') {
  const answer = { status: 200, headers: {}, body: prefix + JSON.stringify(set) }
  return createKeySets({
    caller: { call: async () => answer, close: async () => {} },
    releaseSlotWhile: (_slot, fetched) => fetched,
    keptInOutageMs: 0,
    clock: createStageClock(),
  })
}

const address = 'https://client.example/keys'
const latest = (set: unknown) => keySetsOf(set).latest(address, undefined)

/**
 * Returns the number of texts, lists and objects in a value. The memory that a cached value takes depends on this
 * number.
 */
function valuesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1
  return Object.values(value).reduce((sum: number, inner) => sum + valuesIn(inner), 1)
}

describe('of a fetched key set', () => {
  test('known members of keys are kept', async () => {
    const rsa = { kty: 'RSA', n: 'n', e: 'AQAB', x5c: ['MII', 'MII'], 'x5t#S256': 'x' }
    const published = { ...rsa, key_ops: ['sign', 'verify'], oth: [], d: null }
    assert.deepEqual(await latest({ keys: [key, published] }), { keys: [key, rsa] })
  })

  test('a byte order mark is skipped', async () => {
    const sets = keySetsOf({ keys: [key] }, '\uFEFF')
    assert.deepEqual(await sets.latest(address, undefined), { keys: [key] })
  })

  test('nothing else is kept, however many small values 64 kB of text contain', async () => {
    const many = Array.from({ length: 20_000 }, () => [])
    const names = Object.fromEntries(many.map((_, number) => [`x${number}`, {}]))
    for (const more of [{ a: many }, { kid: many }, { x5c: many.map(() => 'x') }, { x5u: names }, names]) {
      const { keys } = await latest({ keys: [{ ...key, ...more }], more })
      assert.ok(valuesIn(keys) <= 10, Object.keys(more)[0])
    }
  })

  test('keys that make verification slow are left out', async () => {
    const rsa = { kty: 'RSA', n: Buffer.alloc(384, 1).toString('base64url'), e: 'AQAB' }
    const long = Buffer.alloc(383, 1).toString('base64url')
    const costly = [
      { ...rsa, e: long },
      { ...rsa, e: 'AQAAAAE' },
      { ...rsa, n: Buffer.alloc(1025, 1).toString('base64url') },
    ]
    assert.deepEqual(await latest({ keys: [...costly, rsa] }), { keys: [rsa] })
  })

  test('keys of unknown types are left out (RFC 7517 §5)', async () => {
    const unknown = [
      { kty: 'AKP', alg: 'ML-DSA-44', pub: 'x' },
      { kty: 'oct' },
      { kty: 'LMS' },
      { kty: 7 },
      { kid: 'one' },
    ]
    assert.deepEqual(await latest({ keys: [...unknown, key] }), { keys: [key] })
  })

  test('a set with more keys than the limit is refused', async () => {
    assert.equal((await latest({ keys: Array.from({ length: mostKeys }, () => key) })).keys.length, mostKeys)
    for (const keys of [Array.from({ length: mostKeys + 1 }, () => ({})), 'keys', null]) {
      await assert.rejects(latest({ keys }), /no list of at most/)
    }
    for (const set of [null, 7, []]) await assert.rejects(latest(set), /no list of at most/)
    assert.deepEqual((await latest({ keys: [null, 7, [], key] })).keys, [key])
  })
})

describe('the cached sets', () => {
  const addresses = Array.from({ length: 1000 }, (_, number) => `https://client.example/${number}`)

  async function cachedOf(set: unknown): Promise<number> {
    const sets = keySetsOf(set)
    for (const uri of addresses) await sets.latest(uri, undefined)
    return addresses.filter((uri) => sets.known(uri) !== undefined).length
  }

  test('are a thousand usual ones', async () => {
    assert.equal(await cachedOf({ keys: [key, key, key] }), 1000)
  })

  test('of the largest ones, far fewer', async () => {
    const cached = await cachedOf({ keys: Array.from({ length: mostKeys }, () => ({ ...key, x: 'x'.repeat(550) })) })
    assert.ok(cached >= 50 && cached <= 100, `${cached} cached`)
  })
})

describe('a set that cannot be fetched again', () => {
  const away: (() => Promise<{ status: number; headers: object; body: string }>)[] = [
    async () => {
      throw new Error('connect ECONNREFUSED')
    },
    async () => ({ status: 500, headers: {}, body: '' }),
    async () => ({ status: 404, headers: {}, body: 'not found' }),
    async () => ({ status: 200, headers: {}, body: '<html>' }),
    async () => ({ status: 200, headers: {}, body: '{}' }),
  ]

  for (const [index, fail] of away.entries()) {
    test(`stays in use for the time of the setting, for certificates and oidc-provider too (${index})`, async () => {
      const clock = createStageClock()
      let answer = async () => ({ status: 200, headers: {}, body: JSON.stringify({ keys: [key] }) })
      const sets = createKeySets({
        caller: { call: (() => answer()) as never, close: async () => {} },
        releaseSlotWhile: (_slot, fetched) => fetched,
        keptInOutageMs: 3600_000,
        clock,
      })
      assert.equal(sets.known(address), undefined)
      assert.deepEqual((await sets.latest(address, undefined)).keys, [key])
      answer = fail as typeof answer
      clock.advance(59 * 60_000)
      assert.equal(sets.known(address), undefined, 'it must be fetched first')
      assert.deepEqual((await sets.latest(address, undefined)).keys, [key])
      assert.deepEqual(sets.known(address)?.keys, [key])
      clock.advance(60_001)
      await assert.rejects(sets.latest(address, undefined), KeysUnavailable)
      assert.throws(() => sets.known(address))
      clock.advance(30_000)
      answer = async () => ({ status: 200, headers: {}, body: '{"keys":[]}' })
      assert.deepEqual((await sets.latest(address, undefined)).keys, [], 'a removed key is gone with the next fetch')
    })
  }
})

describe('the age of a fetched set, while the wall clock is set back', () => {
  const hourMs = 3_600_000

  async function fetched() {
    const clock = createStageClock()
    const calls = { all: 0, fail: false }
    const sets = createKeySets({
      caller: {
        async call() {
          calls.all += 1
          if (calls.fail) throw new Error('connect ECONNREFUSED')
          return { status: 200, headers: {}, body: JSON.stringify({ keys: [key] }) }
        },
        close: async () => {},
      },
      releaseSlotWhile: (_slot, fetched) => fetched,
      keptInOutageMs: hourMs,
      clock,
    })
    await sets.latest(address, undefined)
    clock.setBack(24 * hourMs)
    return {
      clock,
      calls,
      sets,
      find: async () => sets.at(address, undefined)({ alg: 'ES256', kid: 'two' }, {} as never),
    }
  }

  test('a removed key is no longer accepted after half a minute', async () => {
    const { clock, calls, sets } = await fetched()
    clock.advance(30_000)
    await sets.latest(address, undefined)
    assert.equal(calls.all, 1)
    clock.advance(1)
    await sets.latest(address, undefined)
    assert.equal(calls.all, 2)
  })

  test('a set is known for ten minutes', async () => {
    const { clock, sets } = await fetched()
    clock.advance(10 * 60_000)
    assert.deepEqual(sets.known(address)?.keys, [key])
    clock.advance(1)
    assert.equal(sets.known(address), undefined)
  })

  test('a set that lacks a key is fetched again after half a minute', async () => {
    const { clock, calls, find } = await fetched()
    await assert.rejects(find(), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
    assert.equal(calls.all, 1)
    clock.advance(30_001)
    await assert.rejects(find(), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
    assert.equal(calls.all, 2)
  })

  test('a set that cannot be fetched again is used for the time of the setting', async () => {
    const { clock, calls, sets } = await fetched()
    calls.fail = true
    clock.advance(hourMs)
    assert.deepEqual((await sets.latest(address, undefined)).keys, [key])
    clock.advance(1)
    await assert.rejects(sets.latest(address, undefined), KeysUnavailable)
  })
})
