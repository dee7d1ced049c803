/**
 * An operator erases a user whom the application has not removed: the hook of the application still returns the user.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { UserHooks } from '../../src/index.ts'
import { auditOf } from '../support/audit.ts'
import { byCommand } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const tenMinutes = 10 * 60_000

for (const engine of engines) {
  describe(`a user whom the application still has is erased, on ${engine.name}`, () => {
    test('requests get unknown_user_id until the id is deleted, and no limit is reported', async (t) => {
      const stage = await scene(t, engine)
      await erase(stage)
      const atOnce = await stage.ring('kiosk')
      assert.deepEqual(
        [atOnce.status, atOnce.body.error, atOnce.headers.get('retry-after')],
        [429, 'access_denied', '1'],
      )
      assert.equal(
        atOnce.body.error_description,
        'the user was changed at about the time of the request; try again',
        'the node that received the request may have another clock',
      )
      stage.clock.advance(2 * 60_000)
      const later = await stage.ring('kiosk')
      assert.deepEqual([later.status, later.body.error], [400, 'unknown_user_id'])
      assert.ok(stage.logLines.some((line) => line.includes('user user-ana was locked, removed or erased')))
      assert.deepEqual(auditOf(stage, 'limit.reached'), [])

      stage.clock.advance(tenMinutes)
      await stage.doorbell.prune()
      assert.equal((await stage.ring('kiosk')).status, 200, 'the application decides who gets an id again')
    })

    test('these responses count for limits.perClient.unknownPerMinute', async (t) => {
      const stage = await scene(t, engine, { limits: { perClient: { unknownPerMinute: 2 } } })
      await erase(stage)
      stage.clock.advance(6_000)
      const statuses = [await stage.ring('kiosk'), await stage.ring('kiosk'), await stage.ring('kiosk')]
      assert.deepEqual(
        statuses.map(({ status }) => status),
        [400, 400, 429],
      )
    })

    test('a client that must not learn which users exist gets the same response as before', async (t) => {
      const stage = await scene(t, engine, { requests: { unknownUsers: 'pretend' } })
      const before = await stage.ring('kiosk')
      await erase(stage)
      const after = await stage.ring('kiosk')
      assert.deepEqual([after.status, Object.keys(after.body)], [before.status, Object.keys(before.body)])
      const open = "select user_id from backchannel_auth_requests where status = 'pending'"
      assert.match(String((await rowsOf(stage, open))[0]?.user_id), /^∅/, 'the request is about a decoy user')
    })
  })
}

function scene(t: TestContext, engine: Engine, config: object = {}): Promise<Stage> {
  const { password, ...person } = ana
  const users: UserHooks = { find: async () => person, findByHint: async () => person }
  return openStage(t, { engine, config: { users, ...config } })
}

const erase = (stage: Stage) => byCommand(stage, ({ endUser }) => endUser(ana.id, 'erased', { by: 'command' }))
