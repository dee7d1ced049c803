/**
 * Finished requests do not slow down statements. Even if a client has a million of them, Postgres expects that each
 * statement of a server costs no more than one or two index look-ups. No statement of an ending or of an export reads a
 * table that grows. The statements are those of whole flows, with the settings of our sessions. By these expected
 * costs, Postgres chooses plans and decides about JIT.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import {
  createRequestStore,
  type RequestStore,
} from '../../src/ciba/authentication-request/authentication-request-store.ts'
import { createOpenRequestStore } from '../../src/ciba/authentication-request/open-request-store.ts'
import { createDecisionStore } from '../../src/ciba/decision/consent-history-store.ts'
import { createUsedAssertionStore } from '../../src/client/authentication/used-jti-store.ts'
import { createClientStore } from '../../src/client/client-store.ts'
import { createOperatorNameStore } from '../../src/client/operator-name-store.ts'
import { createPairwiseSubjectStore } from '../../src/client/pairwise/pairwise-subject-store.ts'
import { createInitialAccessStore } from '../../src/client/registration/initial-access-token-store.ts'
import { createRegistrationStore } from '../../src/client/registration/registration-store.ts'
import { createConfiguredUserStore } from '../../src/endings/configured-user-store.ts'
import { endClient } from '../../src/endings/end-client.ts'
import { createEndUser, erasedAs } from '../../src/endings/end-user.ts'
import { statementsFor } from '../../src/endings/ending-store.ts'
import { createErasureStore, erasureMs } from '../../src/endings/erasure-store.ts'
import { exportUser } from '../../src/endings/export-user.ts'
import { createSessionEndingStore } from '../../src/endings/session-ending-store.ts'
import { keptByTable } from '../../src/endings/user-data-store.ts'
import { createOidcModelStore, type KeptModel } from '../../src/openid-provider/oidc-model-store.ts'
import { withoutTooMany } from '../../src/openid-provider/old-token-store.ts'
import { createOutboxStore } from '../../src/outbox/outbox-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database, Value } from '../../src/platform/storage/database.ts'
import { prepareSession } from '../../src/platform/storage/postgres-session.ts'
import { toSqliteDialect, wordsOfPostgres } from '../../src/platform/storage/sql-dialect.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { columnsByTable } from '../support/columns.ts'
import { type Engine, engines } from '../support/engines.ts'
import { addFinishedRows, addGrowingRows, bigTables, growingTables, smallTables } from '../support/finished-rows.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { oldRowsIn } from '../support/old-rows.ts'
import { signIn } from '../support/phone-app.ts'
import { newRequest, vault } from '../support/rows.ts'
import { CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { collectStatements } from '../support/statements.ts'
import { fillTables, openWithAllFeatures } from './filled-tables.ts'
import { ofRareFlows, playRareFlows } from './rare-flows.ts'

const [sqlite, postgres] = engines as [Engine, Engine]
const count = 1_000_000
const mostCost = 1_000

/** Every limit, at a size that an operator might choose. */
const limits = {
  perUser: { perMinute: 100 },
  perClient: { open: 10_000, perMinute: 1_000 },
  perClientAndUser: { open: 50, perMinute: 60 },
}

