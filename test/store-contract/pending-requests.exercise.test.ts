/** When a node answers polls of pending requests from memory, and when it asks the database. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import type { Settlement } from '../../src/ciba/authentication-request/request-move-store.ts'
import { createPendingRequests } from '../../src/ciba/token-endpoint/poll-cache.ts'
import { createKnownClients } from '../../src/client/client-cache.ts'
import { createClientStore } from '../../src/client/client-store.ts'
import { type Clock, steadyTime } from '../../src/platform/clock.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import type { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { allRows, furnished, newRequest } from '../support/rows.ts'
import { credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { createWires } from '../support/wires.ts'

for (const engine of engines) {
  describe(`requests known to be pending, on ${engine.name}`, () => {
    test('the first poll reads the table, the others the memory; the answers are the same', async (t) => {
      const { clock, calls, polling, awake } = await memory(t, engine)
      const poll = await polling('a')
      assert.deepEqual([await poll(), calls()], ['authorization_pending', 1])
      clock.advance(4_499)
      await awake()
      const before = calls()
      assert.equal(await poll(), 'slow_down')
      clock.advance(10_000)
      await awake()
      assert.equal(await poll(), 'authorization_pending')
      assert.equal(calls(), before)
    })

    test('the next poll finds a decision, however early it comes (TK-15)', async (t) => {
      const { clock, one, polling } = await memory(t, engine)
      const poll = await polling('a')
      for (const expected of ['authorization_pending', 'slow_down']) assert.equal(await poll(), expected)
      await one.requests.settle('a', yes(clock.now()))
      assert.equal(await poll(), 'approved')
    })

    test('a decision that another process wrote is found as well', async (t) => {
      const { clock, other, polling, heard } = await memory(t, engine)
      const poll = await polling('a')
      for (const expected of ['authorization_pending', 'slow_down']) assert.equal(await poll(), expected)
      heard.length = 0
      await other.requests.settle('a', yes(clock.now()))
      if (engine.name === 'postgres') await until(() => heard.includes('a'))
      assert.equal(await poll(), 'approved')
    })

    test('for ping clients the table is read each time: the ping may be faster than the announcement (PI-1)', async (t) => {
      const { clock, one, other, polling, pending, database } = await memory(t, engine)
      const poll = await polling('a', 'ping')
      for (const expected of ['authorization_pending', 'slow_down']) assert.equal(await poll(), expected)
      assert.equal(pending.isKnown('a'), false)
      const [row] = await allRows(one.database, 'backchannel_auth_requests')
      assert.deepEqual([row!.interval_seconds, row!.last_polled_at], [10, clock.now()])
      // The test does not wait for the announcement.
      await other.requests.settle('a', yes(clock.now()))
      assert.ok(database.epoch !== undefined)
      assert.equal(await poll(), 'approved')
    })

    test('no request is pending at its deadline (M42)', async (t) => {
      const { clock, polling } = await memory(t, engine)
      const poll = await polling('a')
      assert.equal(await poll(), 'authorization_pending')
      clock.advance(600_000)
      assert.equal(await poll(), 'expired')
    })

    test("for other clients it is unknown, and their polls don't count (TE-2)", async (t) => {
      const { polling, pending, clock } = await memory(t, engine)
      const poll = await polling('a')
      await poll()
      assert.equal(pending.recall('a', 'northbank', arrivalAt(clock)), undefined)
      assert.equal(await pending.poll('a', 'northbank', arrivalAt(clock)), undefined)
      clock.advance(5_000)
      assert.equal(await poll(), 'authorization_pending')
    })

    test('after a change of its client it is read again, after changes of other clients it is not', async (t) => {
      const { clock, one, polling, calls, awake } = await memory(t, engine)
      const poll = await polling('a')
      const announce = (client: string) =>
        one.database.step({ sql: 'select 1 as one', values: [] }, { announce: [{ topic: 'client', key: client }] })
      const readsAfter = async (change: () => Promise<unknown>) => {
        await change()
        clock.advance(6_000)
        await awake()
        const before = calls()
        assert.equal(await poll(), 'authorization_pending')
        return calls() - before
      }
      assert.equal(await poll(), 'authorization_pending')
      assert.equal(await readsAfter(() => announce('northbank')), 0)
      assert.equal(await readsAfter(() => announce('kiosk')), 1)
      assert.equal(await readsAfter(async () => {}), 0)
      for (let number = 0; number < 30; number++) await announce(`client-${number}`)
      assert.equal(await readsAfter(() => announce('till')), 0)
      assert.equal(await readsAfter(() => announce('')), 1, 'announcements may have been missed')
    })

    test('a request that changes while it is being read is not cached', async (t) => {
      const { clock, one, pending } = await memory(t, engine)
      await one.requests.accept(newRequest(clock.now(), { id: 'a' }), 'a', many)
      const poll = pending.poll('a', 'kiosk', arrivalAt(clock))
      await Promise.all([poll, one.requests.settle('a', yes(clock.now()))])
      assert.equal(pending.recall('a', 'kiosk', arrivalAt(clock)), undefined)
      assert.equal((await pending.poll('a', 'kiosk', arrivalAt(clock)))?.request.status, 'approved')
    })

    test('a longer interval is written within a second, the last poll at the end (TE-1)', async (t) => {
      const { clock, polling, pending, other, awake } = await memory(t, engine)
      const poll = await polling('a')
      await poll()
      for (let number = 0; number < 3; number++) assert.equal(await poll(), 'slow_down')
      const start = clock.now()
      clock.advance(1_000)
      await until(async () => (await other.requests.find('a'))?.interval === 20)
      clock.advance(30_000)
      await awake()
      assert.equal(await poll(), 'authorization_pending')
      await pending.close()
      const [row] = await allRows(other.database, 'backchannel_auth_requests', "id = 'a'")
      assert.deepEqual([row!.interval_seconds, row!.last_polled_at], [20, start + 31_000])
    })

    test('a late announcement does not make a poll forgotten (TE-1)', async (t) => {
      const { clock, polling, other, heard } = await memory(t, engine)
      const poll = await polling('a')
      assert.equal(await poll(), 'authorization_pending')
      heard.length = 0
      const asItWas = 'update backchannel_auth_requests set scope = scope where id = $1 returning id'
      await other.database.step({ sql: asItWas, values: ['a'] }, { announce: [{ topic: 'request', key: 'a' }] })
      if (engine.name === 'postgres') await until(() => heard.includes('a'))
      clock.advance(4_499)
      assert.equal(await poll(), 'slow_down')
    })

    test('if the table cannot be written, it is written later, and nothing counts twice', async (t) => {
      const { polling, pending, one, other, log } = await memory(t, engine)
      const poll = await polling('a')
      await poll()
      assert.equal(await poll(), 'slow_down')
      const { keepPolls } = one.requests
      one.requests.keepPolls = () => Promise.reject(new Error('the table is away'))
      await pending.flush()
      assert.match(log(), /polls\.not_written/)
      assert.equal((await other.requests.find('a'))?.interval, 5)
      one.requests.keepPolls = keepPolls
      await pending.flush()
      await pending.flush()
      assert.equal((await other.requests.find('a'))?.interval, 10)
    })

    test('memory is limited: the request that was polled least recently is dropped, and read again later', async (t) => {
      const { clock, one, polling } = await memory(t, engine)
      const small = createPendingRequests({
        requests: one.requests,
        database: one.database,
        clock,
        log: one.needs.log,
        most: 2,
      })
      for (const id of ['a', 'b', 'c']) {
        await polling(id)
        await small.poll(id, 'kiosk', arrivalAt(clock))
      }
      const known = () => ['a', 'b', 'c'].map((id) => small.recall(id, 'kiosk', arrivalAt(clock))?.answer)
      assert.deepEqual(known(), [undefined, 'slow_down', 'slow_down'])
      await small.poll('a', 'kiosk', arrivalAt(clock))
      assert.equal(known().filter((answer) => answer === undefined).length, 1)
      // The interval of the dropped request had grown. The new interval is written although the request was dropped.
      await small.close()
      for (const id of ['b', 'c']) assert.ok((await one.requests.find(id))!.interval >= 10)
    })

    test('a changed client is read again at once; a change without an announcement is found after five seconds', async (t) => {
      const { clock, one, database, calls } = await memory(t, engine)
      const store = createClientStore(database)
      const clients = createKnownClients(store, { database, clock })
      const kiosk = { id: 'kiosk', deliveryMode: 'ping' as const, notificationEndpoint: 'https://a.example' }
      const unsaid = { secretHash: undefined, secretSealed: undefined }
      await store.add({ ...kiosk, ...unsaid, metadata: { client_id: 'kiosk' } as never }, clock.now())
      const mode = async () => (await clients.find('kiosk'))?.notificationEndpoint
      assert.equal(await mode(), 'https://a.example')
      const before = calls()
      assert.equal(await mode(), 'https://a.example')
      assert.equal(calls(), before, 'from memory')
      await store.changeDelivery({ id: 'kiosk' }, 'ping', 'https://b.example', clock.now())
      assert.equal(await mode(), 'https://b.example')
      const unheard = { sql: "update clients set notification_endpoint = 'https://c.example'", values: [] }
      await one.database.step(unheard)
      clock.setBack(3_600_000)
      clock.advance(5_000)
      await until(() => database.epoch !== undefined)
      assert.equal(await mode(), 'https://c.example')
    })
  })
}

describe('several nodes', () => {
  const postgres = engines.find(({ name }) => name === 'postgres')!

  test('Ana decides at another node: this one drops her request from memory', async (t) => {
    const wires = createWires()
    const { stage, other, heard } = await twoNodes(t, wires.open)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const poll = async () => (await stage.poll('kiosk', auth_req_id)).body
    assert.equal((await poll()).error, 'authorization_pending')
    const before = wires.calls
    assert.equal((await poll()).error, 'slow_down')
    assert.equal(wires.calls, before, 'from memory: nothing was asked of the database')

    const request = await stage.newestRequest()
    heard.length = 0
    const decision = { login_hint: 'ana', request_id: request, status: 'approved' }
    assert.equal((await other.post('/backchannel/complete', decision, credentials.phoneService)).status, 200)
    await until(() => heard.includes(request))
    assert.ok((await poll()).access_token)
  })

  test('while announcements do not reach a node, it uses nothing from memory', async (t) => {
    const wires = createWires()
    const { stage, other, database } = await twoNodes(t, wires.open)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const poll = async () => (await stage.poll('kiosk', auth_req_id)).body
    await poll()
    assert.equal((await poll()).error, 'slow_down') // now 10, in memory only

    await cutSubscriptions(stage)
    await until(() => !database().listening)
    assert.equal(database().epoch, undefined)
    stage.clock.advance(50)
    const before = wires.calls
    assert.equal((await poll()).error, 'slow_down') // now 15
    assert.ok(wires.calls > before, 'the table was asked')
    const [row] = await rowsOf(stage, 'select interval_seconds from backchannel_auth_requests')
    assert.equal(row!.interval_seconds, 15, 'what was in memory was written with it')

    const request = await stage.newestRequest()
    const decision = { login_hint: 'ana', request_id: request, status: 'approved' }
    assert.equal((await other.post('/backchannel/complete', decision, credentials.phoneService)).status, 200)
    assert.ok((await poll()).access_token, 'the decision is found without an announcement')
  })

  test('what was in memory before the gap is read again after it', async (t) => {
    const wires = createWires()
    const { stage, database } = await twoNodes(t, wires.open)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const poll = async () => (await stage.poll('kiosk', auth_req_id)).body.error
    await poll()
    await cutSubscriptions(stage)
    await until(() => !database().listening)
    stage.clock.advance(100)
    await until(() => database().listening)
    const asked = async () => {
      const before = wires.calls
      assert.equal(await poll(), 'slow_down')
      return wires.calls - before
    }
    await asked()
    assert.equal(await asked(), 0, 'known again')
  })

  test('a subscription without a sign of life for four seconds is not trusted', async (t) => {
    const { one, clock } = await furnished(t, postgres)
    assert.notEqual(one.database.epoch, undefined)
    // The jump is like a pause of the whole process: no timer has run, and no answer has arrived.
    clock.advance(4_001)
    assert.equal(one.database.epoch, undefined)
    await until(() => one.database.epoch !== undefined)
  })
})

const many = { maxOpenPerUser: 1000 }

const arrivalAt = (clock: Clock) => ({ at: clock.now(), steadyAt: steadyTime(clock) })

const yes = (now: number): Settlement => ({
  userId: 'user-ana',
  outcome: 'approved',
  settledBy: 'somebody',
  now,
  authentication: {},
})

/** Opens a node with a memory of pending requests, and another node that writes to the same tables. */
async function memory(t: TestContext, engine: Engine) {
  const { clock, one, other, logLines } = await furnished(t, engine, { count: 2 })
  const heard: string[] = []
  let calls = 0
  const database: Database = {
    ...one.database,
    get epoch() {
      return one.database.epoch
    },
    get clockOffset() {
      return one.database.clockOffset
    },
    read: (...asked) => {
      calls += 1
      return one.database.read(...asked)
    },
  }
  const requests = one.requests
  const counted = {
    poll: (...asked: Parameters<typeof requests.poll>) => {
      calls += 1
      return requests.poll(...asked)
    },
    findPolled: (...asked: Parameters<typeof requests.findPolled>) => {
      calls += 1
      return requests.findPolled(...asked)
    },
    keepPolls: (...asked: Parameters<typeof requests.keepPolls>) => requests.keepPolls(...asked),
  }
  const pending = createPendingRequests({ requests: counted, database, clock, log: one.needs.log })
  one.database.listen('request', (key) => heard.push(key))

  async function polling(id: string, deliveryMode: 'poll' | 'ping' = 'poll') {
    const request = newRequest(clock.now(), { id, clientId: 'kiosk', deliveryMode, expiresAt: clock.now() + 600_000 })
    await requests.accept(request, id, many)
    return async () => {
      const arrival = arrivalAt(clock)
      const remembered = pending.recall(id, 'kiosk', arrival)
      if (remembered) return remembered.answer
      const poll = (await pending.poll(id, 'kiosk', arrival))!
      if (poll.request.status !== 'pending') return poll.request.status
      if (arrival.at >= poll.request.expiresAt) return 'expired'
      return poll.tooEarly ? 'slow_down' : 'authorization_pending'
    }
  }

  /** After the clock has jumped, waits until the subscription shows a sign of life at the new time. */
  const awake = () => until(() => one.database.epoch !== undefined)
  const log = () => logLines.join('\n')
  return { clock, one, other, database, pending, polling, heard, awake, calls: () => calls, log }
}

async function twoNodes(t: TestContext, open: typeof openDatabase) {
  const postgres = engines.find(({ name }) => name === 'postgres')!
  const heard: string[] = []
  let database: Database | undefined
  const parts = {
    workers: false,
    async openDatabase(...asked: Parameters<typeof openDatabase>) {
      database = await open(...asked)
      database.listen('request', (key) => heard.push(key))
      return database
    },
  }
  const stage = await openStage(t, { engine: postgres, parts })
  const other = await openNeighbour(t, stage, {}, { workers: false })
  return { stage, other, heard, database: () => database! }
}

async function cutSubscriptions(stage: Stage): Promise<void> {
  const client = new Client({ connectionString: stage.database })
  await client.connect()
  await client.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'doorbell' and query like 'listen%'`)
  await client.end()
}
