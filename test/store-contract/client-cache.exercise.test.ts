/** The cache of clients: how many clients and which of them it keeps, on both engines. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createKnownClients } from '../../src/client/client-cache.ts'
import { createClientStore } from '../../src/client/client-store.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { type Engine, engines } from '../support/engines.ts'
import { furnished } from '../support/rows.ts'

/** The maximum number of characters of a registration. */
const large = 64_000

for (const engine of engines) {
  describe(`cached clients, on ${engine.name}`, () => {
    test('large clients that registered themselves take 8 MB at most, and displace no client of the operator', async (t) => {
      const { find, isCached, register } = await cache(t, engine)
      await register('kiosk', { isOperators: true })
      await find('kiosk')
      const ids = Array.from({ length: 200 }, (_, number) => `large-${number}`)
      for (const id of ids) {
        await register(id, { characters: large })
        await find(id)
      }
      // The newest clients are checked first. If a client is not cached, no older client is cached either.
      let cached = 0
      for (const id of ids.toReversed()) if (await isCached(id)) cached += 1
      assert.ok(cached * large <= 8 * 1024 * 1024 && cached >= 50, `${cached} cached`)
      assert.ok(await isCached('kiosk'))
    })

    test('of small clients that registered themselves, a thousand are cached', async (t) => {
      const { find, isCached, register } = await cache(t, engine)
      const ids = Array.from({ length: 1000 }, (_, number) => `small-${number}`)
      for (const id of ids) {
        await register(id, {})
        await find(id)
      }
      let cached = 0
      for (const id of ids.toReversed()) if (await isCached(id)) cached += 1
      assert.equal(cached, 1000)
    })
  })
}

async function cache(t: TestContext, engine: Engine) {
  const { clock, one } = await furnished(t, engine)
  let reads = 0
  const database: Database = {
    ...one.database,
    get epoch() {
      return one.database.epoch
    },
    read: (...asked) => {
      reads += 1
      return one.database.read(...asked)
    },
  }
  const { find } = createKnownClients(createClientStore(database), { database, clock })
  return {
    find,
    async isCached(id: string): Promise<boolean> {
      const before = reads
      assert.ok(await find(id))
      return reads === before
    },
    /** Adds the row of a client, without an announcement. */
    async register(id: string, { isOperators = false, characters = 0 }): Promise<void> {
      const metadata = JSON.stringify({ client_id: id, contacts: ['x'.repeat(characters)] })
      await one.database.step({
        sql: `insert into clients (id, origin, metadata, created_at, changed_at, registration_token_hash, registration_id)
              values ($1, 'command', $2, 0, 0, $3, $1)`,
        values: [id, metadata, isOperators ? null : `token of ${id}`],
      })
    },
  }
}