/** Statements that must be among the collected statements. If one is missing, the flows do not cover it. */
const expected = [
  // Counting stops at each limit: that of the user, that of the client for this user, and that of the client.
  /^insert into backchannel_auth_requests .*( limit \d+\) as found.*){4}/,
  /from backchannel_auth_requests where auth_req_id_hash in/,
  /from backchannel_auth_requests where id in/,
  /^select backchannel_auth_requests.* from rows\(\$1\) as asked .* backchannel_auth_requests.id = asked.value/,
  /from backchannel_auth_requests where user_id = .*order by created_at/,
  /as blocked, .* as client_recent_until/,
  /^update backchannel_auth_requests set interval_seconds = .* returning \*/,
  /^update backchannel_auth_requests set interval_seconds = .* from each/,
  /^update backchannel_auth_requests set status = answer.outcome/,
  /^update backchannel_auth_requests set status = 'expired'/,
  /^update backchannel_auth_requests set status = 'redeemed'/,
  /^update backchannel_auth_requests set status = 'denied'/,
  /delete from backchannel_auth_requests/,
  /^insert into backchannel_auth_consent_history/,
  /delete from backchannel_auth_consent_history/,
  /from backchannel_auth_consent_history history/,
  /^insert into notifications/,
  /^with recursive kind_room/,
  /^update notifications set state = report.state/,
  /update notifications set sealed = null where id in/,
  /delete from notifications/,
  /min\(due_at\) from notifications/,
  /count\(\*\) as number from notifications/,
  /count\(\*\) as number from backchannel_auth_requests/,
  /^insert into oidc_models/,
  /from oidc_models where model = \$1 and id_hash/,
  /^update oidc_models set consumed_at/,
  /delete from oidc_models where \(model, id_hash\)/,
  /^with theirs as materialized/,
  /^update backchannel_auth_requests set is_former/,
  /^insert into user_codes/,
  /from passkeys where user_id = \$1/,
  /from user_code_tries/,
  /registration_attempts/,
  /sign_in_attempts/,
  /from push_subscriptions/,
  /unknown_users/,
  /insert into used_assertions/,
  /delete from used_assertions/,
  /insert into pairwise_subjects/,
  /from pairwise_subjects where subject/,
  /^update initial_access_tokens set uses_left/,
  /from initial_access_tokens where token_hash/,
  /^select distinct user_id from backchannel_auth_requests/,
  /^select user_id from user_generations where erased_at/,
  /^update oidc_models set user_generation = .* and grant_hash in/,
  /^delete from push_subscriptions where uid_hash in/,
  /^delete from push_subscriptions where user_id = \$1 and \(uid_hash = \$2 or/,
  ...ofRareFlows,
]

async function playFlows(t: TestContext, engine: Engine) {
  const statements = collectStatements()
  const endpoint = await openNotificationEndpoint(t)
  const key = await newKey('its-key')
  const client = pollClient('key', { jwks: { keys: [key.publicJwk] }, token_endpoint_auth_method: 'private_key_jwt' })
  const stage = await openStage(t, {
    engine,
    northbank: endpoint.url,
    till: endpoint.url,
    config: { limits, requests: { maxOpenPerUser: 20 }, clients: [client], retention: { requests: 1, history: 1 } },
    parts: { openDatabase: statements.openDatabase },
  })
  const decided = async (as: 'kiosk' | 'northbank' | 'till', status: 'approved' | 'denied') => {
    const { body } = await stage.ring(as, { ...(as === 'kiosk' && { scope: 'openid offline_access' }) })
    if (as === 'kiosk') await stage.poll(as, body.auth_req_id)
    const id = await stage.newestRequest()
    assert.equal((await stage.decide(id, status)).status, 200)
    await stage.doorbell.idle()
    return { id, authReqId: String(body.auth_req_id) }
  }
  for (const as of ['kiosk', 'northbank', 'till'] as const) await decided(as, 'denied')
  await decided('till', 'approved')
  await decided('northbank', 'approved')
  await collectAndUse(stage, await decided('kiosk', 'approved'))
  const assertion = await assertionOf(stage, 'key', { key: key.privateKey, header: { kid: 'its-key' } })
  await stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: 'x', ...asserted(assertion) })
  await lookBack(stage)
  await reachLimits(stage)
  await stage.get('/metrics')
  stage.clock.advance(3_600_000)
  await stage.doorbell.sweep()
  stage.clock.advance(400 * 86_400_000)
  await stage.doorbell.prune()
  await stage.doorbell.close()
  await storesOf(statements.openDatabase, stage)
  await endAll(statements.openDatabase, stage)
  const other = await openWithAllFeatures(t, engine, { openDatabase: statements.openDatabase })
  await fillTables(t, other)
  await playRareFlows(other, statements.openDatabase)
  await other.doorbell.close()
  return { stage, collected: statements.collected }
}

