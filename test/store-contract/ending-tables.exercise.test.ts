/**
 * The end of a user or a client covers every table. All columns are classified by hand; the schema and the content of
 * the tables after real flows are compared with this list, and the endings name every table that the list requires.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { tablesOfClient, tablesOfUser, untouchedByClient, untouchedByUser } from '../../src/endings/ending-store.ts'
import { keptByTable } from '../../src/endings/user-data-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { type CreationOptions, createAuthenticator } from '../support/authenticator.ts'
import { type Columns, columnsByTable, namesIn } from '../support/columns.ts'
import { byCommand, dora } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { allRows, furnished } from '../support/rows.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, ben, openStage, type Stage } from '../support/stage.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

const ofUser = new Set([...tablesOfUser.map(({ table }) => table), ...Object.keys(untouchedByUser)])
const ofClient = new Set([...tablesOfClient.map(({ table }) => table), ...Object.keys(untouchedByClient)])

describe('the tables of the endings', () => {
  test('are exactly those with a column that leads to a user, or to a client', () => {
    const leadingTo = (who: 'user' | 'client') =>
      Object.entries(columnsByTable)
        .filter(([, columns]) => columns[who] !== undefined || columns.linked !== undefined)
        .map(([table]) => table)
    assert.deepEqual([...ofUser].sort(), leadingTo('user').sort())
    assert.deepEqual([...ofClient].sort(), leadingTo('client').sort())
  })

  test('are also the tables of which an export has rows', () => {
    assert.deepEqual(Object.keys(keptByTable).sort(), [...new Set(tablesOfUser.map(({ table }) => table))].sort())
  })
})

for (const engine of engines) {
  describe(`the columns of all tables, on ${engine.name}`, () => {
    test('are classified, each of them, and no others', async (t) => {
      const { one } = await furnished(t, engine)
      assert.deepEqual(await schemaOf(one.database), classified)
      await one.database.exclusively((run) => run('alter table server_keys add column kept_for bigint'))
      assert.notDeepEqual(await schemaOf(one.database), classified)
    })

    test('contain ids of users and clients only where the classification says so', async (t) => {
      const stage = await openHouse(t, engine)
      await liveIn(t, stage)
      const database = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
      t.after(() => database.close())
      const found = { user: new Set<string>(), client: new Set<string>(), empty: [] as string[] }
      for (const table of Object.keys(columnsByTable)) {
        const rows = await allRows(database, table)
        if (rows.length === 0) found.empty.push(table)
        for (const [column, value] of rows.flatMap((row) => Object.entries(row))) {
          const names = (ids: string[]) => ids.some((id) => String(value).includes(id))
          if (names(userIds)) found.user.add(`${table}.${column}`)
          if (names(clientIds)) found.client.add(`${table}.${column}`)
        }
      }
      assert.deepEqual(found.empty, unused[engine.name])
      const elsewhere = (who: 'user' | 'client') => [...found[who]].filter((column) => !columnsOf(who).includes(column))
      assert.deepEqual([elsewhere('user'), elsewhere('client')], [[], []])
      // A search that finds nothing would prove nothing.
      assert.ok(found.user.size >= 15 && found.client.size >= 10, `${[...found.user]} ${[...found.client]}`)
    })
  })
}

const classified = Object.entries(columnsByTable)
  .flatMap(([table, columns]) =>
    [...new Set(Object.values(columns).flatMap(namesIn))].map((name) => `${table}.${name}`),
  )
  .sort()

const columnsOf = (who: keyof Columns) =>
  Object.entries(columnsByTable).flatMap(([table, columns]) => namesIn(columns[who]).map((name) => `${table}.${name}`))

async function schemaOf(database: Database): Promise<string[]> {
  const sql =
    database.engine === 'sqlite'
      ? `select m.name || '.' || c.name as "column" from sqlite_master m join pragma_table_info(m.name) c
         where m.type = 'table' and m.name not like 'sqlite_%'`
      : `select table_name || '.' || column_name as "column"
         from information_schema.columns where table_schema = current_schema()`
  return (await database.read<{ column: string }>(sql)).map(({ column }) => column).sort()
}

/** Tables that stay empty here. SQLite has no commit whose answer is lost. */
const unused = {
  sqlite: ['initial_access_tokens', 'last_commits', 'pairwise_subjects'],
  postgres: ['initial_access_tokens', 'pairwise_subjects'],
}

