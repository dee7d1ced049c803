/**
 * A server with many registered clients. Its start reads only few clients, or all of them in pages, and keeps none in
 * memory.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createClientStore } from '../../src/client/client-store.ts'
import { checkConfig } from '../../src/config/check.ts'
import { freeze } from '../../src/config/config.ts'
import { createDoorbell, ProfileError } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { type Engine, engines } from '../support/engines.ts'
import { furnished } from '../support/rows.ts'
import { listenToStatements } from '../support/statements.ts'

const count = 1_200
const secret = Buffer.alloc(32, 7).toString('base64url')

for (const engine of engines) {
  describe(`a start with ${count} clients that registered themselves, on ${engine.name}`, () => {
    test('reads one page of them if the profile allows every client', async (t) => {
      const { start, reading } = await withMany(t, engine, { token_endpoint_auth_method: 'none' })
      await (await start({})).close()
      assert.deepEqual(await reading(), [page])
    })

    test('reads all of them in three pages under another profile, and accepts them', async (t) => {
      const { start, reading } = await withMany(t, engine, { token_endpoint_auth_method: 'private_key_jwt' })
      await (await start({ profile: 'fapi-ciba' })).close()
      assert.deepEqual(await reading(), [page, page, page])
    })

    test('looks up the names of configured clients by an index, although all others have the same name', async (t) => {
      const { start, plan } = await withMany(t, engine, { token_endpoint_auth_method: 'none' })
      const client = { client_secret: 'a long secret 4907 of this client', redirect_uris: ['https://shop.example/cb'] }
      await (await start({ clients: [{ client_id: 'shop', client_name: 'Corner Shop', ...client }] })).close()
      const lookUp = await plan('compared_name >=', JSON.stringify(['cornershop', 'shop']))
      assert.match(lookUp, /(Index (Only )?Scan using|USING (COVERING )?INDEX) registered_clients_by_name/)
      assert.doesNotMatch(lookUp, /Seq Scan|SCAN clients(?! USING)|Sort|TEMP B-TREE/)
    })

    test('compares those that have signs in their names with the clients of the configuration, by an index', async (t) => {
      const { start, plan, namesRead } = await withMany(t, engine, { token_endpoint_auth_method: 'none' }, 'b**th')
      const client = { client_secret: 'a long secret 4907 of this client', redirect_uris: ['https://shop.example/cb'] }
      await (await start({ clients: [{ client_id: 'shop', client_name: 'Corner Shop', ...client }] })).close()
      assert.equal(namesRead(), 3, 'pages')
      const read = await plan('name_with_signs is not null', 'many-0100')
      assert.match(read, /(Index (Only )?Scan using|USING (COVERING )?INDEX) registered_names_with_signs/)
      assert.doesNotMatch(read, /Seq Scan|SCAN clients(?! USING)|Sort|TEMP B-TREE/)
    })

    test('names twenty that violate the profile, and the number of the others', async (t) => {
      const { start, reading } = await withMany(t, engine, { token_endpoint_auth_method: 'none' })
      const error = await start({ profile: 'fapi-ciba' }).then(
        () => assert.fail('it started'),
        (error: unknown) => error,
      )
      assert.ok(error instanceof ProfileError)
      const named = [...error.message.matchAll(/client (many-\d+): token_endpoint_auth_method/g)].map(([, id]) => id)
      assert.deepEqual([named.length, named[0], named.at(-1)], [20, 'many-0001', 'many-0020'])
      assert.match(error.message, /and 1180 more clients$/)
      assert.deepEqual(await reading(), [page, page, page])
    })
  })

  test(`pages of clients leave time for other work, on ${engine.name}`, async (t) => {
    const { pages } = await withMany(t, engine, {})
    const order: string[] = []
    setImmediate(() => order.push('other work'))
    for await (const { length } of pages()) order.push(`${length} clients`)
    assert.deepEqual(order.toSorted(), ['200 clients', '500 clients', '500 clients', 'other work'].toSorted())
    assert.ok(order.indexOf('other work') <= 1, order.join(', '))
  })
}

const page = 'select * from clients where id > $1 order by id limit 500'

async function withMany(t: TestContext, engine: Engine, metadata: Record<string, unknown>, withSigns?: string) {
  const { one, url, clock } = await furnished(t, engine)
  const rows = Array.from({ length: count }, (_, index) => {
    const id = `many-${String(index + 1).padStart(4, '0')}`
    const redirects = { redirect_uris: [`https://${id}.example/cb`], response_types: ['code'] }
    return {
      id,
      metadata: JSON.stringify({ client_id: id, grant_types: ['authorization_code'], ...redirects, ...metadata }),
    }
  })
  await one.database.step({
    sql: `insert into clients (id, origin, metadata, created_at, changed_at, registration_token_hash, registered_from,
            compared_name, name_with_signs)
          select id, 'command', metadata, 1, 1, id, 'network', 'booth', ${withSigns === undefined ? 'null' : `'${withSigns}'`}
          from rows($1) as many (id text, metadata text) returning id`,
    rows,
  })
  const statements = listenToStatements()
  let heard: string[] = []
  return {
    pages: () => createClientStore(one.database).pages(),
    async start(settings: Record<string, unknown>) {
      const checked = checkConfig({
        issuer: 'https://id.example.com',
        database: url,
        secret,
        proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'X-Client-Cert' },
        ...settings,
      })
      assert.ok('config' in checked, JSON.stringify(checked))
      const { config } = checked
      const parts = { clock, log: createLog('silent'), openDatabase: statements.openDatabase }
      let started: ReturnType<typeof createDoorbell> | undefined
      heard = await statements.during(() => {
        started = createDoorbell(freeze({ ...config, secret }), parts)
        return started.catch(() => {})
      })
      return started!
    },
    /** The number of statements of the start that read names with signs. */
    namesRead: () => heard.filter((sql) => sql.includes('name_with_signs is not null')).length,
    /** Resolves to how the database executes the statement of the start that contains this text. */
    async plan(text: string, value: string) {
      if (engine.name === 'postgres') await one.database.exclusively((run) => run('analyze clients'))
      const sql = heard.find((each) => each.includes(text))
      assert.ok(sql !== undefined, text)
      const explain = engine.name === 'postgres' ? 'explain' : 'explain query plan'
      return JSON.stringify(await one.database.read(`${explain} ${sql}`, [value]))
    },
    /** Resolves to the statements of the start that read more than one client, in order. */
    reading: async () => heard.filter((sql) => /^select .* from clients\b/.test(sql) && !isByIndex(sql)),
  }
}

/**
 * Whether a statement finds its rows in an index. Clients of the configuration have no registration access token, and
 * an index contains only clients without this token. Another index finds the names of configured clients.
 */
const isByIndex = (sql: string) =>
  /where registration_token_hash is null\b|compared_name >=|name_with_signs is not null/.test(sql)
