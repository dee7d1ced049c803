/** What `Database` guarantees on Postgres. */
import assert from 'node:assert/strict'
import { describe, mock, test } from 'node:test'
import { Client, Connection } from 'pg'
import { type Clock, systemClock } from '../../src/platform/clock.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { freshPostgres } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { claim, flow, furnish, hearing, letters, logbook, rest, say, stage } from './doors.ts'

describe('on postgres only', () => {
  const postgres = engines.find(({ name }) => name === 'postgres')!

  test('a lost subscription is logged and restored, and reports that announcements may have been missed', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const clock = handClock()
    const log = logbook()
    const database = await openDatabase(url, { log: log.log, clock })
    t.after(() => database.close())
    const heard = hearing(database, 'door')

    await terminate(url, "query like 'listen%'")
    await log.line('announcements of other nodes are not received')
    assert.equal(database.listening, false)

    await clock.let(100)
    assert.equal(await heard.next(), '')
    assert.equal(database.listening, true)
    await database.step(say('select 1 as one'), { announce: [{ topic: 'door', key: 'a' }] })
    assert.equal(await heard.next(), 'a')
  })

  test('the pauses between attempts to reconnect grow', async () => {
    const { url, dropAndWait } = await freshPostgres()
    const clock = handClock()
    const database = await openDatabase(url, { log: logbook().log, clock })
    await dropAndWait()
    // Until then, the clock may still wait for the next heartbeat, and not for the next attempt to reconnect.
    await until(() => !database.listening)
    for (const pause of [100, 200, 400, 800]) await clock.let(pause)
    assert.equal(database.listening, false)
    await database.close()
  })

  test('a subscription must respond at intervals', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const clock = handClock()
    const database = await openDatabase(url, { log: logbook().log, clock })
    t.after(() => database.close())
    await clock.let(2_000)
    await clock.let(2_000)
    assert.equal(database.listening, true)
  })

  test('steps that count rows for the same limit run one after the other, also on several connections', async (t) => {
    const [one, other] = await stage(t, postgres, 2)
    const enter = (database: Database, number: number) =>
      database.step(
        say(
          `insert into visits_without_door select 'x', cast($1 as bigint)
           where (select count(*) from visits_without_door) < 3 returning number`,
          number,
        ),
        { lockKeys: [`door ${number % 2}`, 'house'] },
      )
    const entered = await Promise.all(Array.from({ length: 40 }, (_, n) => enter(n % 3 ? one : other, n)))
    assert.equal(entered.flat().length, 3)
  })

  test('steps of one process that wait for a lock key hold no connection, and end when the first has failed', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const database = await openDatabase(url, { log: logbook().log, clock: systemClock })
    t.after(() => database.close())
    await furnish(database)
    await asAdministrator(url, async (client) => {
      await client.query('begin; lock table visits_without_door')
      const visit = (number: number) =>
        database.step(
          say("insert into visits_without_door values ('x', cast($1 as bigint)) returning number", number),
          {
            lockKeys: ['house', `door ${number}`],
          },
        )
      const first = visit(0)
      const failed = assert.rejects(first)
      await until(async () => (await waitingIn(client, 'relation')).length === 1)
      const others = Array.from({ length: 30 }, (_, number) => visit(number + 1))
      // If the waiting visits held connections, the pool would have none left for these nine statements.
      await Promise.all(Array.from({ length: 9 }, () => database.read('select pg_sleep(0)')))
      assert.deepEqual(await waitingIn(client, 'advisory'), [])
      const [pid] = await waitingIn(client, 'relation')
      await client.query('select pg_terminate_backend($1)', [pid])
      await failed
      await client.query('rollback')
      assert.equal((await Promise.all(others)).flat().length, 30)
    })
  })

  test('an idle connection that is lost is logged and replaced', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const log = logbook()
    const database = await openDatabase(url, { log: log.log, clock: systemClock })
    t.after(() => database.close())
    await database.read('select 1 as one')
    await terminate(url, "query not like 'listen%'")
    await log.line('an idle database connection was lost')
    assert.deepEqual(await database.read('select 2 as two'), [{ two: 2 }])
  })

  test('a connection that is lost within a step fails that step only', async (t) => {
    const [database] = await stage(t, postgres)
    const lost = say('select pg_terminate_backend(pg_backend_pid()) as gone')
    await assert.rejects(database.step(say('select 1 as one'), rest(lost)))
    await assert.rejects(database.step(lost))
    assert.deepEqual(await database.step(say('select 2 as two'), rest(say('select 3'))), [{ two: 2 }])
  })

  test('a step that fails with a serialization conflict is tried three times', async (t) => {
    const [database] = await stage(t, postgres)
    await database.step(say('create sequence attempts'))
    await database.step(
      say(`create function stumble(times bigint) returns bigint language plpgsql volatile as $body$
        declare attempt bigint := nextval('attempts');
        begin
          if attempt <= times then raise exception 'stumbled' using errcode = '40001'; end if;
          return attempt;
        end $body$`),
    )
    assert.deepEqual(await database.step(say('select stumble(2) as attempt')), [{ attempt: 3 }])
    await assert.rejects(database.step(say('select 1'), rest(say('select stumble(99)'))), /stumbled/)
    assert.deepEqual(await database.read('select last_value as attempts from attempts'), [{ attempts: 6 }])
  })

  test('a connection plans its statements again after a while, also if the wall clock is set back meanwhile', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const prepare = mock.method(Connection.prototype, 'parse')
    const discards = () => prepare.mock.calls.filter(({ arguments: [query] }) => query.text === 'discard plans').length
    const now = Date.now()
    let passedMs = 0
    mock.method(systemClock as Required<Clock>, 'steady', () => now + passedMs)
    mock.method(systemClock, 'now', () => now + passedMs - (passedMs > 0 ? 3_600_000 : 0))
    t.after(() => mock.restoreAll())
    const database = await openDatabase(url, { log: logbook().log, clock: systemClock })
    t.after(() => database.close())
    await database.read('select 1 as one')
    assert.equal(discards(), 0)
    passedMs = 1_000
    await database.read('select 1 as one')
    assert.equal(discards(), 1)
  })

  test('Postgres describes the columns of a statement once for each connection', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const database = await openDatabase(url, { log: logbook().log, clock: systemClock, connections: 1 })
    t.after(() => database.close())
    // The clock stands still. Otherwise the connection would plan its statements again during the test.
    mock.method(systemClock as Required<Clock>, 'steady', () => 0)
    await migrate(database, systemClock)
    const describing = mock.method(Connection.prototype, 'describe')
    t.after(() => mock.restoreAll())
    const counting = (limit: number) =>
      database
        .read(`select value, cast(value as bigint) * 2 as twice from each($1)`, ['[1,2]'])
        .then((rows) => rows.slice(0, limit))
    assert.deepEqual(await counting(1), [{ value: '1', twice: 2 }])
    assert.equal(describing.mock.callCount(), 1)
    assert.deepEqual(await counting(2), [
      { value: '1', twice: 2 },
      { value: '2', twice: 4 },
    ])
    const twice = {
      also: [say("select 'a' as name"), say("select 'b' as other, 2 as count"), say("select 'a' as name")],
    }
    assert.deepEqual(await database.step(say("select 'a' as name"), twice), [{ name: 'a' }])
    const before = describing.mock.callCount()
    assert.deepEqual(await database.step(say("select 'a' as name"), twice), [{ name: 'a' }])
    assert.equal(describing.mock.callCount(), before, 'nothing is described again')
  })

  test('a worker that claims rows does not wait for rows that another holds', async (t) => {
    const { url, drop } = await postgres.fresh()
    t.after(drop)
    const database = await openDatabase(url, { log: logbook().log, clock: systemClock })
    t.after(() => database.close())
    await furnish(database)
    await database.step(say("insert into doors select value, 'open', null from each($1)", JSON.stringify(letters)))
    await asAdministrator(url, async (client) => {
      await client.query('begin')
      await client.query('select name from doors order by name limit 5 for update')
      const claimed = await database.step<{ name: string }>(claim('me'))
      assert.deepEqual(claimed.map(({ name }) => name).sort(), letters.slice(5, 10))
    })
  })
})

