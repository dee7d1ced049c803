/**
 * When a token is stored, tokens of its grant beyond the maximum are removed, and no other tokens. A look-up reads few
 * rows of the grant.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { createOidcModelStore, type KeptModel } from '../../src/openid-provider/oidc-model-store.ts'
import { mostGrants, mostOfGrant, withoutTooMany } from '../../src/openid-provider/old-token-store.ts'
import { mergeRowStatements } from '../../src/platform/storage/database.ts'
import { toSqliteDialect, wordsOfPostgres } from '../../src/platform/storage/sql-dialect.ts'
import { type Engine, engines } from '../support/engines.ts'
import { allRows, furnished } from '../support/rows.ts'
import { collectStatements } from '../support/statements.ts'

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

const token: KeptModel = {
  model: 'AccessToken',
  idHash: 'x',
  sealed: 'x',
  uidHash: undefined,
  grantHash: undefined,
  clientId: 'app',
  userId: 'ana',
  requestId: undefined,
  expiresAt: 0,
}

const [sqlite, postgres] = engines as [Engine, Engine]

for (const engine of engines) {
  describe(`tokens that are too many, on ${engine.name}`, () => {
    for (const [how, of] of Object.entries(kinds)) {
      test(`${how}: those that were issued last are kept, whatever their lifetimes are`, async (t) => {
        const { store, idsOf } = await scene(t, engine, of)
        for (const other of others) await store({ ...other, issuedAt: 1, expiresAt: 1 })
        for (let number = 0; number < 2 * mostOfGrant; number++)
          await store({ idHash: `${number}`, issuedAt: number + 2, expiresAt: 1000 - number })
        const newest = Array.from({ length: mostOfGrant }, (_, number) => `${mostOfGrant + number}`)
        assert.deepEqual(await idsOf(), [...newest, ...others.map(({ idHash }) => idHash!)].sort())
      })

      for (const setBack of [2, 60, 24 * 60]) {
        test(`${how}: after the clock was set back ${setBack} minutes, tokens of before are the oldest`, async (t) => {
          const { store, idsOf } = await scene(t, engine, of)
          const before = 1_000_000_000
          for (let number = 0; number < mostOfGrant; number++)
            await store({ idHash: `before ${number}`, issuedAt: before + number, expiresAt: 2 * before })
          const now = before - setBack * 60_000
          for (let number = 0; number < 10; number++)
            await store({ idHash: `new ${number}`, issuedAt: now + number, expiresAt: now })
          const ids = await idsOf()
          assert.deepEqual([ids.length, ids.filter((id) => id.startsWith('new')).length], [mostOfGrant, 10])
        })
      }

      test(`${how}: tokens that expire early stay when others are issued that expire late`, async (t) => {
        const { store, idsOf } = await scene(t, engine, of)
        for (let number = 0; number < mostOfGrant; number++)
          await store({ idHash: `long ${number}`, issuedAt: number, expiresAt: 3600 })
        await store({ idHash: 'short', issuedAt: 100, expiresAt: 300 })
        for (let number = 0; number < mostOfGrant - 1; number++) {
          await store({ idHash: `longer ${number}`, issuedAt: 101 + number, expiresAt: 4000 })
          assert.ok((await idsOf()).includes('short'))
        }
        await store({ idHash: 'last', issuedAt: 1000, expiresAt: 4000 })
        assert.equal((await idsOf()).includes('short'), false)
      })

      test(`${how}: those that have been used are removed first`, async (t) => {
        const { store, use, idsOf } = await scene(t, engine, of)
        for (let number = 0; number < mostOfGrant; number++) await store({ idHash: `${number}`, issuedAt: number + 2 })
        for (const idHash of ['7', '40', '49']) await use(idHash)
        for (const idHash of ['new', 'newer']) await store({ idHash, issuedAt: 1000 })
        const kept = Array.from({ length: mostOfGrant }, (_, number) => `${number}`).filter(
          (idHash) => !['7', '40'].includes(idHash),
        )
        assert.deepEqual(await idsOf(), [...kept, 'new', 'newer'].sort())
      })

      test(`${how}: many at once, on two nodes, leave as many after the next ones`, async (t) => {
        const { store, idsOf } = await scene(t, engine, of)
        const many = Array.from({ length: 4 * mostOfGrant }, (_, number) => number)
        await Promise.all(many.map((number) => store({ idHash: `${number}`, issuedAt: 1 }, number % 2)))
        // One transaction removes at most a hundred tokens, so several tokens are stored.
        for (const idHash of ['last 1', 'last 2', 'last 3']) await store({ idHash, issuedAt: 1000 })
        const ids = await idsOf()
        assert.equal(ids.length, mostOfGrant)
        assert.ok(ids.includes('last 3'))
      })
    }
  })
}

const grant: Partial<KeptModel> = { model: 'Grant', grantHash: undefined }

/** Grants that differ in one respect each. None of them is removed. */
const otherGrants: Partial<KeptModel>[] = [
  { idHash: 'of another user', userId: 'ben' },
  { idHash: 'of another client', clientId: 'another' },
  { idHash: 'of an approval', requestId: 'request' },
]

