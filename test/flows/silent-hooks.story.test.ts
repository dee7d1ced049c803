/**
 * A hook of the application never responds. Background work does not wait for it forever, and a shutdown does not wait
 * for it.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { UserHooks } from '../../src/index.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { added } from './passkeys.ts'

/** Each kind of message that needs a user, and the action that causes it. */
const messages: [kind: string, cause: (stage: Stage) => Promise<unknown>][] = [
  ['mailbox', (stage) => stage.ring('kiosk')],
  [
    'push',
    async (stage) => {
      await stage.ring('till')
      await stage.decide(await stage.newestRequest(), 'approved')
    },
  ],
  ['account_mailbox', async (stage) => added(stage, await bearerOf(stage))],
]

for (const engine of engines) {
  describe(`a silent users.find, on ${engine.name}`, () => {
    for (const [kind, cause] of messages) {
      test(`holds up the shutdown only for the grace period; another server sends the message (${kind})`, async (t) => {
        const { stage, people } = await scene(t, engine)
        people.silentOnceStored = kind
        await cause(stage)
        await until(() => people.waiting > 0)

        let isClosed = false
        const closed = stage.doorbell.close().then(() => (isClosed = true))
        await until(() => {
          stage.clock.advance(4_000)
          return isClosed
        })
        await closed
        assert.deepEqual(await statesOf(stage, kind), ['waiting'])

        people.silentOnceStored = undefined
        await stage.restart()
        await stage.doorbell.idle()
        assert.deepEqual(await statesOf(stage, kind), ['delivered'])
      })

      test(`ends the attempt after the time that an attempt may take (${kind})`, async (t) => {
        const { stage, people } = await scene(t, engine, 1)
        people.silentOnceStored = kind
        await cause(stage)
        await until(() => stage.logLines.some((line) => line.includes('outbox.attempt_failed')))
        people.silentOnceStored = undefined
        stage.clock.advance(60_000)
        await stage.doorbell.idle()
        assert.deepEqual(await statesOf(stage, kind), ['delivered'])
      })
    }

    test('does not hold up the end of a round for absent users, and nobody else is asked about', async (t) => {
      const { stage, people } = await scene(t, engine)
      for (let number = 0; number < 16; number++) await stage.ring('kiosk', { login_hint: `person-${number}` })
      await stage.doorbell.idle()
      people.silentOnceStored = 'mailbox'
      stage.clock.advance(30_000)
      await until(() => people.waiting === 8)
      const asked = people.asked.length
      // The clock stands still, so the shutdown does not wait for a time limit.
      await stage.doorbell.close()
      assert.equal(people.asked.length, asked)
      assert.deepEqual(
        stage.logLines.filter((line) => line.includes('absent_users.failed')),
        [],
      )
    })

    test('ends a round that the application has started, too', async (t) => {
      const { stage, people } = await scene(t, engine)
      for (let number = 0; number < 16; number++) await stage.ring('kiosk', { login_hint: `person-${number}` })
      await stage.doorbell.idle()
      people.silentOnceStored = 'mailbox'
      const sweep = stage.doorbell.sweep()
      await until(() => people.waiting === 8)
      await stage.doorbell.close()
      assert.equal(await sweep, 0)
      assert.equal(people.waiting, 8)
    })
  })
}

/**
 * @returns `people.asked`: the ids that `find` was called with. If `silentOnceStored` is set, `find` does not respond
 *   any more once a message of this kind is stored. `people.waiting` counts the calls of `find` that get no response
 */
async function scene(t: TestContext, engine: Engine, timeoutSeconds = 60) {
  const people = { silentOnceStored: undefined as string | undefined, waiting: 0, asked: [] as string[] }
  const users: UserHooks = {
    findByHint: async ({ value }) => ({ id: `user-${value.replace(/@.*/, '')}` }),
    verifyPassword: async (_user, password) => password === ana.password,
    async find(id) {
      people.asked.push(id)
      const kind = people.silentOnceStored
      if (kind === undefined || (await statesOf(stage, kind)).length === 0) return { id }
      people.waiting += 1
      return new Promise(() => {})
    },
  }
  const endpoint = await openNotificationEndpoint(t)
  const config = { users, notifications: { timeout: timeoutSeconds } }
  const stage: Stage = await openStage(t, { engine, till: endpoint.url, config })
  return { stage, people }
}

async function statesOf(stage: Stage, kind: string): Promise<unknown[]> {
  return (await rowsOf(stage, `select state from notifications where kind = '${kind}'`)).map(({ state }) => state)
}
