/**
 * A user is erased. Calls that began before the erasure write no data that stays. After ten minutes, no table contains
 * the id.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createEndUser, erasedAs } from '../../src/endings/end-user.ts'
import { createErasureStore, erasureMs } from '../../src/endings/erasure-store.ts'
import { exportUser } from '../../src/endings/export-user.ts'
import { keptByTable } from '../../src/endings/user-data-store.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { type Engine, engines } from '../support/engines.ts'
import { allRows, furnished, newRequest, vault } from '../support/rows.ts'

const dora = { id: 'dora', username: 'dora' }
const usedIds = [dora.id, erasedAs(dora.id, vault)]

/** Dora was erased just now. A request and a token were being written at that moment. */
async function erased(t: TestContext, engine: Engine) {
  const { one, other, clock, log } = await furnished(t, engine, { count: 2 })
  const { database } = one
  const users = createUserStore(database)
  const models = createOidcModelStore(database)
  await users.add(dora, clock.now())
  const request = newRequest(clock.now(), { userId: dora.id })
  const endUser = createEndUser({ database, vault, clock, log, audit: () => {} })
  assert.equal(await endUser(dora.id, 'erased', { by: 'command', mustBe: 'added' }), true)
  const token = {
    model: 'AccessToken',
    idHash: 'a',
    sealed: 'x',
    grantHash: undefined,
    uidHash: undefined,
    clientId: undefined,
    userId: dora.id,
    requestId: undefined,
    expiresAt: clock.now() + 3600_000,
    userGeneration: 0,
  }
  const complete = (node = one) =>
    createErasureStore(node.database, (userId) => erasedAs(userId, vault)).complete(clock.now(), 10)
  /** Resolves to the tables that contain the id. */
  async function tablesWithId(): Promise<string[]> {
    const tables = await Promise.all(
      Object.keys(keptByTable).map(async (table) => [table, JSON.stringify(await allRows(database, table))] as const),
    )
    return tables.filter(([, rows]) => rows.includes('dora')).map(([table]) => table)
  }
  return { one, other, clock, users, models, request, token, endUser, complete, tablesWithId }
}

for (const engine of engines) {
  describe(`the erasure of a user, on ${engine.name}`, () => {
    test('refuses a request that was received before, and makes a token invalid that is written after it', async (t) => {
      const { one, clock, models, request, token } = await erased(t, engine)
      assert.equal(await one.requests.accept(request, request.id, { maxOpenPerUser: 9 }), false)
      await models.run(models.put(token))
      assert.equal(await models.find('AccessToken', 'a', clock.now()), undefined)
    })

    test('deletes after ten minutes what calls have written meanwhile, and the id', async (t) => {
      const { one, clock, models, token, complete, tablesWithId } = await erased(t, engine)
      assert.equal(await exportUser(dora.id, undefined, one), undefined, 'the user has no data any more')
      await models.run(models.put(token))
      await complete()
      assert.deepEqual(await tablesWithId(), ['user_generations', 'oidc_models'])
      clock.advance(erasureMs)
      await complete()
      assert.deepEqual(await tablesWithId(), [])
    })

    test('gives the id to nobody else, neither before nor after these ten minutes', async (t) => {
      const { clock, users, complete } = await erased(t, engine)
      for (const afterMs of [0, erasureMs]) {
        clock.advance(afterMs)
        await complete()
        assert.equal(await users.add(dora, clock.now(), { usedIds }), false)
      }
      assert.equal(await users.add(dora, clock.now(), { usedIds, isSamePerson: true }), true)
    })

    test('is not completed for a user who was added again, and can be repeated', async (t) => {
      const { one, clock, users, models, token, endUser, complete, tablesWithId } = await erased(t, engine)
      assert.equal(await users.add(dora, clock.now(), { usedIds, isSamePerson: true }), true)
      const fresh = newRequest(clock.now(), { userId: dora.id })
      assert.equal(await one.requests.accept(fresh, fresh.id, { maxOpenPerUser: 9 }), true)
      await models.run(models.put(token))
      assert.equal(await models.find('AccessToken', 'a', clock.now()), undefined, 'tokens from before stay invalid')
      clock.advance(erasureMs)
      await complete()
      assert.notEqual(await users.find(dora.id), undefined)
      assert.notEqual(await one.requests.find(fresh.id), undefined)
      await endUser(dora.id, 'erased', { by: 'command', mustBe: 'added' })
      clock.advance(erasureMs)
      await complete()
      assert.deepEqual(await tablesWithId(), [])
      assert.equal(await users.add(dora, clock.now(), { usedIds }), false)
    })

    test('is completed by two nodes at the same moment', async (t) => {
      const { one, other, clock, complete, tablesWithId } = await erased(t, engine)
      clock.advance(erasureMs)
      const completed = await Promise.all([complete(one), complete(other), complete(one)])
      assert.deepEqual(completed.sort(), [0, 0, 1])
      assert.deepEqual(await tablesWithId(), [])
    })
  })
}
