/** Defaults that an operator has set for a Postgres database must not change how our sessions work. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Engine } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { bearerOf } from '../support/phone-app.ts'
import { freshPostgres } from '../support/postgres.ts'
import { CIBA, credentials, openStage } from '../support/stage.ts'

/** Returns an engine whose databases have these defaults. */
function postgresWith(defaults: Record<string, string>): Engine {
  return {
    name: 'postgres',
    async fresh() {
      const { url, drop } = await freshPostgres()
      const name = new URL(url).pathname.slice(1)
      const settings = Object.entries(defaults)
      await asOperator(url, ...settings.map(([key, value]) => `alter database ${name} set ${key} = '${value}'`))
      return { url, drop }
    },
  }
}

async function asOperator(url: string, ...statements: string[]) {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    let rows: Record<string, unknown>[] = []
    for (const sql of statements) rows = (await client.query(sql)).rows
    return rows
  } finally {
    await client.end()
  }
}

async function opened(t: TestContext, defaults: Record<string, string>) {
  const { url, drop } = await postgresWith(defaults).fresh()
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  t.after(async () => {
    await database.close()
    await drop()
  })
  return { url, database }
}

for (const isolation of ['repeatable read', 'serializable', 'read uncommitted']) {
  describe(`where transactions are ${isolation} by default`, () => {
    test('limits hold for many calls at once at two nodes, and no caller sees a conflict', async (t) => {
      const engine = postgresWith({ default_transaction_isolation: isolation })
      const limits = { perClient: { open: 12 } } as const
      const options = { engine, config: { limits, requests: { maxOpenPerUser: 5 } } }
      const stage = await openStage(t, options)
      const neighbour = await openNeighbour(t, stage, options)
      const sendRequest = (number: number) => {
        const form = { scope: 'openid', login_hint: number % 2 ? 'ana' : 'ben', binding_message: `Tea ${number}` }
        const post = number % 4 < 2 ? stage.post : neighbour.post
        return post('/backchannel/authorize', form, number % 3 ? credentials.kiosk : credentials.northbank)
      }
      // All connections are opened before the calls, so that the calls really arrive at once.
      const poll = (post: typeof stage.post, number: number) =>
        post('/oauth/token', { grant_type: CIBA, auth_req_id: `${number}` }, credentials.kiosk)
      const numbers = Array.from({ length: 60 }, (_, number) => number)
      await Promise.all(numbers.map((number) => poll(number % 2 ? stage.post : neighbour.post, number)))
      for (const { status, text } of await Promise.all(numbers.map(sendRequest))) assert.ok(status < 500, text)
      for (const user of ['ana', 'ben']) assert.equal((await stage.waiting(user)).length, 5, user)
    })

    test('of many decisions and redemptions at once one takes effect, and every answer is one of the protocol', async (t) => {
      const engine = postgresWith({ default_transaction_isolation: isolation })
      const stage = await openStage(t, { engine })
      const neighbour = await openNeighbour(t, stage, { engine })
      const { auth_req_id: id } = (await stage.ring('kiosk')).body
      const request_id = await stage.newestRequest()
      const decide = (number: number) => {
        const form = { login_hint: 'ana', request_id, status: number % 2 ? 'approved' : 'denied' }
        return (number % 4 < 2 ? stage.post : neighbour.post)('/backchannel/complete', form, credentials.phoneService)
      }
      const decisions = await Promise.all(Array.from({ length: 24 }, (_, number) => decide(number)))
      const statuses = decisions.map(({ status }) => status).sort()
      assert.deepEqual(statuses, [200, ...Array.from({ length: 23 }, () => 409)])
      const polls = await Promise.all(Array.from({ length: 12 }, () => stage.poll('kiosk', id)))
      for (const { status, text } of polls) assert.ok(status < 500, text)
      assert.ok(polls.filter(({ status }) => status === 200).length <= 1)
    })
  })
}

test('a session has the settings it relies on, whatever the defaults of the database are', async (t) => {
  const defaults = {
    default_transaction_isolation: 'serializable',
    plan_cache_mode: 'force_custom_plan',
    enable_seqscan: 'on',
    enable_hashjoin: 'on',
    enable_mergejoin: 'on',
    enable_indexscan: 'off',
    enable_indexonlyscan: 'off',
    enable_bitmapscan: 'off',
    enable_sort: 'off',
    enable_nestloop: 'off',
    jit: 'on',
    max_parallel_workers_per_gather: '8',
    synchronous_commit: 'off',
    standard_conforming_strings: 'off',
    transform_null_equals: 'on',
  }
  const { database } = await opened(t, defaults)
  const names = Object.keys(defaults)
  const rows = await database.read<{ name: string; setting: string }>(
    'select name, setting from pg_settings where name in (select value from each($1)) order by name',
    [JSON.stringify(names)],
  )
  assert.deepEqual(Object.fromEntries(rows.map(({ name, setting }) => [name, setting])), {
    default_transaction_isolation: 'read committed',
    plan_cache_mode: 'force_generic_plan',
    enable_seqscan: 'off',
    enable_hashjoin: 'off',
    enable_mergejoin: 'off',
    enable_indexscan: 'on',
    enable_indexonlyscan: 'on',
    enable_bitmapscan: 'on',
    enable_sort: 'on',
    enable_nestloop: 'on',
    jit: 'off',
    max_parallel_workers_per_gather: '0',
    synchronous_commit: 'on',
    standard_conforming_strings: 'on',
    transform_null_equals: 'off',
  })
})

