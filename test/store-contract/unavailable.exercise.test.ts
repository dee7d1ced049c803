/**
 * Temporary failures are answered with 503 and `Retry-After`, on every kind of address. The failures in these tests are
 * real.
 */
import assert from 'node:assert/strict'
import { rename, writeFile } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { startPostgres } from '../support/postgres.ts'
import { ask } from '../support/postgres-pair.ts'
import { ana, credentials, openStage, type Stage } from '../support/stage.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'

const [sqlite, postgres] = engines as [Engine, Engine]

describe('on postgres', () => {
  const mishaps: Record<string, { setting: string; isHeldUp: boolean }> = {
    'a lock that is not available in time (55P03)': { setting: 'lock_timeout = 50', isHeldUp: true },
    'a statement that takes too long (57014)': { setting: 'statement_timeout = 50', isHeldUp: true },
    'a database that is read-only (25006)': { setting: 'default_transaction_read_only = on', isHeldUp: false },
  }
  for (const [what, { setting, isHeldUp }] of Object.entries(mishaps)) {
    test(`${what}: calls of clients, pages, sign-in, and tokens`, async (t) => {
      const { stage, calls, comeBack } = await opened(t, postgres)
      await change(stage, setting)
      const locks = new Client(stage.database)
      await locks.connect()
      await locks.query('begin read write')
      if (isHeldUp) await locks.query('lock table backchannel_auth_requests, oidc_models in access exclusive mode')
      await unavailableAt(calls)
      const { status } = await stage.get('/health/ready')
      assert.equal(status, isHeldUp ? 200 : 503)
      await locks.end()
      await change(stage)
      assert.equal((await stage.ring('kiosk')).status, 200)
      assert.equal((await stage.get('/health/ready')).status, 200)
      // The browser loads the page that could not be shown again.
      assert.equal((await comeBack()).status, 303)
      assert.equal((await comeBack()).location, '/', 'signed in already')
    })
  }

  test('a statement that fails, and fails again at each retry', async (t) => {
    const { stage } = await opened(t, postgres)
    for (const code of ['40001', '40P01', '53100', '53200', '53300', '55006', '57P01', '58030']) {
      await ask(
        stage.database,
        `create or replace function fail() returns trigger language plpgsql as $$
           begin raise exception 'failed' using errcode = '${code}'; end $$;
         create trigger fail before insert on backchannel_auth_requests execute function fail()`,
      )
      await unavailableAt({ [code]: () => stage.ring('kiosk') })
      assert.deepEqual([code, (await stage.get('/health/ready')).status], [code, code === '53100' ? 503 : 200])
      await ask(stage.database, 'drop trigger fail on backchannel_auth_requests')
      assert.equal((await stage.ring('kiosk')).status, 200)
      assert.equal((await stage.get('/health/ready')).status, 200)
    }
  })

  test('a password that was changed (28P01), and a role that may not log in (28000)', async (t) => {
    const server = await startPostgres()
    t.after(() => server.stop())
    const admin = (sql: string) => ask(server.url, sql)
    await admin("create role doorbell login superuser password 'first'")
    const [{ hba_file: file } = {}] = await admin('show hba_file')
    await writeFile(String(file), 'host all doorbell 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n')
    await admin('select pg_reload_conf()')
    const url = Object.assign(new URL(server.url), { username: 'doorbell', password: 'first' }).href
    const { stage, calls } = await opened(t, { ...postgres, fresh: async () => ({ url, drop: async () => {} }) })
    for (const [broken, mended] of [
      ["password 'second'", "password 'first'"],
      ['nologin', 'login'],
    ]) {
      await admin(`alter role doorbell ${broken}`)
      await admin("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'doorbell'")
      await unavailableAt({ ...calls, ready: () => stage.get('/health/ready') })
      await admin(`alter role doorbell ${mended}`)
      assert.equal((await stage.ring('kiosk')).status, 200)
      assert.equal((await stage.get('/health/ready')).status, 200)
    }
  })
})