/** Runs each ending of a user and of a client, an export, and the completion of an erasure. */
async function endAll(open: ReturnType<typeof collectStatements>['openDatabase'], stage: Stage): Promise<void> {
  const log = createLog('silent')
  const database = await open(stage.database, { log, clock: systemClock })
  const { clock } = stage
  const now = clock.now()
  const requests = createRequestStore(database)
  const endUser = createEndUser({ database, vault, clock, log, audit: () => {} })
  for (const ending of endings) {
    const request = newRequest(now, { userId: `user-${ending}` })
    assert.equal(await requests.accept(request, request.id, { maxOpenPerUser: 9 }), true)
    await createUserStore(database).add({ id: request.userId }, now)
    assert.equal(await endUser(request.userId, ending, { by: 'command', mustBe: 'added' }), true)
    await exportUser(request.userId, undefined, { database })
  }
  clock.advance(erasureMs)
  await createConfiguredUserStore(database).reopen([{ id: 'user-removed' }], now)
  assert.equal(await createErasureStore(database, (id) => erasedAs(id, vault)).complete(clock.now(), 9), 1)
  const clients = createClientStore(database)
  const names = createOperatorNameStore(database)
  for await (const _ of names.pages());
  await names.findAll(['kiosk'])
  assert.equal(await clients.remove('kiosk', endClient('kiosk', now)), true)
  await createRegistrationStore(database).remove('till', 'its token', endClient('till', now))
  await clients.removeConfiguredBut([], (id) => endClient(id, now))
  for await (const _ of clients.pages());
  await database.close()
}

const endings = ['signed_out', 'locked', 'removed', 'erased'] as const

/** The statements that the endings execute for each listed table. */
const listed = [
  ...endings.flatMap((ending) => statementsFor(ending, { userId: '', erasedAs: '', now: 0 })),
  ...endClient('', 0),
].flatMap((statement) => ('sql' in statement ? statement.sql : []))

async function collectAndUse(stage: Stage, { authReqId }: { authReqId: string }): Promise<void> {
  const { body } = await stage.poll('kiosk', authReqId)
  const refreshed = await stage.post(
    '/oauth/token',
    { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) },
    credentials.kiosk,
  )
  const token = String(refreshed.body.access_token)
  assert.equal((await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status, 200)
  await stage.post('/oauth/introspect', { token }, credentials.kiosk)
  await stage.post('/oauth/revoke', { token }, credentials.kiosk)
}

/** A user views decisions and sessions, and revokes an approval. */
async function lookBack(stage: Stage): Promise<void> {
  const { access_token } = await signIn(stage)
  const anas = { authorization: `Bearer ${access_token}` }
  await stage.ring('kiosk')
  const request_id = await stage.newestRequest()
  await stage.decide(request_id, 'approved')
  assert.equal((await stage.get('/backchannel/activity', anas)).status, 200)
  assert.equal((await stage.get('/backchannel/authinfo', anas)).status, 200)
  const revoked = await stage.post('/backchannel/revoke', { request_id }, anas.authorization)
  assert.equal(revoked.status, 200, revoked.text)
  await stage.post('/backchannel/sessions', { browser: 'Firefox' }, anas.authorization)
  const { sessions } = (await stage.get('/backchannel/sessions', anas)).body as { sessions: { id: string }[] }
  const ended = await stage.post('/backchannel/sessions/end', { id: sessions[0]!.id }, anas.authorization)
  assert.equal(ended.status, 200, ended.text)
  const again = `Bearer ${(await signIn(stage)).access_token}`
  const signedOut = await stage.post('/backchannel/sessions/end', { everywhere: 'true' }, again)
  assert.equal(signedOut.status, 200, signedOut.text)
}

async function reachLimits(stage: Stage): Promise<void> {
  const answers = await Promise.all(Array.from({ length: 30 }, () => stage.ring('kiosk')))
  assert.ok(answers.some(({ status }) => status === 403))
}