/** A clock whose timers run only when the test calls `let`. */
function handClock(): Clock & { let(milliseconds: number): Promise<void> } {
  const timers = flow<{ milliseconds: number; callback: () => void; cancelled: boolean }>()
  return {
    now: () => 0,
    after(milliseconds, callback) {
      const timer = { milliseconds, callback, cancelled: false }
      timers.push(timer)
      return () => {
        timer.cancelled = true
      }
    },
    async let(milliseconds) {
      const next = () => timers.next(`a timer of ${milliseconds} ms`)
      let timer = await next()
      while (timer.cancelled) timer = await next()
      assert.equal(timer.milliseconds, milliseconds)
      timer.callback()
    },
  }
}

/** Resolves to the process ids of the backends that wait for a lock of this type. */
async function waitingIn(client: Client, type: 'relation' | 'advisory'): Promise<number[]> {
  const { rows } = await client.query<{ pid: number }>(
    `select pid from pg_locks where locktype = $1 and not granted
     and database = (select oid from pg_database where datname = current_database())`,
    [type],
  )
  return rows.map(({ pid }) => pid)
}

async function asAdministrator(url: string, work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

function terminate(url: string, which: string): Promise<void> {
  return asAdministrator(url, async (client) => {
    const sql = `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'doorbell' and ${which}`
    const { rowCount } = await client.query(sql)
    assert.equal(rowCount, 1)
  })
}
