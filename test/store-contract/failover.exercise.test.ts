/**
 * The primary has died and its standby was promoted, or Postgres has crashed. A step reports success only if its commit
 * is in the database that continues.
 */
import assert from 'node:assert/strict'
import { after, before, describe, type TestContext, test } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database, Statement } from '../../src/platform/storage/database.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { startRestartablePostgres } from '../support/postgres.ts'
import { ask, type PostgresPair, startPostgresPair } from '../support/postgres-pair.ts'
import { openPostgresWire } from '../support/postgres-wire.ts'
import { openRelay } from '../support/relay.ts'
import { openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

/** How many checkpoints have been made after the promotion. A promoted database makes them after a while. */
const checkpoints = { 'before the first checkpoint': 0, 'after the second checkpoint': 2 }

describe('a standby that was promoted', () => {
  let pair: PostgresPair
  let hasStandby = true
  before(async () => {
    pair = await startPostgresPair()
  })
  after(() => pair.stop())

  /** All tests use the same pair. After a promotion, the next test gets a new standby. */
  async function opened(t: TestContext, { synchronous = false } = {}) {
    if (!hasStandby) await pair.addStandby()
    hasStandby = true
    pair.lead()
    pair.replication.restore()
    await pair.setSynchronous(synchronous)
    await ask(pair.primary, 'drop table if exists doors')
    const room = await furnish(t, pair.url)
    // All connections of the pool are opened before the test.
    await room.steps(Array.from({ length: 10 }, () => 'before'))
    const killAndPromote = async () => {
      hasStandby = false
      await pair.endPrimary('killed')
      await pair.promote()
    }
    return { ...room, killAndPromote, onPrimary: (sql: string) => ask(pair.primary, sql) }
  }

  test('is not ready before its promotion, and is afterwards', async (t) => {
    const engine = { name: 'postgres', fresh: async () => ({ url: pair.url, drop: async () => {} }) } as const
    const stage = await openStage(t, { engine })
    await pair.endPrimary('killed')
    hasStandby = false
    pair.lead('standby')
    await until(async () => (await stage.get('/health/ready')).body.database === 'read-only')
    for (const { status, headers } of [await stage.get('/health/ready'), await stage.ring('kiosk')]) {
      assert.deepEqual([status, headers.get('retry-after')], [503, '1'])
    }
    await pair.promote()
    pair.lead()
    await until(async () => (await stage.get('/health/ready')).status === 200)
    assert.equal((await stage.ring('kiosk')).status, 200)
  })

  test('refuses what it cannot know: the answer was lost, and no server answers the question about it', async (t) => {
    const { step, wire } = await opened(t)
    const sent = wire.next('kept')
    const lost = settled(step('lost'))
    await sent
    hasStandby = false
    await pair.endPrimary('killed')
    assert.match(await lost, /^refused: .*not known yet whether the commit happened/)
    await pair.promote()
  })

  for (const [when, times] of Object.entries(checkpoints)) {
    test(`does not make a caller report success when its transaction id is used again, ${when}`, async (t) => {
      const { step, wire, rows, killAndPromote, onPrimary } = await opened(t)
      pair.replication.cut()
      const sent = wire.next('kept')
      const lost = settled(step('lost'))
      await sent
      const id = await idInUse(onPrimary)
      await killAndPromote()
      await useUp(id, onPrimary)
      for (let time = 0; time < times; time++) await onPrimary('checkpoint')
      pair.lead()
      assert.match(await lost, /^refused/)
      assert.ok(!(await rows()).includes('lost'))
    })
  }

  test('has what ten committed whose answers were lost: all of them report success', async (t) => {
    const { steps, wire, rows, killAndPromote } = await opened(t, { synchronous: true })
    const names = Array.from({ length: 10 }, (_, number) => `kept ${number}`)
    const answered = wire.next('answer kept', names.length)
    const kept = steps(names)
    await answered
    await killAndPromote()
    pair.lead()
    assert.deepEqual(
      await kept,
      names.map(() => 'done'),
    )
    assert.deepEqual(
      await rows(),
      names.flatMap((name) => [name, name]),
    )
  })

  test('lacks what ten were committing: none of them reports success', async (t) => {
    const { steps, rows, killAndPromote, onPrimary } = await opened(t, { synchronous: true })
    pair.replication.cut()
    const lost = steps(Array.from({ length: 10 }, (_, number) => `lost ${number}`))
    await until(async () => (await waitingForStandby(onPrimary)).length === 10)
    await killAndPromote()
    pair.lead()
    for (const outcome of await lost) assert.match(outcome, /^refused/)
    assert.deepEqual(await rows(), [])
  })

  for (const how of ['pg_cancel_backend', 'pg_terminate_backend'] as const) {
    test(`lacks what only the old primary has: no caller gets success, after ${how}`, async (t) => {
      const { step, single, announced, killAndPromote, onPrimary, rows } = await opened(t, { synchronous: true })
      pair.replication.cut()
      let told = 0
      const lost = [step('step'), single('single'), announced('announced')].map((each) =>
        settled(each).finally(() => {
          told += 1
        }),
      )
      await until(async () => (await waitingForStandby(onPrimary)).length === 3)
      await onPrimary(`select ${how}(pid) from pg_stat_activity where wait_event = 'SyncRep'`)
      // For the old primary, the interrupted transaction is committed.
      await until(async () => (await onPrimary("select 1 from doors where name <> 'before'")).length === 4)
      await until(async () => (await waitingForStandby(onPrimary)).length + told === 3)
      await killAndPromote()
      pair.lead()
      for (const outcome of await Promise.all(lost)) assert.match(outcome, /^refused/)
      assert.deepEqual(await rows(), [])
    })
  }

  test('lacks what an inquiry found on the old primary only: the caller gets no success', async (t) => {
    const { step, killAndPromote, onPrimary, rows } = await opened(t, { synchronous: true })
    pair.replication.cut()
    let isOver = false
    const lost = settled(step('lost')).finally(() => {
      isOver = true
    })
    /** Ends the wait for the standby of the only transaction that waits, and resolves to the id of its process. */
    const endWait = async (how: string, except?: unknown) => {
      let pid: unknown
      await until(async () => {
        pid = (await waitingForStandby(onPrimary))[0]?.pid
        return isOver || (pid !== undefined && pid !== except)
      })
      if (!isOver) await onPrimary(`select ${how}(${pid})`)
      return pid
    }
    const writer = await endWait('pg_terminate_backend')
    // The inquiry waits on another connection. Postgres reports a cancelled wait as success, with a warning.
    await endWait('pg_cancel_backend', writer)
    await until(async () => isOver || (await waitingForStandby(onPrimary)).length === 1)
    await killAndPromote()
    pair.lead()
    assert.match(await lost, /^refused/)
    assert.deepEqual(await rows(), [])
  })

  test('has what was committed also when it comes back late: the caller gets success', async (t) => {
    const { step, single, onPrimary, rows } = await opened(t, { synchronous: true })
    pair.replication.cut()
    const kept = [settled(step('step')), settled(single('single'))]
    await until(async () => (await waitingForStandby(onPrimary)).length === 2)
    await onPrimary("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
    await until(async () => (await onPrimary("select 1 from doors where name = 'single'")).length > 0)
    pair.replication.restore()
    assert.deepEqual(await Promise.all(kept), ['done', 'done'])
    assert.deepEqual(await rows(), ['single', 'step', 'step'])
  })
})

for (const [when, times] of Object.entries(checkpoints)) {
  test(`after a crash, a lost transaction id that is used again does not make its former owner report success, ${when}`, async (t) => {
    const server = await startRestartablePostgres()
    t.after(() => server.stop())
    const address = await openRelay()
    t.after(() => address.close())
    const port = Number(new URL(server.url).port)
    address.leadTo(port)
    const { step, wire, rows } = await furnish(t, Object.assign(new URL(server.url), { port: address.port }).href)
    const onServer = (sql: string) => ask(server.url, sql)
    // Background processes must not write the log to the disk before the crash.
    for (const setting of ["wal_writer_delay = '10s'", "bgwriter_delay = '10s'", 'autovacuum = off']) {
      await onServer(`alter system set ${setting}`)
    }
    await onServer('select pg_reload_conf()')
    const sent = wire.next('kept')
    const lost = settled(step('lost'))
    await sent
    const id = await idInUse(onServer)
    address.cut()
    await server.end('crashed')
    await server.start()
    await useUp(id, onServer)
    for (let time = 0; time < times; time++) await onServer('checkpoint')
    address.leadTo(port)
    assert.match(await lost, /^refused/)
    assert.ok(!(await rows()).includes('lost'))
  })
}

type OnServer = (sql: string) => Promise<Record<string, unknown>[]>

const waitingForStandby = (on: OnServer) => on("select pid from pg_stat_activity where wait_event = 'SyncRep'")

/** Resolves to the id of the only open transaction. */
async function idInUse(on: OnServer): Promise<number> {
  const found = await on('select cast(backend_xid as text) as id from pg_stat_activity where backend_xid is not null')
  assert.equal(found.length, 1)
  return Number(found[0]!.id)
}

/** Runs other transactions until one of them has committed with this id. */
async function useUp(id: number, on: OnServer): Promise<void> {
  let used = 0
  while (used < id) {
    const rows = await on("insert into doors values ('another') returning cast(txid_current() as text) as id")
    used = Number(rows[0]!.id)
  }
  assert.equal(used, id, 'the id was used again')
}

const settled = (step: Promise<unknown>): Promise<string> =>
  step.then(
    () => 'done',
    (error: Error) => `refused: ${error.message}`,
  )

async function furnish(t: TestContext, url: string) {
  const wire = await openPostgresWire(t, url)
  const database = await openDatabase(wire.url, { log: createLog('silent'), clock: systemClock })
  t.after(() => database.close())
  await migrate(database, systemClock)
  await database.step({ sql: 'create table doors (name text)', values: [] })
  return { wire, ...stepsOf(database) }
}

function stepsOf(database: Database) {
  const insert = (name: string): Statement => ({ sql: 'insert into doors values ($1) returning name', values: [name] })
  const step = (name: string) => database.step(insert(name), { also: [insert(name)] })
  return {
    step,
    steps: (names: string[]) => Promise.all(names.map((name) => settled(step(name)))),
    single: (name: string) => database.step(insert(name)),
    announced: (name: string) => database.step(insert(name), { announce: [{ topic: 'doors', key: name }] }),
    async rows(): Promise<string[]> {
      const found = await database.read<{ name: string }>('select name from doors order by name')
      return found.map(({ name }) => name).filter((name) => name !== 'before')
    },
  }
}