for (const engine of engines) {
  describe(`grants of a user at a client that are too many, on ${engine.name}`, () => {
    test('end with everything that was issued under them; those that expire last are kept', async (t) => {
      const { store, idsOf } = await scene(t, engine, grant)
      const issued = ['AccessToken', 'RefreshToken', 'HeldResponse']
      const storeWithTokens = async (of: Partial<KeptModel>) => {
        await store(of)
        for (const model of issued) await store({ ...of, model, idHash: `${of.idHash} ${model}`, grantHash: of.idHash })
      }
      const withTokens = (ids: string[]) => ids.flatMap((id) => [id, ...issued.map((model) => `${id} ${model}`)])
      for (const other of otherGrants) await storeWithTokens({ ...other, expiresAt: 1 })
      for (let number = 0; number < mostGrants + 20; number++)
        await storeWithTokens({ idHash: `${number}`, expiresAt: number + 2 })
      const newest = Array.from({ length: mostGrants }, (_, number) => `${number + 20}`)
      assert.deepEqual(await idsOf(), withTokens([...newest, ...otherGrants.map(({ idHash }) => idHash!)]).sort())
    })

    test('after the clock was set back, grants of before are the oldest, with tokens and without', async (t) => {
      const { store, idsOf } = await scene(t, engine, grant)
      const [before, now] = [1_000_000_000, 900_000_000]
      for (const isUsed of [true, false]) {
        for (let number = 0; number < mostGrants; number++) {
          const idHash = `before ${isUsed} ${number}`
          if (isUsed) await store({ model: 'RefreshToken', idHash: `${idHash} token`, grantHash: idHash, expiresAt: 1 })
          await store({ idHash, issuedAt: before, expiresAt: 2 * before })
        }
        const news = Array.from({ length: 10 }, (_, number) => `new ${isUsed} ${number}`)
        for (const idHash of news) await store({ idHash, issuedAt: now, expiresAt: now })
        const ids = await idsOf()
        assert.deepEqual(ids.filter((id) => id.startsWith(`new ${isUsed}`)).sort(), news)
      }
    })

    test('leave one after the other if there are many more, also when two nodes store some at once', async (t) => {
      const { store, idsOf } = await scene(t, engine, grant)
      // Each grant gets a token before it is stored, so it never counts as unused.
      const storeUsed = async (idHash: string, node = 0) => {
        await store({ model: 'RefreshToken', idHash: `${idHash} token`, grantHash: idHash, requestId: 'r' }, node)
        await store({ idHash, expiresAt: idHash.startsWith('last') ? 1000 : 1 }, node)
      }
      const many = Array.from({ length: mostGrants + 50 }, (_, number) => number)
      await Promise.all(many.map((number) => storeUsed(`${number}`, number % 2)))
      for (let number = 0; number < 50; number++) await storeUsed(`last ${number}`)
      const ids = await idsOf()
      assert.equal(ids.length, 2 * mostGrants)
      assert.equal(ids.filter((id) => id.startsWith('last')).length, 100)
    })
  })
}