/** Calls functions of the stores that the flows may leave out. */
async function storesOf(open: ReturnType<typeof collectStatements>['openDatabase'], stage: Stage): Promise<void> {
  const database = await open(stage.database, { log: createLog('silent'), clock: systemClock })
  const requests: RequestStore = createRequestStore(database)
  const now = stage.clock.now()
  const request = newRequest(now)
  await requests.accept(request, 'its-id', { maxOpenPerUser: 100 })
  await requests.poll('its-id', 'kiosk', now)
  await requests.keepPolls([{ authReqIdHash: 'x'.repeat(43), lastPolledAt: now }])
  await requests.stillPending([request.id])
  await requests.list('open', now)
  await requests.list('all', now)
  await createDecisionStore(database).listForRequest(request.id)
  await createDecisionStore(database).hasApproved('user-ana', 'kiosk')
  await createUsedAssertionStore(database).forgetExpired(now, 100)
  await createOutboxStore(database).eraseParked(now, 100)
  await createOutboxStore(database).countUndelivered()
  await createOpenRequestStore(database).usersWithPending('', 1000)
  for (const { forget } of oldRowsIn(database)) await forget(now, 100)
  await createPairwiseSubjectStore(database).find('its subject')
  await registerByToken(database, now)
  const ending = { sessions: ['x'.repeat(43)], grants: [], tokens: [], endpoints: [], users: ['user-ana'] }
  await createSessionEndingStore(database).end(ending, now, [])
  const models = createOidcModelStore(database)
  // A token without a grant, as after a sign-in at another provider.
  const token: KeptModel = {
    model: 'AccessToken',
    idHash: 'x'.repeat(43),
    sealed: 'x',
    grantHash: undefined,
    uidHash: undefined,
    clientId: 'kiosk',
    userId: 'user-ana',
    requestId: undefined,
    expiresAt: now,
  }
  await models.run(models.put(token), [], withoutTooMany(token))
  const grant = { ...token, model: 'Grant' }
  await models.run(models.put(grant), [], withoutTooMany(grant))
  await models.endGrantOfUsedToken('x'.repeat(43), 'kiosk', 50)
  await database.close()
}

/** Registers a client with an initial access token. */
async function registerByToken(database: Database, now: number): Promise<void> {
  const tokens = createInitialAccessStore(database)
  await tokens.add('its token', 1, now, now + 1)
  assert.equal(await tokens.isGood('its token', now), true)
  const kiosk = await createClientStore(database).find('kiosk')
  const use = tokens.use('its token', now)
  const registrations = createRegistrationStore(database)
  assert.equal(await registrations.addPermitted({ ...kiosk!, id: 'invited' }, 'x', use, now), true)
}

function assertComplete(collected: Map<string, Value[]>): void {
  const texts = [...collected.keys()].map((sql) => sql.replaceAll(/\s+/g, ' ').trim())
  assert.deepEqual(
    expected.filter((one) => !texts.some((text) => one.test(text))),
    [],
    'all of these are asked',
  )
  const missing = [...listed, ...Object.values(keptByTable)].filter((sql) => !collected.has(sql))
  assert.deepEqual(missing, [], 'all statements of the endings are checked')
}

/** Statements that control a transaction or change the schema have no plan. */
const isPlanned = (sql: string) => /^\s*(select|insert|update|delete|with)\b/i.test(sql)

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Index Cond'?: string
  'Total Cost': number
  Plans?: Plan[]
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)]

test('each table grows, or has few rows', () => {
  assert.deepEqual([...growingTables, ...smallTables].sort(), Object.keys(columnsByTable).sort())
})

