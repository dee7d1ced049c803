/**
 * An application removes or disables a user without calling `users.end`. Clients learn of it before the request
 * expires.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { User, UserHooks } from '../../src/index.ts'
import { auditOf } from '../support/audit.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  describe(`users of an application, on ${engine.name}`, () => {
    for (const [how, gone, reason] of [
      ['removed', null, 'user_removed'],
      ['disabled', { id: 'user-ana', disabled: true }, 'user_locked'],
    ] as const) {
      test(`pending requests of a user who is ${how} are denied within 30 seconds, by poll, ping and push`, async (t) => {
        const { stage, people, endpoint } = await scene(t, engine)
        const polled = (await stage.ring('kiosk')).body
        for (const client of ['northbank', 'till'] as const) await stage.ring(client)
        const bens = (await stage.ring('kiosk', { login_hint: 'ben' })).body
        assert.equal(await stage.doorbell.sweep(), 0, 'while the user is there, nothing happens')

        people.set('user-ana', gone)
        stage.clock.advance(30_000)
        const told = await endpoint.hears(2)
        assert.equal(told.find(({ body }) => 'error' in body)?.body.error, 'access_denied')
        assert.equal((await stage.poll('kiosk', polled.auth_req_id)).body.error, 'access_denied')
        assert.equal((await stage.poll('kiosk', bens.auth_req_id)).body.error, 'authorization_pending')
        const history = await rowsOf(stage, 'select outcome, decided_by, reason from backchannel_auth_consent_history')
        assert.deepEqual(history, Array(3).fill({ outcome: 'denied', decided_by: 'application', reason }))
        assert.equal(auditOf(stage, 'request.denied').length, 3)
        assert.equal(await stage.doorbell.sweep(), 0, 'nothing is denied twice')
      })
    }

    test('a request that is sent while the hook is asked stays, because the user may have been added again', async (t) => {
      const { stage, people, asked } = await scene(t, engine)
      const before = (await stage.ring('kiosk')).body
      await stage.doorbell.idle()
      const answer = Promise.withResolvers<null>()
      people.set('user-ana', answer.promise)
      asked.length = 0
      const sweep = stage.doorbell.sweep()
      await until(() => asked.length >= 1)
      people.delete('user-ana')
      const after = (await stage.ring('kiosk')).body
      answer.resolve(null)
      assert.equal(await sweep, 1)
      assert.equal((await stage.poll('kiosk', before.auth_req_id)).body.error, 'access_denied')
      assert.equal((await stage.poll('kiosk', after.auth_req_id)).body.error, 'authorization_pending')
    })

    test('a hook that fails or is silent denies nothing, and does not hold up the others', async (t) => {
      const { stage, people, asked } = await scene(t, engine)
      for (const name of ['ana', 'ben', 'cleo']) await stage.ring('kiosk', { login_hint: name })
      await stage.doorbell.idle()
      people.set('user-ana', new Error('the directory is away'))
      people.set('user-ben', 'silence')
      people.set('user-cleo', null)
      asked.length = 0
      const sweep = stage.doorbell.sweep()
      await until(() => asked.length >= 3)
      stage.clock.advance(10_000)
      assert.equal(await sweep, 1)
      const rows = await rowsOf(stage, 'select user_id, status from backchannel_auth_requests order by user_id')
      assert.deepEqual(
        rows.map(({ user_id, status }) => `${user_id} ${status}`),
        ['user-ana pending', 'user-ben pending', 'user-cleo denied'],
      )
    })
  })
}

type Found = User | null | Error | 'silence' | Promise<null>

/** @returns `people`: the users that the hook resolves to; `asked`: the ids that the hook was called with */
async function scene(t: TestContext, engine: Engine) {
  const people = new Map<string, Found>()
  const asked: string[] = []
  const there = (name: string): User => ({ id: `user-${name}`, email: `${name}@example.com` })
  const users: UserHooks = {
    findByHint: async ({ value }) => there(value.replace(/@.*/, '')),
    async find(id) {
      asked.push(id)
      const found = people.has(id) ? people.get(id) : there(id.replace('user-', ''))
      if (found instanceof Error) throw found
      return found === 'silence' ? new Promise(() => {}) : (found ?? null)
    },
  }
  const endpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, { engine, northbank: endpoint.url, till: endpoint.url, config: { users } })
  return { stage, people, asked, endpoint }
}