describe('a token of a grant with 20 000 other rows', () => {
  test('on Postgres, its look-up and the removal of its held response visit few of them', async (t) => {
    const { url, statements } = await crowded(t, postgres)
    const client = new Client({ connectionString: url })
    client.on('error', () => {})
    await client.connect()
    t.after(() => client.end())
    for (const [index, [sql, values]] of statements.entries()) {
      await client.query(`prepare statement_${index} as ${wordsOfPostgres(sql)}`)
      const literals = values.map((value) => client.escapeLiteral(String(value)))
      const { rows } = await client.query(
        `explain (analyze, format json) execute statement_${index} (${literals.join(', ')})`,
      )
      assert.ok(visitedIn(rows[0]['QUERY PLAN'][0].Plan) < 10, sql)
    }
  })

  test('on SQLite, the same statements find their rows by grant and model', async (t) => {
    const { url, statements } = await crowded(t, sqlite)
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
    const database = new DatabaseSync(url.slice('sqlite:'.length))
    t.after(() => database.close())
    for (const [sql, values] of statements) {
      const plan = database.prepare(`explain query plan ${toSqliteDialect(sql)}`).all(...values)
      const byGrant = plan.map(({ detail }) => String(detail)).filter((detail) => detail.includes('grant_hash=?'))
      assert.ok(byGrant.length > 0, sql)
      for (const detail of byGrant) assert.match(detail, /grant_hash=\? AND model=\?/)
    }
  })
})

interface Plan {
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  Plans?: Plan[]
}

/** Returns the number of rows that a plan visits, including those that a filter removes. */
function visitedIn({ Plans = [], ...plan }: Plan): number {
  const own = (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0)) * plan['Actual Loops']
  return Plans.reduce((sum, inner) => sum + visitedIn(inner), own)
}

/** A grant with many access tokens. Resolves to the statements of each call that sends one of its tokens. */
async function crowded(t: TestContext, engine: Engine) {
  const collecting = collectStatements()
  const { url, one } = await furnished(t, engine, { open: collecting.openDatabase })
  const models = createOidcModelStore(one.database)
  const common = { ...token, userId: undefined, clientId: undefined, expiresAt: 10 }
  await models.run(models.put({ ...common, model: 'Grant', idHash: 'g' }))
  const many = Array.from({ length: 20_000 }, (_, number) =>
    models.put({ ...common, idHash: `${number}`, grantHash: 'g' }),
  )
  await one.database.step(mergeRowStatements(many)[0]!)
  if (engine.name === 'postgres') await one.database.read('analyze oidc_models')
  collecting.collected.clear()
  assert.equal((await models.find('AccessToken', '7', 1))?.has_held_response, 0)
  await models.forgetHeldResponse('g')
  await models.endGrantOfUsedToken('g', 'another client', mostOfGrant)
  const statements = [...collecting.collected]
  return { url, statements }
}

async function scene(t: TestContext, engine: Engine, of: Partial<KeptModel>) {
  const { nodes } = await furnished(t, engine, { count: 2 })
  const stores = nodes.map(({ database }) => createOidcModelStore(database))
  return {
    async store(more: Partial<KeptModel>, node = 0): Promise<void> {
      const kept: KeptModel = { ...token, ...of, ...more }
      await stores[node]!.run(stores[node]!.put(kept), [], withoutTooMany(kept))
    },
    use: (idHash: string) => stores[0]!.consume({ model: 'AccessToken', idHash, now: 1 }),
    idsOf: async () => (await allRows(nodes[0]!.database, 'oidc_models')).map(({ id_hash }) => String(id_hash)).sort(),
  }
}