const userIds = [ana.id, ben.id]
const secret = newSecret()
const key = await newKey('one')
const signs = { jwks: { keys: [key.publicJwk] } }
const own: ClientMetadataInput[] = [
  pollClient('booth-client', { client_secret: secret, backchannel_user_code_parameter: true }),
  pollClient('asserting-client', { ...signs, token_endpoint_auth_method: 'private_key_jwt' }),
  pollClient('signing-client', {
    ...signs,
    client_secret: secret,
    backchannel_authentication_request_signing_alg: 'ES256',
  }),
]
const clientIds = ['kiosk', 'northbank', ...own.map(({ client_id }) => client_id!)]

const openHouse = (t: TestContext, engine: Engine) =>
  openStage(t, {
    engine,
    config: {
      clients: own,
      registration: { mode: 'open' },
      // Off in development unless set.
      limits: { pauseAfterDenial: { first: 30 }, perClient: { unknownPerMinute: 3 } },
      webPush: { subject: 'mailto:ops@id.example' },
    },
  })

/** Fills the tables: flows in each mode, and what users, clients and strangers do besides. */
async function liveIn(t: TestContext, stage: Stage): Promise<void> {
  await askedInEachWay(stage)
  await keptByUsers(t, stage)
  await triedByStrangers(stage)
  await stage.doorbell.idle()
}

async function askedInEachWay(stage: Stage): Promise<void> {
  for (const as of ['kiosk', 'northbank', 'till'] as const) {
    const { body } = await stage.ring(as, { scope: 'openid offline_access' })
    await stage.decide(await stage.newestRequest(), 'approved')
    if (as !== 'till') assert.equal((await stage.poll(as, body.auth_req_id)).status, 200)
    await stage.ring(as, { login_hint: 'ben' })
    await stage.decide(await stage.newestRequest('ben'), 'denied', {
      login_hint: 'ben',
      report: String(as === 'kiosk'),
    })
    await stage.ring(as)
  }
  await stage.ring('northbank', { login_hint: 'nobody' })
  const form = { scope: 'openid', login_hint: 'ana' }
  const asking = async (more: Record<string, string>, as?: string) => {
    const { status, text } = await stage.post('/backchannel/authorize', more, as && basic(as, secret))
    assert.equal(status, 200, text)
  }
  await asking({ ...form, ...asserted(await assertionOf(stage, 'asserting-client', { key: key.privateKey })) })
  const request = await signedRequest(stage, 'signing-client', { key: key.privateKey, header: { kid: 'one' } })
  await asking({ request }, 'signing-client')
}

async function keptByUsers(t: TestContext, stage: Stage): Promise<void> {
  const authorization = await bearerOf(stage)
  // oidc-provider uses the real clock; by the stage's clock, the sign-in is still to come.
  stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
  const post = async (path: string, more: Record<string, string> = {}) => {
    const { status, body, text } = await stage.post(`/backchannel/${path}`, more, authorization)
    assert.ok(status < 300, `${path}: ${text}`)
    return body
  }
  const creation = (await post('passkeys/options')) as unknown as CreationOptions
  await post('passkeys', { passkey: createAuthenticator(stage.url).create(creation) })
  await stage.ring('kiosk')
  await post('passkeys/confirm-options', { request_id: await stage.newestRequest() })
  await post('user-code', { user_code: 'heron-4711' })
  await post('sessions', { browser: 'Firefox' })
  const service = await openPushService(t)
  await post('push-subscriptions', { subscription: JSON.stringify(service.newBrowser().subscription) })
  await stage.ring('kiosk')
  const wrong = { scope: 'openid', login_hint: 'ana', user_code: 'wrong' }
  assert.equal((await stage.post('/backchannel/authorize', wrong, basic('booth-client', secret))).status, 400)
  const leaving = openVisitor(stage.url)
  await leaving.signIn(ben)
  await leaving.post('/session/end', { form_token: formTokenOn(await leaving.get('/')) })
  await byCommand(stage, async ({ addDora, endUser }) => {
    await addDora()
    await endUser(dora.id, 'locked', { by: 'command' })
  })
}

async function triedByStrangers(stage: Stage): Promise<void> {
  await openVisitor(stage.url).signIn({ username: 'ana', password: 'wrong' })
  const metadata = { redirect_uris: ['https://a.example/cb'], grant_types: ['authorization_code'] }
  const { status } = await fetch(`${stage.url}/oauth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(metadata),
  })
  assert.equal(status, 201)
}
