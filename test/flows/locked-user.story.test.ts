/** A locked user cannot approve requests, and clients cannot detect the lock. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { UserHooks } from '../../src/user/user.ts'
import { auditOf } from '../support/audit.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, credentials, openStage, type Stage } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'
import { second } from './limited-requests.ts'

/** Opens a stage with users of an application. The test can lock Ana at any time. */
async function openWithLock(t: TestContext, engine = engines[0]!, till?: string) {
  let disabled = false
  const { password, ...known } = ana
  let disabledAfterLook = false
  const find = async (id: string) => {
    const seen = id === ana.id ? { ...known, disabled } : null
    disabled ||= disabledAfterLook
    disabledAfterLook = false
    return seen
  }
  const users: UserHooks = {
    find,
    findByHint: async ({ value }) => (value === ana.username || value === ana.email ? find(ana.id) : null),
    verifyPassword: async (_user, given) => given === password,
  }
  const stage = await openStage(t, { engine, config: { users }, ...(till !== undefined && { till }) })
  const lock = (locked = true) => {
    disabled = locked
  }
  const lockAfterNextLook = () => {
    disabledAfterLook = true
  }
  return { stage, lock, lockAfterNextLook }
}

for (const engine of engines) {
  describe(`Ana is locked, on ${engine.name} (M15)`, () => {
    test('before the request: it is refused', async (t) => {
      const { stage, lock } = await openWithLock(t, engine)
      lock()
      assert.deepEqual((await stage.ring('kiosk')).body.error, 'unknown_user_id')
      assert.equal((await countRows(stage)).backchannel_auth_requests, 0)
    })

    type Decider = (stage: Stage, response: { requestId: string; authReqId: string }) => Promise<() => Promise<number>>
    /**
     * The ways to decide a request, each with the status of a refusal. Each way is prepared before the user is locked.
     */
    const ways: [string, number, Decider][] = [
      [
        'through the device service',
        400,
        async (stage, { requestId }) =>
          async () =>
            (await stage.decide(requestId, 'approved')).status,
      ],
      [
        'with a token of her own',
        401,
        async (stage, { requestId }) => {
          const bearer = await bearerOf(stage)
          const form = { request_id: requestId, status: 'approved' }
          return async () => (await stage.post('/backchannel/complete', form, bearer)).status
        },
      ],
      [
        'in the consent app',
        401,
        async (stage, { requestId }) => {
          const visitor = openVisitor(stage.url)
          const form_token = formTokenOn(await visitor.signIn(ana, `/approve/${requestId}`))
          return async () => (await visitor.post(`/approve/${requestId}`, { decision: 'approve', form_token })).status
        },
      ],
      [
        "through the application's own code",
        0,
        async (stage, { requestId }) =>
          async () => {
            const yes = await stage.doorbell.requests.approve(requestId, ana.id)
            const no = await stage.doorbell.requests.deny(requestId, ana.id)
            assert.deepEqual([yes, no], [{ kind: 'user unavailable' }, { kind: 'user unavailable' }])
            return 0
          },
      ],
      [
        'with the development address',
        403,
        async (stage, { authReqId }) =>
          async () =>
            (await stage.post('/dev/decide', { action: 'allow', auth_req_id: String(authReqId) })).status,
      ],
    ]
    for (const [name, status, prepare] of ways) {
      test(`before the decision ${name}: it is refused, and the request stays pending`, async (t) => {
        const { stage, lock } = await openWithLock(t, engine)
        const authReqId = String((await stage.ring('kiosk')).body.auth_req_id)
        const requestId = await stage.newestRequest()
        const decide = await prepare(stage, { requestId, authReqId })
        lock()
        assert.equal(await decide(), status)
        assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'authorization_pending')
        assert.equal((await countRows(stage)).backchannel_auth_consent_history, 0)
        lock(false)
        assert.equal((await stage.decide(requestId, 'approved')).status, 200, 'nothing is lost')
      })
    }

    test('before the redemption: no tokens; once she is unlocked they can be collected', async (t) => {
      const { stage, lock } = await openWithLock(t, engine)
      const authReqId = (await stage.ring('kiosk')).body.auth_req_id
      await stage.decide(await stage.newestRequest(), 'approved')
      lock()
      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'access_denied')
      assert.deepEqual(await rowsOf(stage, 'select * from oidc_models'), [])
      assert.partialDeepStrictEqual(auditOf(stage, 'tokens.'), [{ event: 'tokens.refused', user: ana.id, by: 'poll' }])
      lock(false)
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
    })

    test('before the push: it brings transaction_failed, and that is final', async (t) => {
      const till = await openNotificationEndpoint(t)
      till.behaves(500, 204)
      const { stage, lock, lockAfterNextLook } = await openWithLock(t, engine, till.url)
      await stage.ring('till')
      const requestId = await stage.newestRequest()
      await stage.doorbell.idle()
      // Ana is locked right after the check whether she may decide.
      lockAfterNextLook()
      assert.equal((await stage.doorbell.requests.approve(requestId, ana.id)).kind, 'settled')
      await till.hears(1)
      await stage.doorbell.idle()
      lock(false)
      stage.clock.advance(5 * second)
      const bodies = (await till.hears(2)).map(({ body }) => body.error)
      assert.deepEqual(bodies, ['transaction_failed', 'transaction_failed'])
      assert.partialDeepStrictEqual(auditOf(stage, 'tokens.'), [{ event: 'tokens.refused', user: ana.id, by: 'push' }])
      assert.deepEqual(await rowsOf(stage, 'select * from oidc_models'), [])
    })

    test('after the redemption: tokens are not refreshed, and userinfo reveals nothing more', async (t) => {
      const { stage, lock } = await openWithLock(t, engine)
      const authReqId = (await stage.ring('kiosk', { scope: 'openid email offline_access' })).body.auth_req_id
      await stage.decide(await stage.newestRequest(), 'approved')
      const tokens = (await stage.poll('kiosk', authReqId)).body
      lock()
      const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) }
      assert.equal((await stage.post('/oauth/token', refresh, credentials.kiosk)).body.error, 'invalid_grant')
      const asked = await stage.get('/oauth/userinfo', { authorization: `Bearer ${tokens.access_token}` })
      assert.equal(asked.status, 401)
    })
  })
}
