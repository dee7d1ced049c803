/**
 * Name servers that do not answer use only a part of the places for lookups. So lookups for known receivers do not
 * wait.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { addressesOf, ask, longMs, namesAsked, scene, turn } from '../../../test/support/name-lookup.ts'
import { until } from '../../../test/support/until.ts'
import { lookupLimits, quickMs } from './name-lookup.ts'

describe('receivers whose name servers are silent:', () => {
  test('a thousand names of a hundred receivers: no more lookups than allowed for new receivers', async (t) => {
    const { server, lookup } = await scene(t)
    server.hush(/\.silent\d+\.example$/)
    const hanging = ask(lookup, 1000, (n) => `n${n}.silent${n % 100}.example`)
    await server.until(() => server.asked.length > 0)
    assert.equal(lookup.underWay(), lookupLimits.new)
    lookup.close()
    await hanging()
    await turn()
    assert.equal(lookup.underWay(), 0)
    assert.ok(namesAsked(server).size <= lookupLimits.new)
  })

  test('they get fewer places once this is known, however many names they have', async (t) => {
    const { server, lookup, clock } = await scene(t)
    server.hush(/\.silent\d+\.example$/)
    server.tell('quick.example', ['192.0.2.1'])
    // A receiver does not count as silent yet when its first lookup is aborted. So the first round can use only the
    // places for new receivers, and only the second round can also use the places for silent receivers.
    const rounds = { first: lookupLimits.new, second: lookupLimits.silent + lookupLimits.new }
    for (const [round, underWay] of Object.entries(rounds)) {
      const begun = ask(lookup, 200, (n) => `${round}.silent${n}.example`)
      await server.until(() => namesAsked(server, new RegExp(`^${round}`)).size > 0)
      assert.equal(lookup.underWay(), underWay)
      for (let seconds = 0; seconds < longMs / 1_000; seconds++) {
        clock.advance(1_000)
        await turn()
      }
      await begun()
      await turn()
      assert.equal(lookup.underWay(), 0)
    }
    const hanging = ask(lookup, 2000, (n) => `third${n}.silent${n % 200}.example`)
    await turn()
    assert.equal(lookup.underWay(), lookupLimits.silent)
    assert.deepEqual(addressesOf(await lookup.resolve('quick.example')), ['192.0.2.1'])
    await turn()
    assert.equal(lookup.underWay(), lookupLimits.silent)
    lookup.close()
    await hanging()
    await turn()

    clock.advance(5 * 60_000)
    const later = ask(lookup, 200, (n) => `fourth.silent${n}.example`)
    await turn()
    assert.equal(lookup.underWay(), lookupLimits.new, 'their silence is forgotten')
    lookup.close()
    await later()
  })

  for (const count of [300, 3_000]) {
    test(`${count} of them that are new: a known receiver is resolved at once, another new one in its turn`, async (t) => {
      const { server, lookup, clock } = await scene(t)
      server.hush(/silent/)
      for (const name of ['known.example', 'www.known.example', 'new.example']) server.tell(name, ['192.0.2.1'])
      await lookup.resolve('known.example')
      const hanging = ask(lookup, count, (n) => `silent${n}.example`)
      await turn()
      assert.equal(lookup.underWay(), lookupLimits.new)
      assert.deepEqual(addressesOf(await lookup.resolve('www.known.example')), ['192.0.2.1'])

      const inTurn = ask(lookup, 1, () => 'new.example')
      for (let begun = lookupLimits.new; begun <= count; begun += lookupLimits.new) {
        assert.equal(namesAsked(server, /^new/).size, 0)
        clock.advance(quickMs)
        await until(() => namesAsked(server, /^silent/).size === Math.min(count, begun + lookupLimits.new))
        assert.ok(lookup.underWay() <= lookupLimits.silent + lookupLimits.new)
      }
      await inTurn()
      assert.deepEqual(addressesOf(await lookup.resolve('new.example')), ['192.0.2.1'])
      lookup.close()
      await hanging()
    })
  }

  for (const kind of ['known', 'new'] as const) {
    describe(`while they have all their places, a ${kind} receiver`, () => {
      async function withAllPlacesTaken(t: TestContext) {
        const { server, lookup, clock } = await scene(t)
        server.hush(/silent|^slow/)
        for (const name of ['www.receiver.example', 'quick.receiver.example', 'last.receiver.example'])
          server.tell(name, ['192.0.2.1'])
        if (kind === 'known') await lookup.resolve('www.receiver.example')
        const hanging = ask(lookup, lookupLimits.silent, (n) => `silent${n}.example`)
        await server.until(() => namesAsked(server, /silent/).size === lookupLimits.silent)
        clock.advance(quickMs)
        return {
          clock,
          server,
          resolve: lookup.resolve,
          /** Looks up these names at the same time. The name servers do not answer, so all lookups are aborted. */
          async beSlow(...names: string[]) {
            const ended = names.map((name) => lookup.resolve(name).catch(({ code }: { code: string }) => code))
            await server.until(() => names.every((name) => namesAsked(server).has(name)))
            clock.advance(quickMs)
            for (const each of ended) assert.equal(await each, 'ECANCELLED')
          },
          /** Resolves to whether a further lookup for the receiver waits, as the lookups for silent receivers do. */
          async waits() {
            const waiting = ask(lookup, 1, () => 'last.receiver.example')
            await turn()
            const waits = lookup.underWay() === lookupLimits.silent
            lookup.close()
            await Promise.all([hanging(), waiting()])
            return waits && namesAsked(server, /^last/).size === 0
          },
        }
      }

      test('is forgiven one slow answer, or several at the same time', async (t) => {
        const { beSlow, resolve, waits } = await withAllPlacesTaken(t)
        await beSlow('slow1.receiver.example', 'slow2.receiver.example')
        assert.deepEqual(addressesOf(await resolve('quick.receiver.example')), ['192.0.2.1'])
        assert.equal(await waits(), false)
      })

      test('does not count as silent if its name servers answer about one family of addresses only', async (t) => {
        const { clock, server, resolve, waits } = await withAllPlacesTaken(t)
        server.hush(/^half/, 'AAAA')
        for (const name of ['half1.receiver.example', 'half2.receiver.example', 'half3.receiver.example']) {
          server.tell(name, ['192.0.2.1'])
          const found = resolve(name)
          await server.until(() => server.asked.filter((each) => each.startsWith(name)).length === 2)
          // When this lookup has been answered, the earlier answer about IPv4 has arrived too.
          await resolve('www.receiver.example')
          clock.advance(quickMs)
          assert.deepEqual(addressesOf(await found), ['192.0.2.1'])
        }
        assert.equal(await waits(), false)
      })

      test('counts as silent after another one within five minutes, whatever was answered in between', async (t) => {
        const { clock, beSlow, resolve, waits } = await withAllPlacesTaken(t)
        await beSlow('slow1.receiver.example')
        clock.advance(5_000)
        await resolve('quick.receiver.example')
        await beSlow('slow2.receiver.example')
        assert.equal(await waits(), true)
      })
    })
  }

  test('three hundred that were resolved before keep places for a second only', async (t) => {
    const { server, lookup, clock } = await scene(t)
    server.tell('quick.example', ['192.0.2.1'])
    const fickle = Array.from({ length: 300 }, (_, n) => `fickle${n}.example`)
    for (const name of fickle) {
      server.tell(name, ['192.0.2.1'])
      await lookup.resolve(name)
    }
    server.hush(/^silent\./)
    const hanging = ask(lookup, fickle.length, (n) => `silent.${fickle[n]}`)
    await turn()
    assert.equal(lookup.underWay(), lookupLimits.inAll)
    const inTurn = lookup.resolve('quick.example')
    clock.advance(quickMs)
    assert.deepEqual(addressesOf(await inTurn), ['192.0.2.1'])
    await turn()
    assert.equal(lookup.underWay(), lookupLimits.silent + fickle.length - lookupLimits.inAll)
    lookup.close()
    await hanging()
  })
})
