/**
 * Connections through a pooler. They are refused with the reason if the pooler does not keep sessions, or has too few
 * of them.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { systemClock } from '../../src/platform/clock.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openPretendedPooler, type PoolerOptions } from '../support/pretended-pooler.ts'
import { basic, openStage } from '../support/stage.ts'
import { closeAfter, openForSuite } from '../support/teardown.ts'
import { until } from '../support/until.ts'

const secret = newSecret()
const postgres = engines.find(({ name }) => name === 'postgres')!
const open = (url: string, connections = 10) =>
  openDatabase(url, { log: createLog('silent'), clock: systemClock, connections })

/** Postgres behind a pooler. `direct` is the URL of the database without the pooler. */
function behindPooler(t: TestContext, options: PoolerOptions) {
  const found = { direct: '', waiting: () => 0 }
  const engine: Engine = {
    name: 'postgres',
    async fresh(how) {
      const { url, drop } = await postgres.fresh(how)
      const pooler = await openPretendedPooler(t, url, options)
      Object.assign(found, { direct: url, waiting: pooler.waiting })
      return { url: pooler.url, drop }
    },
  }
  return { engine, found }
}

describe('a pooler that does not keep sessions is refused, with the reason', () => {
  const database = openForSuite(async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    return url
  })
  const pattern = [3, 0, 0, 4, 1, 3, 2, 2, 0, 1]
  let picks = 0
  const poolers: [string, Omit<PoolerOptions, 'mode'>][] = [
    ['it has one session', { sessions: 1 }],
    ['it prefers the session that was used last (PgBouncer)', { sessions: 20 }],
    ['it uses two sessions in turn (server_round_robin)', { sessions: 2, next: (idle) => idle[0]! }],
    ['it uses three sessions in turn', { sessions: 3, next: (idle) => idle[0]! }],
    ['it uses twenty sessions in turn', { sessions: 20, next: (idle) => idle[0]! }],
    ['it chooses at random', { sessions: 5, next: (idle) => idle[pattern[picks++ % 10]! % idle.length]! }],
    ['it tells connections no number', { sessions: 3, numberFor: () => undefined }],
    ['it tells all connections the same number', { sessions: 3, numberFor: () => 1 }],
  ]
  for (const [name, options] of poolers) {
    test(name, async (t) => {
      const { url } = await openPretendedPooler(t, database(), { mode: 'transaction', ...options })
      await assert.rejects(open(url), {
        message:
          `cannot reach the database postgres://127.0.0.1:${new URL(url).port}${new URL(url).pathname}: it is reached ` +
          'through a pooler in transaction or statement mode, but LISTEN, prepared statements and session settings need ' +
          'a session for each connection: set pool_mode = session for this database (PgBouncer), or connect to Postgres itself',
      })
    })
  }

  test('and a server does not start there', async (t) => {
    const { engine } = behindPooler(t, { mode: 'transaction', sessions: 20 })
    await assert.rejects(openStage(t, { engine }), /a pooler in transaction or statement mode, .*pool_mode = session/)
  })
})

test('through a pooler that keeps sessions, a request is approved and collected', async (t) => {
  const { engine } = behindPooler(t, { mode: 'session', sessions: 11 })
  const stage = await openStage(t, { engine })
  const { body } = await stage.ring('kiosk')
  assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
  assert.equal((await stage.poll('kiosk', body.auth_req_id)).status, 200)
})

describe('a pooler that has too few sessions', { concurrency: true }, () => {
  const tooFew =
    /does not answer it for 4 s\. A pooler does so if it has too few sessions: each server needs as many as the setting postgres\.connections says, and one more$/

  test('has one: the database cannot be opened, with the reason', async (t) => {
    const { engine } = behindPooler(t, { mode: 'session', sessions: 1 })
    const { url, drop } = await engine.fresh()
    t.after(drop)
    await assert.rejects(open(url), tooFew)
  })

  /** The connection that listens uses one session of the pooler. */
  const reads: [sessions: number, connections: number, refused: number][] = [
    [2, 2, 1],
    [2, 4, 3],
    [3, 3, 1],
    [5, 10, 6],
    [6, 5, 0],
  ]
  for (const [sessions, connections, refused] of reads) {
    test(`has ${sessions}: of ${connections} statements at once, ${refused} are refused, with the reason`, async (t) => {
      const { engine } = behindPooler(t, { mode: 'session', sessions })
      const { url, drop } = await engine.fresh()
      const database = await open(url, connections)
      t.after(async () => {
        await database.close()
        await drop()
      })
      const answers = await Promise.allSettled(
        Array.from({ length: connections }, () => database.read('select cast(pg_sleep(0.1) as text)')),
      )
      const reasons = answers.filter((answer) => answer.status === 'rejected').map(({ reason }) => reason as Error)
      assert.equal(reasons.length, refused)
      for (const { message } of reasons) assert.match(message, tooFew)
    })
  }

  test('answers calls with 503, and the log says why; afterwards all calls are answered', async (t) => {
    const { engine, found } = behindPooler(t, { mode: 'session', sessions: 10 })
    // With few clients, a server uses few connections when it starts.
    const service = { client_id: 'service', client_secret: secret, backchannel_device_service: true }
    const stage = await openStage(t, { engine, cast: false, config: { clients: [service] } })
    const lock = new Client({ connectionString: found.direct })
    closeAfter(t, () => lock.end())
    await lock.connect()
    await lock.query('begin; lock table backchannel_auth_requests in access exclusive mode')
    const list = () => stage.post('/backchannel/authinfo', { login_hint: 'ana' }, basic('service', secret))
    const calls = Array.from({ length: 12 }, list)
    await until(() => found.waiting() > 0, 60_000)
    await until(() => stage.logLines.some((line) => line.includes('has too few sessions')), 60_000)
    await lock.end()
    const answers = await Promise.all(calls)
    const refused = answers.filter(({ status }) => status === 503)
    assert.ok(refused.length > 0)
    for (const { headers } of refused) assert.match(String(headers.get('retry-after')), /^\d+$/)
    assert.ok(answers.every(({ status }) => status === 200 || status === 503))
    assert.equal((await list()).status, 200)
  })
})
