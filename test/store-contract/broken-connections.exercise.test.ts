/** A connection breaks at the worst moment, or a node stalls: the effects on a step and on its caller. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { startRestartablePostgres } from '../support/postgres.ts'
import { openPostgresWire } from '../support/postgres-wire.ts'
import { CIBA, credentials, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { createWires } from '../support/wires.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

describe('a connection that breaks at the commit', () => {
  test('after it: the step has happened, and its result says so', async (t) => {
    const { step, rows, wire } = await tables(t)
    void wire.next('answer lost')
    assert.deepEqual(await step('a'), [{ name: 'a' }])
    assert.deepEqual(await rows(), ['a', 'a'])
  })

  test('before it: nothing has happened, and the error says so', async (t) => {
    const { step, rows, wire } = await tables(t)
    void wire.next('lost')
    await assert.rejects(step('a'), /Connection terminated/)
    assert.deepEqual(await rows(), [])
    assert.deepEqual(await step('a'), [{ name: 'a' }])
  })

  test('a client that redeems at that moment gets its tokens (TK-14)', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const wire = await openPostgresWire(t, url)
    const engine = { ...postgres, fresh: async () => ({ url: wire.url, drop: async () => {} }) }
    const stage = await openStage(t, { engine })
    const { auth_req_id: id } = (await stage.ring('kiosk')).body
    void wire.next('answer lost')
    assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
    void wire.next('answer lost')
    assert.equal((await stage.poll('kiosk', id)).status, 200)
    assert.equal((await stage.poll('kiosk', id)).body.error, 'invalid_grant')
  })
})

test('a commit that was lost in a crash is not confused with a later one that has the same number', {
  timeout: 60_000,
}, async (t) => {
  const server = await startRestartablePostgres()
  const { step, rows, wire, database } = await tablesAt(t, server.url)
  t.after(() => server.stop())
  const sent = wire.next('lost')
  const lost = step('a')
  // The test awaits this promise only later. Without this handler, Node would report an unhandled rejection before
  // that.
  lost.catch(() => {})
  await sent
  await server.end('crashed')
  await server.start()
  const others = new Client(database)
  await others.connect()
  for (let number = 0; number < 5; number++) await others.query("insert into doors values ('b')")
  await others.end()
  await assert.rejects(lost, /Connection terminated/)
  assert.deepEqual(await rows(), ['b', 'b', 'b', 'b', 'b'])
})

test('connections that break between two steps do not end the process', async (t) => {
  const { step, rows, wire, database, run } = await tables(t)
  const inUse = "select 'in use' as words"
  const ten = () => Promise.all(Array.from({ length: 10 }, () => run(`${inUse} from pg_sleep(0.05)`)))
  await ten()
  const answers = wire.keepAnswers()
  const first = ten()
  const waiting = step('a').catch(() => {})
  await until(() => answers.saying('in use') === 10)
  const operator = new Client(database)
  await operator.connect()
  await operator.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where query like $1 and pid <> pg_backend_pid()`,
    [`${inUse}%`],
  )
  await operator.end()
  await until(() => answers.saying('57P01') === 10)
  // Each connection is given to a waiting caller, and breaks at the same moment.
  answers.letGo()
  assert.equal((await first).length, 10)
  await waiting
  await step('b')
  assert.deepEqual((await rows()).slice(-2), ['b', 'b'])
})

test('a node that stalls in the middle of a step does not block the others, and catches up', {
  timeout: 20_000,
}, async (t) => {
  const { step, rows, wire, database } = await tables(t)
  const other = await openDatabase(database, { log: createLog('silent'), clock: systemClock })
  t.after(() => other.close())
  const sent = wire.next('kept')
  const standing = step('a')
  await sent
  // This insert waits for the lock of the stalled node.
  const insert = { sql: "insert into doors values ('b') returning name", values: [] }
  assert.deepEqual(await other.step(insert, { lockKeys: 'doors' }), [{ name: 'b' }])
  assert.deepEqual(await standing, [{ name: 'a' }])
  assert.deepEqual(await rows(), ['a', 'a', 'b'])
})

for (const engine of engines) {
  describe(`a caller that stops waiting loses nothing, on ${engine.name}`, () => {
    test('the tokens are there for the next poll', async (t) => {
      const { stage, hangUp } = await slowStage(t, engine)
      const { auth_req_id: id } = (await stage.ring('kiosk')).body
      await stage.decide(await stage.newestRequest(), 'approved')
      await hangUp('/oauth/token', { grant_type: CIBA, auth_req_id: String(id) })
      assert.equal((await stage.poll('kiosk', id)).status, 200)
    })

    test('no user is asked for a client that has gone', async (t) => {
      const { stage, hangUp } = await slowStage(t, engine)
      await hangUp('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' })
      assert.deepEqual(await stage.waiting(), [])
    })
  })
}

test('while the database is unavailable, every address answers 503 with Retry-After', async (t) => {
  let isAway = false
  const stage = await openStage(t, {
    parts: {
      async openDatabase(url, surroundings) {
        const database = await openDatabase(url, surroundings)
        const reached = <T>(work: () => Promise<T>) =>
          isAway ? Promise.reject(Object.assign(new Error('connect'), { code: 'ECONNREFUSED' })) : work()
        return {
          ...database,
          listening: true,
          read: (sql, values) => reached(() => database.read(sql, values)),
          step: (first, options) => reached(() => database.step(first, options)),
          writable: () => reached(() => database.writable()),
        }
      },
    },
  })
  const anas = { authorization: await bearerOf(stage) }
  const { auth_req_id: id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const { access_token: token, refresh_token } = (await stage.poll('kiosk', id)).body as Record<string, string>
  const bearer = { authorization: `Bearer ${token}` }
  const refresh = { grant_type: 'refresh_token', refresh_token: refresh_token! }
  const signIn = new URLSearchParams({
    client_id: 'phone-app',
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid',
    code_challenge: 'a'.repeat(43),
    code_challenge_method: 'S256',
  })
  isAway = true
  const answers = {
    sendRequest: await stage.ring('kiosk'),
    poll: await stage.poll('kiosk', 'x'),
    waiting: await stage.post('/backchannel/authinfo', { login_hint: 'ana' }, credentials.phoneService),
    own: await stage.get('/backchannel/activity', anas),
    userinfo: await stage.get('/oauth/userinfo', bearer),
    refresh: await stage.post('/oauth/token', refresh, credentials.kiosk),
    introspection: await stage.post('/oauth/introspect', { token: token! }, credentials.kiosk),
    revocation: await stage.post('/oauth/revoke', { token: token! }, credentials.kiosk),
    signIn: await stage.get(`/oauth/authorize?${signIn}`, { accept: 'text/html' }),
    ready: await stage.get('/health/ready'),
  }
  for (const [what, { status, headers, body, text }] of Object.entries(answers)) {
    assert.deepEqual([what, status, headers.get('retry-after')], [what, 503, '1'], text)
    if (!['ready', 'signIn'].includes(what)) assert.equal(body.error, 'temporarily_unavailable', what)
  }
  isAway = false
  assert.equal((await stage.get('/oauth/userinfo', bearer)).status, 200)
})

/** A table behind a faulty connection, and a step that adds two rows to it under a lock. */
async function tables(t: TestContext) {
  const { url, drop } = await postgres.fresh()
  const all = await tablesAt(t, url)
  t.after(drop)
  return all
}

