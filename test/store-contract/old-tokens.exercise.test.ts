/** A stored token removes those of its grant that are too many, and no others. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createOidcModelStore, type KeptModel } from '../../src/openid-provider/oidc-model-store.ts'
import { mostOfGrant, withoutTooMany } from '../../src/openid-provider/old-token-store.ts'
import { type Engine, engines } from '../support/engines.ts'
import { allRows, furnished } from '../support/rows.ts'

const kinds: Record<string, Partial<KeptModel>> = {
  'with a grant': { grantHash: 'g' },
  'without a grant, as after a sign-in at another provider': { grantHash: undefined },
}

/** Tokens that differ in one respect each. None of them is removed. */
const others: Partial<KeptModel>[] = [
  { idHash: 'other model', model: 'RefreshToken' },
  { idHash: 'other grant', grantHash: 'another' },
  { idHash: 'other client and grant', clientId: 'another', grantHash: 'a third' },
  { idHash: 'other client', clientId: 'another', grantHash: undefined },
  { idHash: 'other user', userId: 'ben', grantHash: undefined },
]

for (const engine of engines) {
  describe(`tokens that are too many, on ${engine.name}`, () => {
    for (const [how, of] of Object.entries(kinds)) {
      test(`${how}: those that expire last are kept, and the new one`, async (t) => {
        const { store, idsOf } = await scene(t, engine, of)
        for (const other of others) await store({ ...other, expiresAt: 1 })
        for (let number = 0; number < 2 * mostOfGrant; number++)
          await store({ idHash: `${number}`, expiresAt: number + 2 })
        const newest = Array.from({ length: mostOfGrant }, (_, number) => `${mostOfGrant + number}`)
        assert.deepEqual(await idsOf(), [...newest, ...others.map(({ idHash }) => idHash!)].sort())
        await store({ idHash: 'short', expiresAt: 2 })
        assert.deepEqual(
          await idsOf(),
          [...newest.slice(1), 'short', ...others.map(({ idHash }) => idHash!)].sort(),
          'the new one is kept, although it expires first',
        )
      })

      test(`${how}: those that have been used are removed first`, async (t) => {
        const { store, use, idsOf } = await scene(t, engine, of)
        for (let number = 0; number < mostOfGrant; number++) await store({ idHash: `${number}`, expiresAt: number + 2 })
        for (const idHash of ['7', '40', '49']) await use(idHash)
        for (const idHash of ['new', 'newer']) await store({ idHash, expiresAt: 1000 })
        const kept = Array.from({ length: mostOfGrant }, (_, number) => `${number}`).filter(
          (idHash) => !['7', '40'].includes(idHash),
        )
        assert.deepEqual(await idsOf(), [...kept, 'new', 'newer'].sort())
      })

      test(`${how}: many at once, on two nodes, leave as many after the next ones`, async (t) => {
        const { store, idsOf } = await scene(t, engine, of)
        const many = Array.from({ length: 4 * mostOfGrant }, (_, number) => number)
        await Promise.all(many.map((number) => store({ idHash: `${number}`, expiresAt: 1000 }, number % 2)))
        // One transaction removes at most a hundred.
        for (const idHash of ['last 1', 'last 2', 'last 3']) await store({ idHash, expiresAt: 1000 })
        const ids = await idsOf()
        assert.equal(ids.length, mostOfGrant)
        assert.ok(ids.includes('last 3'))
      })
    }
  })
}

async function scene(t: TestContext, engine: Engine, of: Partial<KeptModel>) {
  const { nodes } = await furnished(t, engine, { count: 2 })
  const stores = nodes.map(({ database }) => createOidcModelStore(database))
  return {
    async store(token: Partial<KeptModel>, node = 0): Promise<void> {
      const kept: KeptModel = {
        model: 'AccessToken',
        idHash: 'x',
        sealed: 'x',
        uidHash: undefined,
        grantHash: undefined,
        clientId: 'app',
        userId: 'ana',
        requestId: undefined,
        expiresAt: 0,
        ...of,
        ...token,
      }
      await stores[node]!.run(stores[node]!.put(kept), [], withoutTooMany(kept))
    },
    use: (idHash: string) => stores[0]!.consume('AccessToken', idHash, 1),
    idsOf: async () => (await allRows(nodes[0]!.database, 'oidc_models')).map(({ id_hash }) => String(id_hash)).sort(),
  }
}