describe('on sqlite', () => {
  test('a file that may not grow (SQLITE_FULL): calls of clients, pages, sign-in, and tokens', async (t) => {
    const { stage, database, calls } = await opened(t, sqlite)
    const [{ page_count: pages } = { page_count: 0 }] = await database().read<{ page_count: number }>(
      'pragma page_count',
    )
    await database().read(`pragma max_page_count = ${pages}`)
    // These requests fill the free space of the last pages.
    for (let answered = 200; answered === 200; ) answered = (await stage.ring('kiosk')).status
    await unavailableAt({ ring: calls.ring, show: calls.ring, ready: () => stage.get('/health/ready') })
    await database().read('pragma max_page_count = 1000000')
    assert.equal((await stage.ring('kiosk')).status, 200)
    assert.equal((await stage.get('/health/ready')).status, 200)
  })

  test('a file that another process writes to (SQLITE_BUSY)', async (t) => {
    const { stage, calls } = await opened(t, sqlite)
    const other = new DatabaseSync(stage.database.slice('sqlite:'.length))
    other.exec('begin immediate')
    await unavailableAt({ ring: calls.ring })
    other.exec('rollback')
    other.close()
    assert.equal((await stage.ring('kiosk')).status, 200)
  })

  test('a read-only connection (SQLITE_READONLY): calls of clients, pages, sign-in, and tokens', async (t) => {
    const { stage, database, calls } = await opened(t, sqlite)
    await database().read('pragma query_only = on')
    await unavailableAt(calls)
    await database().read('pragma query_only = off')
    assert.equal((await stage.ring('kiosk')).status, 200)
  })

  test('a file that was moved away: the server is not ready until it is back, and accepts nothing that would be lost', async (t) => {
    const { stage, calls } = await opened(t, sqlite)
    const path = stage.database.slice('sqlite:'.length)
    await rename(path, `${path}.away`)
    const { status, headers, body } = await stage.get('/health/ready')
    assert.deepEqual([status, headers.get('retry-after'), body.database], [503, '1', 'read-only'])
    await unavailableAt(calls)
    await rename(`${path}.away`, path)
    assert.equal((await stage.get('/health/ready')).status, 200)
    assert.equal((await stage.ring('kiosk')).status, 200)
  })
})

type Calls = Record<string, () => Promise<{ status: number; headers: Headers; text: string }>>

async function unavailableAt(calls: Calls): Promise<void> {
  for (const [what, call] of Object.entries(calls)) {
    const { status, headers, text } = await call()
    assert.deepEqual([what, status, headers.get('retry-after')], [what, 503, '1'], text)
    if (what.startsWith('page')) assert.match(text, /<html[\s\S]*Bitte versuchen Sie es in Kürze erneut/)
    else if (what !== 'ready') assert.equal(JSON.parse(text).error, 'temporarily_unavailable')
  }
}

/** A server with a pending request for Ana, who has signed in, and calls of every kind that change something. */
async function opened(t: TestContext, engine: Engine) {
  let database: Database
  const stage = await openStage(t, {
    engine,
    parts: {
      async openDatabase(...arguments_) {
        database = await openDatabase(...arguments_)
        return database
      },
    },
  })
  const { auth_req_id: approved } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const { refresh_token } = (await stage.poll('kiosk', approved)).body as Record<string, string>
  const refresh = { grant_type: 'refresh_token', refresh_token: refresh_token! }
  const { auth_req_id: collectable } = (await stage.ring('kiosk')).body
  await stage.decide(await stage.newestRequest(), 'approved')
  await stage.ring('kiosk')
  const waiting = await stage.newestRequest()
  const browser = openVisitor(stage.url, stage.url, { 'accept-language': 'de' })
  await browser.signIn(ana)
  const form_token = formTokenOn(await browser.get(`/approve/${waiting}`))
  const halfSignedIn = openVisitor(stage.url, stage.url, { 'accept-language': 'de' })
  const callback = await signInUpToCallback(halfSignedIn)
  const comeBack = () => halfSignedIn.get(callback)
  const signedOut = openVisitor(stage.url, stage.url, { 'accept-language': 'de' })
  const signInPage = new URLSearchParams({
    client_id: 'phone-app',
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid',
    code_challenge: 'a'.repeat(43),
    code_challenge_method: 'S256',
  })
  const calls = {
    ring: () => stage.ring('kiosk'),
    decision: () => stage.decide(waiting, 'denied'),
    poll: () => stage.poll('kiosk', collectable),
    refresh: () => stage.post('/oauth/token', refresh, credentials.kiosk),
    'page of a decision': () => browser.post(`/approve/${waiting}`, { decision: 'approve', form_token }),
    'page that a sign-in comes back to': comeBack,
    'page of a sign-in': () => signedOut.get(`/oauth/authorize?${signInPage}`),
  }
  return { stage, calls, comeBack, database: () => database }
}

/** Resolves to the address of the app to which the browser is finally redirected. */
async function signInUpToCallback(visitor: Visitor): Promise<string> {
  const page = await visitor.follow(await visitor.get('/'))
  const action = /<form method="post" action="(\/sign-in\/[^"/]+)">/.exec(page.text)![1]!
  let seen = await visitor.post(action, { name: ana.username, password: ana.password })
  while (!seen.location!.startsWith('/session/callback')) seen = await visitor.get(seen.location!)
  return seen.location!
}

/**
 * Sets a default of the database for all new connections, or resets all defaults. Resolves when the open connections
 * have ended.
 */
async function change({ database }: Stage, setting?: string): Promise<void> {
  const name = new URL(database).pathname.slice(1)
  const admin = Object.assign(new URL(database), { pathname: 'postgres' }).href
  await ask(admin, `alter database ${name} ${setting ? `set ${setting}` : 'reset all'}`)
  await ask(admin, `select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '${name}'`)
}
