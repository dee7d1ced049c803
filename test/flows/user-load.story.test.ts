/** The cost of one user's calls: a fixed number of statements for each call, and a limited number of calls at once. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { mostOfOneUser } from '../../src/authentication-device/api/user-shares.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  describe(`calls of one user, on ${engine.name}`, () => {
    for (const path of ['/backchannel/activity', '/backchannel/authinfo']) {
      test(`${path} takes as many reads for twenty entries as for one, one after the other`, async (t) => {
        const { stage, reads } = await openCounted(t, engine)
        const anas = await bearerOf(stage)
        const readsOfOneCall = async () => {
          await stage.doorbell.idle()
          reads.count = 0
          reads.mostAtOnce = 0
          const { status, body } = await stage.get(path, { authorization: anas })
          assert.equal(status, 200)
          const entries = Object.values(body)[0] as unknown[]
          return { entries: entries.length, count: reads.count, mostAtOnce: reads.mostAtOnce }
        }
        const decideOne = async () => {
          await stage.ring('kiosk')
          await stage.decide(await stage.newestRequest(), 'denied')
        }
        await decideOne()
        const withOne = await readsOfOneCall()
        for (let more = 0; more < 19; more++) await decideOne()
        const withTwenty = await readsOfOneCall()
        assert.deepEqual([withOne.entries, withTwenty.entries], [1, 20])
        assert.ok(withTwenty.count <= withOne.count, `${withTwenty.count} reads instead of ${withOne.count}`)
        assert.equal(withTwenty.mostAtOnce, 1)
      })
    }

    for (const [path, form] of [
      ['/backchannel/authinfo', undefined],
      ['/backchannel/activity', undefined],
      ['/backchannel/passkeys', undefined],
      ['/backchannel/sessions', undefined],
      ['/backchannel/complete', { request_id: 'unknown', status: 'denied' }],
    ] as const) {
      test(`${path}: the calls of one user at once are limited, further ones get 503, and other users are served`, async (t) => {
        const { stage, reads } = await openCounted(t, engine)
        const [anas, bens] = [await bearerOf(stage, ana), await bearerOf(stage, ben)]
        const call = (authorization: string) =>
          form === undefined ? stage.get(path, { authorization }) : stage.post(path, form, authorization)
        const expected = (await call(anas)).status
        reads.hold()
        const calls = Array.from({ length: mostOfOneUser * 10 }, () => call(anas))
        const refused: number[] = []
        for (const one of calls) void one.then(({ status }) => refused.push(status))
        await until(() => refused.length === mostOfOneUser * 9)
        assert.deepEqual(new Set(refused), new Set([503]))
        assert.equal(reads.held(), mostOfOneUser)
        reads.release()
        assert.equal((await call(bens)).status, expected)
        assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200)
        const served = (await Promise.all(calls)).filter(({ status }) => status === expected)
        assert.equal(served.length, mostOfOneUser)
        assert.equal((await call(anas)).status, expected, 'afterwards the user is served again')
      })
    }
    test('several tokens of one user share the limit', async (t) => {
      const { stage, reads } = await openCounted(t, engine)
      const tokens = [await bearerOf(stage), await bearerOf(stage)]
      const call = (authorization: string) => stage.get('/backchannel/activity', { authorization })
      // The reads of the token and the user are answered. The read after them waits.
      reads.hold(/from backchannel_auth_consent_history/)
      const half = mostOfOneUser - 1
      const calls = tokens.flatMap((token) => Array.from({ length: half }, () => call(token)))
      const answered: number[] = []
      for (const one of calls) void one.then(({ status }) => answered.push(status))
      await until(() => answered.length + reads.held() === half * 2)
      assert.deepEqual(answered, Array(half * 2 - mostOfOneUser).fill(503))
      reads.release()
      await Promise.all(calls)
    })
  })
}

/** Counts the reads of the database, and holds them up. */
async function openCounted(t: TestContext, engine: Engine) {
  let gate: PromiseWithResolvers<void> | undefined
  let held = 0
  let heldOnly = /./
  let underWay = 0
  const reads = {
    count: 0,
    mostAtOnce: 0,
    /** @param only the reads that are held up; by default, all */
    hold(only = /./) {
      gate = Promise.withResolvers()
      heldOnly = only
    },
    held: () => held,
    release: () => gate!.resolve(),
  }
  const opened: typeof openDatabase = async (...about) => {
    const database = await openDatabase(...about)
    const { read } = database
    database.read = async (sql, values) => {
      reads.count += 1
      reads.mostAtOnce = Math.max(reads.mostAtOnce, ++underWay)
      try {
        if (heldOnly.test(sql)) {
          held += 1
          await gate?.promise
          held -= 1
        }
        return await read(sql, values)
      } finally {
        underWay -= 1
      }
    }
    return database
  }
  return { stage: await openStage(t, { engine, parts: { openDatabase: opened } }), reads }
}