test('whatever the defaults are, a request is shown, approved and collected, and limits hold', async (t) => {
  const engine = postgresWith({
    array_nulls: 'off',
    bytea_output: 'escape',
    client_min_messages: 'error',
    constraint_exclusion: 'on',
    DateStyle: 'German',
    debug_parallel_query: 'on',
    default_statistics_target: '1',
    default_transaction_deferrable: 'on',
    default_transaction_isolation: 'serializable',
    enable_bitmapscan: 'off',
    enable_hashagg: 'off',
    enable_indexonlyscan: 'off',
    enable_material: 'off',
    enable_memoize: 'off',
    enable_sort: 'off',
    extra_float_digits: '-15',
    from_collapse_limit: '1',
    IntervalStyle: 'iso_8601',
    jit_above_cost: '0',
    join_collapse_limit: '1',
    min_parallel_table_scan_size: '0',
    parallel_setup_cost: '0',
    parallel_tuple_cost: '0',
    quote_all_identifiers: 'on',
    row_security: 'off',
    standard_conforming_strings: 'off',
    TimeZone: 'Asia/Kathmandu',
    transform_null_equals: 'on',
    work_mem: '64kB',
  })
  const stage = await openStage(t, {
    engine,
    config: { limits: { perClient: { open: 12 } }, requests: { maxOpenPerUser: 5 } },
  })
  const binding_message = "O'Neil \\ pays 4.20 €"
  const { body } = await stage.ring('kiosk', { scope: 'openid offline_access', binding_message })
  assert.equal((await stage.waiting())[0]!.binding_message, binding_message)
  assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
  const collected = await stage.poll('kiosk', body.auth_req_id)
  assert.equal(collected.status, 200, collected.text)
  const refresh = { grant_type: 'refresh_token', refresh_token: String(collected.body.refresh_token) }
  const refreshed = await stage.post('/oauth/token', refresh, credentials.kiosk)
  assert.equal(refreshed.status, 200, refreshed.text)
  assert.equal((await stage.get('/backchannel/activity', { authorization: await bearerOf(stage) })).status, 200)
  const about = { scope: 'openid', login_hint: 'ben' }
  const many = Array.from({ length: 30 }, () => stage.post('/backchannel/authorize', about, credentials.kiosk))
  for (const { status, text } of await Promise.all(many)) assert.ok(status < 500, text)
  assert.equal((await stage.waiting('ben')).length, 5)
  await stage.doorbell.sweep()
  await stage.doorbell.prune()
  const error = 50
  assert.deepEqual(
    stage.logLines.filter((line) => JSON.parse(line).level >= error),
    [],
  )
})

for (const stronger of ['remote_apply', 'remote_write', 'local']) {
  test(`a database default of ${stronger} for commits is kept`, async (t) => {
    const { database } = await opened(t, { synchronous_commit: stronger })
    const [row] = await database.read<{ is: string }>(`select current_setting('synchronous_commit') as is`)
    assert.equal(row!.is, stronger)
  })
}

test('where idle sessions are ended after 300 ms, ours are not: neither the listening one nor those of the pool', async (t) => {
  const { url, database } = await opened(t, { idle_session_timeout: '300' })
  await Promise.all([1, 2, 3].map(() => database.read('select 1 as one')))
  const pids = async () => {
    const rows = await asOperator(
      url,
      `select pid from pg_stat_activity where application_name = 'doorbell' and datname = current_database() order by pid`,
    )
    return rows.map(({ pid }) => pid)
  }
  const before = await pids()
  assert.ok(before.length >= 2)
  await pause(1_200)
  assert.deepEqual(await pids(), before)
  assert.equal(database.listening, true)
})

test("a migration may take longer than the database's statement timeout", async (t) => {
  const { database } = await opened(t, { statement_timeout: '200', lock_timeout: '200' })
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-migrations-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, '0001_slow.sql'), 'select pg_sleep(0.5);\n')
  assert.deepEqual(await migrate(database, systemClock, folder), ['0001_slow'])
  await assert.rejects(database.read('select pg_sleep(0.5)'), /statement timeout/)
})
