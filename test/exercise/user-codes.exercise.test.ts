/** The tries at user codes: each is counted, however many come at once, to whichever node (UC-6). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createUserCodeStore } from '../../src/user-hint/user-code-store.ts'
import { createUserStore } from '../../src/user-hint/user-store.ts'
import { engines } from '../cast/engines.ts'
import { furnished, rowsOf } from '../cast/rows.ts'

const minute = 60_000
const limits = { maxTries: 5, maxTriesPerClient: 1000, lockFor: 15 * minute }
const forty = Array.from({ length: 40 }, (_, number) => number)

for (const engine of engines) {
  describe(`tries at user codes, on ${engine.name}`, () => {
    const open = async (t: Parameters<typeof furnished>[0]) => {
      const { one, other, clock } = await furnished(t, engine, { count: 2 })
      const [here, there] = [createUserCodeStore(one.database), createUserCodeStore(other.database)]
      await Promise.all(forty.map((number) => (number % 2 ? here : there).find('nobody')))
      const counted = async () =>
        Object.fromEntries(
          (await rowsOf(one.database, 'user_code_tries')).map(({ counter, tries }) => [counter, tries]),
        )
      return {
        here,
        node: (number: number) => (number % 2 ? here : there),
        now: clock.now(),
        counted,
        database: one.database,
      }
    }

    test('all are counted, at the user and at the client', async (t) => {
      const { node, now, counted } = await open(t)
      const wide = { ...limits, maxTries: 1000 }
      await Promise.all(
        forty.map(async (number) => {
          assert.equal(await node(number).begin('u', 'c', now + number, wide), true)
          await node(number).wrong('c', now + number, wide)
        }),
      )
      assert.deepEqual(await counted(), { 'user u': 40, 'client c': 40 })
    })

    test('no more than are allowed go on', async (t) => {
      const { node, now, counted } = await open(t)
      const went = await Promise.all(forty.map((number) => node(number).begin('u', 'c', now, limits)))
      assert.equal(went.filter(Boolean).length, 5)
      assert.deepEqual(await counted(), { 'user u': 5 })
    })

    test('while a client is locked out, its tries lock out nobody', async (t) => {
      const { here, node, now, counted } = await open(t)
      const strict = { ...limits, maxTriesPerClient: 1 }
      await here.wrong('c', now, strict)
      const went = await Promise.all(forty.map((number) => node(number).begin('u', 'c', now, strict)))
      assert.deepEqual(new Set(went), new Set([false]))
      assert.deepEqual(await counted(), { 'client c': 1 })
      assert.equal(await here.begin('u', 'another', now, strict), true)
      assert.equal(await here.begin('u', 'c', now + limits.lockFor, strict), true)
    })

    test('count anew once the last is long enough ago, and are forgotten', async (t) => {
      const { here, now, counted } = await open(t)
      for (const each of [1, 2, 3]) await here.begin('u', 'c', now + each, limits)
      await here.wrong('c', now, limits)
      await here.begin('u', 'c', now + 3 + limits.lockFor, limits)
      await here.wrong('c', now + limits.lockFor, limits)
      assert.deepEqual(await counted(), { 'user u': 1, 'client c': 1 })
      await here.forgetTries(now + limits.lockFor)
      assert.deepEqual(await counted(), { 'user u': 1 })
      await here.right('u', 'c', now, limits)
      assert.deepEqual(await counted(), {})
    })

    test('a user who is removed takes the code along', async (t) => {
      const { here, now, database } = await open(t)
      const users = createUserStore(database)
      await users.add({ id: 'dora', username: 'dora' }, now)
      await here.put('dora', 'scrypt.a.b', now)
      assert.equal((await here.find('dora'))?.hash, 'scrypt.a.b')
      assert.equal(await here.replace('dora', 'scrypt.another', 'scrypt.c.d', now), false)
      assert.equal(await here.replace('dora', 'scrypt.a.b', 'scrypt.c.d', now), true)
      await users.remove('dora')
      assert.equal(await here.find('dora'), undefined)
    })
  })
}