async function tablesAt(t: TestContext, url: string) {
  const wire = await openPostgresWire(t, url)
  const database = await openDatabase(wire.url, { log: createLog('silent'), clock: systemClock })
  t.after(() => database.close())
  await migrate(database, systemClock)
  await database.step({ sql: 'create table doors (name text)', values: [] })
  const insert = (name: string) => ({ sql: 'insert into doors values ($1) returning name', values: [name] })
  return {
    wire,
    database: url,
    run: (sql: string) => database.read(sql),
    step: (name: string) => database.step(insert(name), { also: [insert(name)], lockKeys: 'doors' }),
    rows: async () => {
      const found = await database.read<{ name: string }>('select name from doors order by name')
      return found.map(({ name }) => name)
    },
  }
}

async function slowStage(t: TestContext, engine: Engine) {
  let slowness = 0
  const wires = createWires(() => slowness)
  const stage = await openStage(t, { engine, parts: { openDatabase: wires.open } })

  /** Sends a call as Kiosk without waiting for the answer. Resolves when the call has failed. */
  async function hangUp(path: string, form: Record<string, string>): Promise<void> {
    await stage.doorbell.idle()
    slowness = 50
    const begun = wires.calls
    const headers = { authorization: credentials.kiosk, 'content-type': 'application/x-www-form-urlencoded' }
    const call = request(stage.url + path, { method: 'POST', headers })
    call.on('error', () => {})
    call.end(String(new URLSearchParams(form)))
    await until(() => wires.calls > begun)
    call.destroy()
    await until(() => stage.logLines.some((line) => line.includes('"code":"invalid_request"')))
    slowness = 0
  }
  return { stage, hangUp }
}
