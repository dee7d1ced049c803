/**
 * Connections to Postgres that are open, but on which nothing arrives any more: the machine of Postgres has no power,
 * or a firewall has forgotten the connections. TCP would notice this after about 15 minutes.
 */
import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { type Clock, systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { isDatabaseUnavailable } from '../../src/platform/storage/unavailable.ts'
import { createStageClock } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { openPostgresWire } from '../support/postgres-wire.ts'
import { openRelay, type Relay } from '../support/relay.ts'
import { CIBA, credentials, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

/** The connection that receives notifications is the first one that a node opens. */
const listener = 1

describe('connections that become silent', { timeout: 60_000 }, () => {
  test('all at once: the step on one of them fails, and the next step with its lock key works', async (t) => {
    const { relay, step, use, rows } = await tables(t, { clock: systemClock })
    await use(10)
    relay.freeze()
    await assert.rejects(step('a'), isDatabaseUnavailable)
    assert.deepEqual(await step('b'), [{ name: 'b' }])
    await use(10)
    assert.deepEqual(await rows(), ['b', 'b'])
  })

  test('all but the one on which this node listens: no call after the first one meets a silent connection', async (t) => {
    const { relay, clock, step, use, rows } = await tables(t)
    await use(10)
    relay.freeze(listener)
    const lost = failed(step('a'))
    await until(() => {
      clock.advance(1_000)
      return lost.error !== undefined
    })
    assert.ok(isDatabaseUnavailable(lost.error), String(lost.error))
    assert.deepEqual(await step('b'), [{ name: 'b' }])
    await use(10)
    assert.deepEqual(await rows(), ['b', 'b'])
  })

  for (const [what, openTarget] of [
    ['refuses new connections', freePort],
    ['does not answer new ones', openSilentPort],
  ] as const) {
    test(`all at once, and Postgres ${what}: the calls fail, and later ones work`, async (t) => {
      const { relay, port, step, use, rows } = await tables(t, { clock: systemClock })
      await use(10)
      relay.freeze()
      relay.leadTo(await openTarget(t))
      const results = await Promise.allSettled([step('a'), step('a'), ...Array.from({ length: 10 }, rows)])
      for (const result of results) {
        assert.ok(result.status === 'rejected' && isDatabaseUnavailable(result.reason), String(result))
      }
      relay.leadTo(port)
      await until(() => rows().then(isEmpty, () => false))
    })
  }

  test('at a commit: the other connections say that it has happened', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const wire = await openPostgresWire(t, url)
    const stage = await openStage(t, {
      engine: { ...postgres, fresh: async () => ({ url: wire.url, drop: async () => {} }) },
    })
    const { auth_req_id: id } = (await stage.ring('kiosk')).body
    const newest = await stage.newestRequest()
    const committed = wire.next('answer kept')
    const decision = stage.decide(newest, 'approved')
    let isAnswered = false
    void decision.finally(() => {
      isAnswered = true
    })
    await committed
    await until(() => {
      if (!isAnswered) stage.clock.advance(500)
      return isAnswered
    })
    assert.equal((await decision).status, 200)
    assert.equal(
      (await stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: String(id) }, credentials.kiosk)).status,
      200,
    )
  })
})

describe('a statement that takes long', () => {
  test('is not ended while Postgres executes it', async (t) => {
    const { clock, database, step, rows } = await tables(t)
    const other = new Client(database)
    await other.connect()
    await other.query('begin; lock table doors')
    const waiting = step('a')
    const isChecked = countChecks(clock)
    await until(() => {
      clock.advance(1_000)
      return isChecked(10)
    })
    await other.query('commit')
    await other.end()
    assert.deepEqual(await waiting, [{ name: 'a' }])
    assert.deepEqual(await rows(), ['a', 'a'])
  })
})

/** A port that accepts connections and never answers. */
async function openSilentPort(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => void sockets.add(socket.resume().on('error', () => {})))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as { port: number }).port
}

const isEmpty = (list: unknown[]) => list.length === 0

/**
 * Returns a function that says whether this many checks of the connections have ended. Each check sets a timer for the
 * next one.
 */
function countChecks(clock: Clock) {
  const after = clock.after
  let checks = 0
  clock.after = (...parameters) => {
    checks += 1
    return after(...parameters)
  }
  return (wanted: number) => checks >= wanted
}

function failed(work: Promise<unknown>): { error?: unknown } {
  const failure: { error?: unknown } = {}
  work.catch((error: unknown) => Object.assign(failure, { error }))
  return failure
}

/** A table behind a relay, and a step that adds two rows to it under a lock. */
async function tables(t: TestContext, { clock = createStageClock() as Clock } = {}) {
  const { url, drop } = await postgres.fresh()
  const target = new URL(url)
  const relay: Relay = await openRelay()
  relay.leadTo(Number(target.port))
  target.port = String(relay.port)
  const database = await openDatabase(target.href, { log: createLog('silent'), clock })
  t.after(async () => {
    relay.close()
    await database.close()
    await drop()
  })
  await migrate(database, systemClock)
  await database.step({ sql: 'create table doors (name text)', values: [] })
  const insert = (name: string) => ({ sql: 'insert into doors values ($1) returning name', values: [name] })
  return {
    relay,
    port: Number(new URL(url).port),
    clock: clock as ReturnType<typeof createStageClock>,
    database: url,
    step: (name: string) => database.step(insert(name), { also: [insert(name)], lockKeys: 'doors' }),
    /** Reads on this many connections at the same time. */
    use: (connections: number) =>
      Promise.all(Array.from({ length: connections }, () => database.read(`select cast(pg_sleep(0.05) as text)`))),
    rows: async () => {
      const found = await database.read<{ name: string }>('select name from doors order by name')
      return found.map(({ name }) => name)
    },
  }
}
