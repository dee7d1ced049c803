/**
 * A JSON column of a row is damaged. The server logs this once. A request whose details cannot be read cannot be
 * approved, but it ends like any other request. All other calls work as usual.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { withDatabase } from '../support/beside.ts'
import { byCommand } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

/** The events that end pending requests, each with the status that follows. */
const endings: Record<string, [status: string, end: (stage: Stage) => Promise<unknown>]> = {
  'its deadline passes': [
    'expired',
    async (stage) => {
      stage.clock.advance(600_000)
      assert.equal(await stage.doorbell.sweep(), 2)
    },
  ],
  'its user is locked': [
    'denied',
    (stage) => byCommand(stage, ({ endUser }) => endUser(ana.id, 'locked', { by: 'command' })),
  ],
  'its user blocks the client': [
    'denied',
    async (stage) => {
      const form = { client_id: 'kiosk', blocked: 'true' }
      assert.equal((await stage.post('/backchannel/block', form, await bearerOf(stage))).status, 200)
    },
  ],
}

for (const engine of engines) {
  describe(`a damaged JSON column, on ${engine.name}`, () => {
    test('of a request: it is listed, cannot be approved, and can be denied', async (t) => {
      const { stage, damaged, intact } = await twoRequests(t, engine)
      const authorization = await bearerOf(stage)
      const listed = async () => {
        const { body } = await stage.get('/backchannel/authinfo?status=pending', { authorization })
        return (body.requests as { request_id: string }[]).map(({ request_id }) => request_id).sort()
      }
      assert.deepEqual(await listed(), [damaged.id, intact.id].sort())
      for (const [id, status, expected] of [
        [damaged.id, 'approved', 404],
        [damaged.id, 'denied', 200],
        [intact.id, 'approved', 200],
      ] as const) {
        const answer = await stage.post('/backchannel/complete', { request_id: id, status }, authorization)
        assert.equal(answer.status, expected, answer.text)
      }
      assert.equal((await stage.poll('kiosk', damaged.authReqId)).body.error, 'access_denied')
      assert.equal((await stage.poll('kiosk', intact.authReqId)).status, 200)
      assert.equal(reports(stage, `backchannel_auth_requests/${damaged.id}`), 1)
    })

    for (const [how, [status, end]] of Object.entries(endings)) {
      test(`of a request: it ends when ${how}, together with another one`, async (t) => {
        const { stage } = await twoRequests(t, engine)
        await end(stage)
        const rows = await rowsOf(stage, 'select status from backchannel_auth_requests')
        assert.deepEqual(
          rows.map((row) => row.status),
          [status, status],
        )
      })
    }

    for (const column of ['approved_details', 'resources', 'claims']) {
      test(`of an approved request (${column}): no tokens are issued`, async (t) => {
        const { stage, intact } = await twoRequests(t, engine)
        await stage.decide(intact.id, 'approved')
        await damage(stage, 'backchannel_auth_requests', column, intact.id)
        assert.equal((await stage.poll('kiosk', intact.authReqId)).body.error, 'access_denied')
        assert.deepEqual(await rowsOf(stage, 'select * from oidc_models where request_id is not null'), [])
      })
    }

    test('of the history: everything is listed', async (t) => {
      const { stage, intact } = await twoRequests(t, engine)
      await stage.decide(intact.id, 'denied')
      const [row] = await rowsOf(stage, 'select id from backchannel_auth_consent_history')
      await damage(stage, 'backchannel_auth_consent_history', 'claims', String(row!.id))
      const { status, body } = await stage.get('/backchannel/activity', { authorization: await bearerOf(stage) })
      assert.equal(status, 200)
      assert.ok(JSON.stringify(body).includes(intact.id))
      assert.equal(reports(stage, `backchannel_auth_consent_history/${row!.id}`), 1)
    })

    test('of a client: it is unknown, also after a restart; other clients are served', async (t) => {
      const stage = await openStage(t, { engine })
      await damage(stage, 'clients', 'metadata', 'northbank')
      await stage.restart()
      const asked = { login_hint: 'ana', scope: 'openid' }
      assert.equal((await stage.post('/backchannel/authorize', asked, credentials.northbank)).status, 401)
      assert.equal((await stage.ring('kiosk')).status, 200)
      assert.equal(reports(stage, 'clients/northbank'), 1)
    })
  })
}

/** Two pending requests of Kiosk about Ana. The claims of the first one are damaged. */
async function twoRequests(t: TestContext, engine: Engine) {
  const stage = await openStage(t, { engine })
  const ring = async () => {
    stage.clock.advance(1)
    const authReqId = String((await stage.ring('kiosk')).body.auth_req_id)
    return { authReqId, id: await stage.newestRequest() }
  }
  const [damaged, intact] = [await ring(), await ring()]
  await damage(stage, 'backchannel_auth_requests', 'claims', damaged.id)
  return { stage, damaged, intact }
}

async function damage(stage: Stage, table: string, column: string, id: string): Promise<void> {
  const sql = `update ${table} set ${column} = '{"half' where id = $1 returning id`
  await withDatabase(stage, async (database) => {
    assert.equal((await database.step({ sql, values: [id] })).length, 1)
  })
}

/** How often the log says that a value cannot be read. */
function reports(stage: Stage, place: string): number {
  return stage.logLines
    .map((line) => JSON.parse(line) as { event?: string; place?: string })
    .filter((line) => line.event === 'storage.unreadable' && line.place === place).length
}
