/**
 * On Postgres: another transaction, for example of another node, has locked a row. Calls that change this row wait in
 * the process, and only one of them holds a connection.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from 'pg'
import { beforeSteps } from '../support/before-steps.ts'
import { engines } from '../support/engines.ts'
import { ana, credentials, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'
import { calls, poll } from './registration-calls.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

/** More calls than the server has connections. */
const many = 12

interface Waits {
  /** The statement that changes the row. */
  step: RegExp
  /** The rows that the other transaction locks. */
  locks: string
  /** Prepares the caller, and resolves to its call. */
  caller: (stage: Stage) => Promise<() => Promise<{ status: number }>>
}

const table: Record<string, Waits> = {
  'an anonymous page cancels its sign-in': {
    step: /update oidc_models set sealed/,
    locks: `select 1 from oidc_models where model = 'Interaction' for update`,
    async caller(stage) {
      const visitor = openVisitor(stage.url)
      const page = await visitor.follow(await visitor.get('/'))
      const path = /action="(\/sign-in\/[^"/]+)"/.exec(page.text)![1]!
      return () => visitor.post(path, { cancel: 'yes' })
    },
  },
  'a browser repeats its authorization request': {
    step: /insert into oidc_models/,
    locks: `select 1 from oidc_models where model = 'Session' for update`,
    async caller(stage) {
      const visitor = openVisitor(stage.url)
      await visitor.signIn(ana)
      const { location } = await visitor.get('/session/start?to=/')
      return () => visitor.get(location!)
    },
  },
  'a ping client polls one request': {
    step: /update backchannel_auth_requests set\s+interval_seconds/,
    locks: 'select 1 from backchannel_auth_requests for update',
    async caller(stage) {
      const { body } = await stage.ring('northbank')
      return () => stage.poll('northbank', body.auth_req_id)
    },
  },
  'a client changes its delivery mode': {
    step: /update clients set delivery_mode/,
    locks: `select 1 from clients where id = 'northbank' for update`,
    caller: async (stage) => () =>
      stage.post('/backchannel/clientconfig', { backchannel_token_delivery_mode: 'ping' }, credentials.northbank),
  },
  'a client asks for unknown users': {
    step: /insert into unknown_users/,
    locks: 'select 1 from unknown_users for update',
    async caller(stage) {
      const call = () => stage.post('/backchannel/authorize', unknown, credentials.kiosk)
      await call()
      return call
    },
  },
  'a client that registered itself replaces its registration': {
    step: /insert into registration_attempts/,
    locks: 'select 1 from registration_attempts for update',
    async caller(stage) {
      const { register, send } = calls(stage)
      const { body } = await register({ ...poll, client_name: 'Zed' })
      const { pathname } = new URL(String(body.registration_client_uri))
      const metadata = { ...poll, client_id: body.client_id, client_name: 'Zed' }
      const replace = (token: unknown) => send('PUT', pathname, metadata, String(token))
      // Each replacement changes the registration access token.
      const replaced = await replace(body.registration_access_token)
      return () => replace(replaced.body.registration_access_token)
    },
  },
}

const unknown = { scope: 'openid', login_hint: 'nobody' }

for (const [name, { step, locks, caller }] of Object.entries(table)) {
  test(`${name} many times at once: one connection waits, and other calls are answered`, async (t) => {
    let steps = 0
    const stage = await openStage(t, {
      engine: postgres,
      config: { limits: { perClient: { unknownPerMinute: 1000 } }, registration: { mode: 'open', perHour: 1000 } },
      parts: { openDatabase: beforeSteps(step, async () => void steps++) },
    })
    const refresh = await refreshing(stage)
    const call = await caller(stage)
    const before = steps
    const other = new Client({ connectionString: stage.database })
    await other.connect()
    try {
      await other.query('begin')
      const { rowCount } = await other.query(locks)
      assert.ok(rowCount! > 0, 'a row is locked')
      const answers = Array.from({ length: many }, call)
      await until(async () => steps - before >= many && (await countWaiting(other)) > 0)
      assert.equal(await countWaiting(other), 1)
      assert.equal((await refresh()).status, 200)
      await other.query('rollback')
      const statuses = (await Promise.all(answers)).map(({ status }) => status)
      assert.ok(Math.max(...statuses) < 500, statuses.join())
    } finally {
      await other.end()
    }
  })
}

/** Resolves to a function that refreshes the tokens of a client. */
async function refreshing(stage: Stage) {
  const rung = await stage.ring('kiosk', { scope: 'openid offline_access' })
  await stage.decide(await stage.newestRequest(), 'approved')
  const { body } = await stage.poll('kiosk', rung.body.auth_req_id)
  const form = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
  return () => stage.post('/oauth/token', form, credentials.kiosk)
}

/** Resolves to the number of connections to this database that wait for a lock. */
async function countWaiting(client: Client): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `select count(distinct pid)::int as count from pg_locks join pg_stat_activity using (pid)
     where not granted and datname = current_database()`,
  )
  return rows[0]!.count
}