describe('with a million finished requests of one client', () => {
  test('on Postgres no statement is expected to cost more than a few looks, and none scans a big table', async (t) => {
    const { stage, collected } = await playFlows(t, postgres)
    assertComplete(collected)
    const client = new Client({ connectionString: stage.database })
    await client.connect()
    client.on('error', () => {})
    t.after(() => client.end())
    // The tables are unlogged, because their data need not survive a crash.
    for (const table of bigTables) await client.query(`alter table ${table} set unlogged`)
    await addFinishedRows({ url: stage.database, clientId: 'kiosk', count, inOthers: count / 10 })
    await addGrowingRows({ url: stage.database, count: count / 50 })
    await prepareSession(client)
    const dear: string[] = []
    const scanning: string[] = []
    for (const [index, [sql, values]] of [...collected].filter(([sql]) => isPlanned(sql)).entries()) {
      const plan = await planOf(client, `statement_${index}`, sql, values)
      const text = sql.replaceAll(/\s+/g, ' ').slice(0, 200)
      if (plan['Total Cost'] >= mostCost && !isAsLongAsItsRows(sql)) dear.push(`${plan['Total Cost']}: ${text}`)
      if (readsNewestFirst(sql)) continue
      const scans = nodesOf(plan).filter(readsAll)
      if (scans.length > 0)
        scanning.push(`${scans.map((node) => node['Index Name'] ?? node['Relation Name'])}: ${text}`)
    }
    assert.deepEqual({ dear, scanning }, { dear: [], scanning: [] })
  })

  test('on SQLite no statement scans a big table', async (t) => {
    const { stage, collected } = await playFlows(t, sqlite)
    assertComplete(collected)
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
    const database = new DatabaseSync(stage.database.slice('sqlite:'.length))
    t.after(() => database.close())
    const scanning: string[] = []
    for (const sql of collected.keys()) {
      if (!isPlanned(sql)) continue
      const parameters = new Set(sql.match(/\$\d+/g)).size
      const steps = database
        .prepare(`explain query plan ${toSqliteDialect(sql)}`)
        .all(...Array.from({ length: parameters }, () => '[]'))
      if (readsNewestFirst(sql)) continue
      const scans = steps.map(({ detail }) => String(detail)).filter(goesThroughAll)
      if (scans.length > 0) scanning.push(`${scans.join(', ')}: ${sql.replaceAll(/\s+/g, ' ').slice(0, 200)}`)
    }
    assert.deepEqual(scanning, [])
  })
})

/** Resolves to the plan that each connection makes once, for all values. */
async function planOf(client: Client, name: string, sql: string, values: Value[]): Promise<Plan> {
  await client.query(`prepare ${name} as ${wordsOfPostgres(sql)}`)
  const literals = values.map((value) => (value === null ? 'null' : client.escapeLiteral(String(value))))
  const given = literals.length === 0 ? '' : `(${literals.join(', ')})`
  const { rows } = await client.query(`explain (format json) execute ${name}${given}`)
  return rows[0]['QUERY PLAN'][0].Plan
}

/** Whether a statement reads rows newest first, by the index of ids, until it has enough rows. */
const readsNewestFirst = (sql: string) => /order by id desc limit \d+$/.test(sql.trim())

/** Whether a statement deletes all tokens of a client that ends. In these tables, they are nearly all rows. */
const isAsLongAsItsRows = (sql: string) => sql === 'delete from oidc_models where client_id = $1'

/** Whether an index has few rows: it contains only open rows, or only clients of the operator. */
const hasFewRows = (index: string) => /_open_by_|_running_out|_due|_by_lane|_parked|clients_of_operator/.test(index)

/** Whether a node of a plan reads a whole growing table, or all of an index that has many rows. */
function readsAll({ 'Node Type': type, 'Relation Name': table, 'Index Name': index, ...node }: Plan): boolean {
  // A bitmap scan of an index does not name the table.
  if (table !== undefined && !growingTables.includes(table)) return false
  if (type === 'Seq Scan') return true
  return index !== undefined && node['Index Cond'] === undefined && !hasFewRows(index)
}

function goesThroughAll(detail: string): boolean {
  const [, table, index] = /^SCAN (\w+)(?:.* USING (?:COVERING )?INDEX (\w+))?/.exec(detail) ?? []
  if (table === undefined || !growingTables.includes(table)) return false
  return index === undefined || !hasFewRows(index)
}
