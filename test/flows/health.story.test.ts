/** Health checks. Any caller may use them at any rate, so they cost almost nothing and reveal no numbers. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

/** A server whose database calls can be held at a barrier, and are counted there. */
async function watched(t: TestContext, engine: Engine) {
  const gate = createGate()
  const asked: string[] = []
  const stage = await openStage(t, {
    engine,
    parts: {
      workers: false,
      async openDatabase(url, surroundings) {
        const database = await openDatabase(url, surroundings)
        return {
          ...database,
          listening: true,
          async read(sql, values) {
            asked.push(sql)
            await gate.pass()
            return database.read(sql, values)
          },
          async writable() {
            asked.push('whether it takes changes')
            await gate.pass()
            return database.writable()
          },
        }
      },
    },
  })
  let arrived = 0
  const front = createServer((request, response) => {
    arrived += 1
    stage.doorbell.handler(request, response)
  })
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', 1024, resolve))
  t.after(() => {
    gate.release()
    front.closeAllConnections()
    front.close()
  })
  const { port } = front.address() as { port: number }
  asked.length = 0
  return {
    stage,
    gate,
    /** The statements that have read from the database since the server started. */
    asked,
    /**
     * Sends this many calls at once. Resolves when all of them wait for the database. `answers` resolves when they are
     * answered.
     */
    async call(path: string, callers: number) {
      const before = arrived
      const answers = Promise.all(Array.from({ length: callers }, () => fetch(`http://127.0.0.1:${port}${path}`)))
      await until(() => arrived === before + callers)
      for (let turn = 0; turn < 20; turn++) await nextTurn()
      return { answers }
    },
  }
}

for (const engine of engines) {
  describe(`health, on ${engine.name}`, () => {
    for (const callers of [50, 500]) {
      test(`${callers} readiness checks at once share one statement`, async (t) => {
        const { gate, asked, call } = await watched(t, engine)
        gate.hold()
        const { answers } = await call('/health/ready', callers)
        await gate.waiting(1)
        assert.equal(asked.length, 1)
        gate.release()
        assert.deepEqual([...new Set((await answers).map(({ status }) => status))], [200])
        assert.equal(asked.length, 1)
      })

      test(`${callers} reads of the metrics at once, and again soon after, make the database count once`, async (t) => {
        const { stage, gate, asked, call } = await watched(t, engine)
        gate.hold()
        const { answers } = await call('/metrics', callers)
        gate.release()
        assert.deepEqual([...new Set((await answers).map(({ status }) => status))], [200])
        await (await call('/metrics', callers)).answers
        const counting = () => asked.filter((sql) => sql.includes('count('))
        assert.equal(counting().length, 2, 'of requests, and of notifications')
        stage.clock.advance(10_000)
        await (await call('/metrics', 1)).answers
        assert.equal(counting().length, 4)
      })
    }

    test('readiness is checked without reading a table, and unauthenticated callers get no numbers', async (t) => {
      const { stage, asked } = await watched(t, engine)
      await stage.ring('kiosk')
      asked.length = 0
      const { status, body } = await stage.get('/health/ready')
      assert.equal(status, 200)
      assert.deepEqual(body, { status: 'ready', database: engine.name, hearing_changes: true })
      assert.deepEqual(asked, ['whether it takes changes'])
    })

    test('checks and reads of the metrics are logged at debug only, unless readiness changes', async (t) => {
      const { stage, gate, call } = await watched(t, engine)
      const answered = () =>
        stage.logLines
          .splice(0)
          .map((line) => JSON.parse(line))
          .filter(({ msg }) => msg === 'answered')
          .map(({ level, route, status }) => [level, route, status])
      answered()
      for (const path of ['/health/live', '/health/ready', '/health/ready', '/metrics']) await stage.get(path)
      assert.deepEqual(answered(), [
        [20, '/health/live', 200],
        [30, '/health/ready', 200],
        [20, '/health/ready', 200],
        [20, '/metrics', 200],
      ])
      gate.hold()
      const { answers } = await call('/health/ready', 2)
      stage.clock.advance(2_000)
      await answers
      gate.release()
      for (let check = 0; check < 2; check += 1) await stage.get('/health/ready')
      assert.deepEqual(answered(), [
        [30, '/health/ready', 503],
        [20, '/health/ready', 503],
        [30, '/health/ready', 200],
        [20, '/health/ready', 200],
      ])
    })

    test('a database that is silent for two seconds counts as unavailable, and later checks ask it again', async (t) => {
      const { stage, gate, asked, call } = await watched(t, engine)
      gate.hold()
      const { answers } = await call('/health/ready', 50)
      stage.clock.advance(2_000)
      for (const { status, headers } of await answers) {
        assert.deepEqual([status, headers.get('retry-after')], [503, '1'])
      }
      assert.equal(asked.length, 1)
      gate.release()
      assert.equal((await stage.get('/health/ready')).status, 200)
      assert.equal(asked.length, 2)
    })
  })
}
