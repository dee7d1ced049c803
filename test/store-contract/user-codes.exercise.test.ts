/** Attempts at user codes. Each attempt is counted, even if many are made at once, at several nodes (UC-6). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createEndUser } from '../../src/endings/end-user.ts'
import { createUserCodeStore } from '../../src/user/user-code/user-code-store.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { engines } from '../support/engines.ts'
import { allRows, furnished, vault } from '../support/rows.ts'

const minute = 60_000
const limits = { maxTries: 5, maxTriesPerClient: 1000, maxTriesPerUser: 1000, lockFor: 15 * minute }
const by = (clientId: string, at: number, userId = 'u') => ({ userId, clientId, at })
const forty = Array.from({ length: 40 }, (_, number) => number)

for (const engine of engines) {
  describe(`attempts at user codes, on ${engine.name}`, () => {
    const open = async (t: Parameters<typeof furnished>[0]) => {
      const { one, other, clock, log } = await furnished(t, engine, { count: 2 })
      const [here, there] = [createUserCodeStore(one.database), createUserCodeStore(other.database)]
      await Promise.all(forty.map((number) => (number % 2 ? here : there).find('nobody')))
      const counted = async () =>
        Object.fromEntries(
          (await allRows(one.database, 'user_code_tries')).map(({ counter, tries }) => [counter, tries]),
        )
      return {
        here,
        node: (number: number) => (number % 2 ? here : there),
        now: clock.now(),
        counted,
        database: one.database,
        clock,
        log,
      }
    }

    test('all are counted, for the user and for the client', async (t) => {
      const { node, now, counted } = await open(t)
      const wide = { ...limits, maxTries: 1000 }
      await Promise.all(
        forty.map(async (number) => {
          assert.equal(await node(number).begin(by('c', now + number), wide), true)
          await node(number).wrong(by('c', now + number), wide)
        }),
      )
      assert.deepEqual(await counted(), { 'pair ["c","u"]': 40, 'user u': 40, 'client c': 40 })
    })

    test('no more than the limit are let through', async (t) => {
      const { node, now, counted } = await open(t)
      const went = await Promise.all(forty.map((number) => node(number).begin(by('c', now), limits)))
      assert.equal(went.filter(Boolean).length, 5)
      assert.deepEqual(await counted(), { 'pair ["c","u"]': 5 })
    })

    test('while a client is locked out, its attempts lock out no user', async (t) => {
      const { here, node, now, counted } = await open(t)
      const strict = { ...limits, maxTriesPerClient: 1 }
      await here.wrong(by('c', now, 'another'), strict)
      const went = await Promise.all(forty.map((number) => node(number).begin(by('c', now), strict)))
      assert.deepEqual(new Set(went), new Set([false]))
      assert.deepEqual(await counted(), { 'client c': 1, 'user another': 1 })
      assert.equal(await here.begin(by('another', now), strict), true)
      assert.equal(await here.begin(by('c', now + limits.lockFor), strict), true)
    })

    test('of many clients for one user: no more than the shared limit get an answer', async (t) => {
      const { node, now, counted } = await open(t)
      const shared = { ...limits, maxTriesPerUser: 12 }
      const heard = await Promise.all(forty.map((number) => node(number).wrong(by(`c${number}`, now), shared)))
      assert.equal(heard.filter(Boolean).length, 12)
      assert.equal((await counted())['user u'], 12)
      assert.equal(await node(1).begin(by('new', now), shared), false)
      assert.equal(await node(1).right(by('new', now), shared), false)
      const known = { ...shared, maxTriesPerUser: undefined }
      assert.equal(await node(1).begin(by('known', now), known), true)
      assert.equal(await node(1).wrong(by('known', now), known), true)
      assert.equal(await node(1).right(by('known', now), known), true)
    })

    test('a new code deletes every counter about its user', async (t) => {
      const { here, now, counted } = await open(t)
      for (const client of ['a', 'b']) {
        await here.begin(by(client, now), limits)
        await here.wrong(by(client, now), limits)
      }
      await here.put('u', 'scrypt.a.b', now)
      assert.deepEqual(await counted(), { 'client a': 1, 'client b': 1 })
    })

    test('are counted anew once the last is long enough ago, and are deleted', async (t) => {
      const { here, now, counted } = await open(t)
      for (const each of [1, 2, 3]) await here.begin(by('c', now + each), limits)
      await here.wrong(by('c', now), limits)
      await here.begin(by('c', now + 3 + limits.lockFor), limits)
      await here.wrong(by('c', now + limits.lockFor), limits)
      assert.deepEqual(await counted(), { 'pair ["c","u"]': 1, 'user u': 1, 'client c': 1 })
      await here.forgetTries(now + limits.lockFor, 9)
      assert.deepEqual(await counted(), { 'pair ["c","u"]': 1 })
      await here.right(by('c', now), limits)
      assert.deepEqual(await counted(), {})
    })

    test("a removed user's code is deleted too", async (t) => {
      const { here, now, database, clock, log } = await open(t)
      const users = createUserStore(database)
      const endUser = createEndUser({ database, vault, clock, log, audit: () => {} })
      await users.add({ id: 'dora', username: 'dora' }, now)
      await here.put('dora', 'scrypt.a.b', now)
      assert.equal((await here.find('dora'))?.hash, 'scrypt.a.b')
      assert.equal(await here.replace('dora', 'scrypt.another', 'scrypt.c.d', now), false)
      assert.equal(await here.replace('dora', 'scrypt.a.b', 'scrypt.c.d', now), true)
      await endUser('dora', 'removed', { mustBe: 'added', by: 'command' })
      assert.equal(await here.find('dora'), undefined)
    })
  })
}
