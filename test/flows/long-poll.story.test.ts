/** Long polling (CIBA §10.1): a poll is held until there is a result. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { createRequestStore } from '../../src/ciba/authentication-request/authentication-request-store.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { playedBy, refusalOf } from '../support/foreign-client.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  describe(`a poll is held, on ${engine.name}`, () => {
    for (const [status, expected] of [
      ['approved', undefined],
      ['denied', 'access_denied'],
    ] as const) {
      test(`and answered as soon as Ana has ${status} (TK-6)`, async (t) => {
        const { stage, sendRequest, holds } = await patient(t, engine)
        const poll = await sendRequest()
        const answer = poll()
        await holds(1)
        await stage.decide(await stage.newestRequest(), status)
        const { status: code, body } = await answer
        assert.deepEqual([code, body.error], [expected === undefined ? 200 : 400, expected])
        if (expected === undefined) assert.ok(body.access_token && body.id_token)
        await holds(0)
      })
    }

    test('for no longer than the limit (TK-6)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const poll = await sendRequest()
      const answer = poll()
      await holds(1)
      stage.clock.advance(19_000)
      await holds(1)
      stage.clock.advance(1_000)
      assert.equal((await answer).body.error, 'authorization_pending')
    })

    test('for no longer than 25 seconds, so that openid-client gets its answer; a longer setting is named at the start', async (t) => {
      for (const [given, seconds] of [
        [10, 10],
        [25, 25],
        [26, 25],
        [30, 25],
        [60, 25],
        [3600, 25],
      ] as const) {
        const { stage, holds } = await patient(t, engine, { longPoll: given })
        const { auth_req_id } = (await stage.ring('kiosk')).body
        const client = await playedBy(stage, 'kiosk')
        const answer = refusalOf(openid.genericGrantRequest(client, CIBA, { auth_req_id: String(auth_req_id) }))
        await holds(1)
        stage.clock.advance(seconds * 1000 - 1_000)
        await holds(1)
        stage.clock.advance(1_000)
        await holds(0)
        assert.deepEqual(await answer, { error: 'authorization_pending', status: 400 })
        const warnings = stage.logLines
          .map((line) => JSON.parse(line))
          .filter(({ event }) => event === 'config.shortened')
        const named = warnings.map(({ level, setting, given, used }) => [level, setting, given, used])
        assert.deepEqual(named, given > 25 ? [[40, 'requests.longPoll', given, 25]] : [])
      }
    })

    test('a poll that was held for longer than the interval may be followed by another at once (TK-4, TK-7)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const poll = await sendRequest()
      for (let number = 0; number < 3; number++) {
        const answer = poll()
        await holds(1)
        stage.clock.advance(20_000)
        assert.equal((await answer).body.error, 'authorization_pending')
      }
      const [row] = await rowsOf(stage, 'select interval_seconds from backchannel_auth_requests')
      assert.equal(row!.interval_seconds, 5)
    })

    test('a second poll that is too early gets slow_down, one in time replaces the first, and tokens are issued once (TK-16)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const poll = await sendRequest()
      const first = poll()
      await holds(1)
      assert.equal((await poll()).body.error, 'slow_down')
      await holds(1)
      stage.clock.advance(10_000)
      const second = poll()
      assert.equal((await first).body.error, 'authorization_pending')
      await holds(1)
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.ok((await second).body.access_token)
    })

    test('until the request expires, and is answered then (TK-17)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const poll = await sendRequest({ requested_expiry: '10' })
      const answer = poll()
      await holds(1)
      stage.clock.advance(10_250)
      assert.equal((await answer).body.error, 'expired_token')
    })

    test('until its client hangs up: that uses nothing up, and the client can poll again (TK-17)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const poll = await sendRequest()
      const leaving = new AbortController()
      const gone = assert.rejects(poll(leaving.signal), { name: 'AbortError' })
      await holds(1)
      leaving.abort()
      await gone
      await holds(0)
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.ok((await poll()).body.access_token)
    })

    test('until the server stops: then all are answered (TK-17)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const polls = await Promise.all([sendRequest(), sendRequest()])
      const answers = polls.map((poll) => poll())
      await holds(2)
      await stage.restart()
      for (const { body, connection } of await Promise.all(answers)) {
        assert.equal(body.error, 'authorization_pending')
        // If this poll were held, it would keep the server from ending.
        assert.equal(connection, 'close')
      }
    })

    test('up to a maximum; further polls are answered at once (TK-17)', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine, { maxHeldPolls: 1 })
      const [one, other] = [await sendRequest(), await sendRequest()]
      const held = one()
      await holds(1)
      assert.equal((await other()).body.error, 'authorization_pending')
      stage.clock.advance(20_000)
      await held
    })

    test('but not if its body is long, because a held poll keeps its body', async (t) => {
      const { stage, holds } = await patient(t, engine)
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const form = { grant_type: CIBA, auth_req_id: String(auth_req_id), more: 'x'.repeat(8 * 1024) }
      const { body } = await stage.post('/oauth/token', form, credentials.kiosk)
      assert.equal(body.error, 'authorization_pending')
      await holds(0)
    })

    test("but not for another client's request (TE-2)", async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      await sendRequest()
      assert.equal((await stage.poll('northbank', 'unknown')).body.error, 'invalid_grant')
      await holds(0)
    })

    test('and answered after a decision of another process', async (t) => {
      const { stage, sendRequest, holds } = await patient(t, engine)
      const poll = await sendRequest()
      const answer = poll()
      await holds(1)
      const request = await stage.newestRequest()
      const elsewhere = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
      await createRequestStore(elsewhere).settle(request, {
        userId: 'user-ana',
        outcome: 'denied',
        settledBy: 'x',
        now: stage.clock.now(),
        authentication: {},
      })
      await elsewhere.close()
      // On SQLite, other processes cannot notify the server. So it checks held polls four times a second.
      stage.clock.advance(250)
      assert.equal((await answer).body.error, 'access_denied')
    })
  })
}

describe('on two nodes', () => {
  const postgres = engines.find(({ name }) => name === 'postgres')!

  test('Ana decides at one, and the poll that the other holds is answered', async (t) => {
    const { stage, sendRequest, holds, options } = await patient(t, postgres)
    const other = await openNeighbour(t, stage, options)
    const poll = await sendRequest()
    const answer = poll()
    await holds(1)
    const decision = { login_hint: 'ana', request_id: await stage.newestRequest(), status: 'approved' }
    assert.equal((await other.post('/backchannel/complete', decision, credentials.phoneService)).status, 200)
    assert.ok((await answer).body.access_token)
  })

  test('a decision while announcements are interrupted is found when they work again', async (t) => {
    let database: Awaited<ReturnType<typeof openDatabase>> | undefined
    const open = async (...asked: Parameters<typeof openDatabase>) => {
      database = await openDatabase(...asked)
      return database
    }
    const { stage, sendRequest, holds, options } = await patient(t, postgres, {}, { openDatabase: open })
    const other = await openNeighbour(t, stage, options)
    const polls = [await sendRequest(), await sendRequest()]
    const answers = polls.map((poll) => poll())
    await holds(2)
    const request = await stage.newestRequest()
    await rowsOf(
      stage,
      `select pg_terminate_backend(pid) as cut from pg_stat_activity
       where datname = current_database() and application_name = 'doorbell' and query like 'listen%'`,
    ).catch(() => undefined)
    await until(() => database?.listening === false)
    const decision = { login_hint: 'ana', request_id: request, status: 'denied' }
    assert.equal((await other.post('/backchannel/complete', decision, credentials.phoneService)).status, 200)
    stage.clock.advance(100)
    assert.equal((await answers[1]!).body.error, 'access_denied')
    await holds(1)
    stage.clock.advance(20_000)
    assert.equal((await answers[0]!).body.error, 'authorization_pending')
  })
})

async function patient(t: TestContext, engine: Engine, requests = {}, parts = {}) {
  const options = { config: { requests: { longPoll: 20, ...requests } } }
  const stage = await openStage(t, { engine, ...options, parts })

  return {
    stage,
    options,
    /** Sends a request. Returns a function that polls for its result. */
    async sendRequest(parameters = {}) {
      const { auth_req_id } = (await stage.ring('kiosk', parameters)).body
      return (signal?: AbortSignal) => poll(stage, auth_req_id, signal)
    },
    async holds(count: number) {
      await until(async () => (await stage.get('/metrics')).text.includes(`doorbell_polls_held ${count}\n`))
    },
  }
}

async function poll({ url }: Stage, authReqId: unknown, signal?: AbortSignal) {
  const response = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    headers: { authorization: credentials.kiosk },
    body: new URLSearchParams({ grant_type: CIBA, auth_req_id: String(authReqId) }),
    ...(signal && { signal }),
  })
  return {
    status: response.status,
    connection: response.headers.get('connection'),
    body: (await response.json()) as Record<string, unknown>,
  }
}
