/**
 * The user is signed out, locked or removed, or revokes the approval, while a push of tokens waits for its next
 * attempt. The next attempt sends `access_denied`, because the tokens are no longer valid (PU-8, PU-11). If the tokens
 * have expired instead, it sends `transaction_failed`, because the user has denied nothing (PE-1).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { byCommand, type Commands, dora } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { type NotificationEndpoint, openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signIn } from '../support/phone-app.ts'
import { credentials, openStage, type Stage } from '../support/stage.ts'

type End = (about: { stage: Stage; requestId: string; bearer: string }) => Promise<unknown>

const byOperator =
  (work: (commands: Commands) => Promise<boolean>): End =>
  async ({ stage }) =>
    assert.equal(await byCommand(stage, work), true)

const ends: Record<string, End> = {
  'Dora is signed out by an operator': byOperator(({ endUser }) => endUser(dora.id, 'signed_out', { by: 'command' })),
  'Dora is locked': byOperator(({ endUser }) => endUser(dora.id, 'locked', { by: 'command' })),
  'Dora is removed': byOperator(({ endUser }) => endUser(dora.id, 'removed', { by: 'command' })),
  'Dora is erased': byOperator(({ endUser }) => endUser(dora.id, 'erased', { by: 'command' })),
  'Dora is locked, and unlocked before the next attempt': byOperator(
    async ({ endUser, unlock }) => (await endUser(dora.id, 'locked', { by: 'command' })) && (await unlock(dora.id)),
  ),
  'Dora revokes the approval': async ({ stage, requestId, bearer }) => {
    const { body } = await stage.post('/backchannel/revoke', { request_id: requestId }, bearer)
    assert.equal(body.revoked, true)
  },
}

const stays: Record<string, End> = {
  'Dora signs out everywhere': async ({ stage, bearer }) => {
    assert.equal((await stage.post('/backchannel/sessions/end', { everywhere: 'true' }, bearer)).status, 200)
  },
  'nothing ends': async () => {},
}

for (const engine of engines) {
  describe(`a push of tokens that was not confirmed, on ${engine.name}`, () => {
    for (const [name, end] of Object.entries(ends)) {
      test(`${name}: the next attempts say access_denied`, async (t) => {
        const { stage, endpoint, nextAttempt, ...about } = await pushedInVain(t, engine)
        await end({ stage, ...about })
        await nextAttempt()
        await nextAttempt()
        assertError(endpoint, 'access_denied')
      })

      test(`${name}, and the tokens would have expired since: the next attempts say access_denied`, async (t) => {
        const { stage, endpoint, nextAttempt, ...about } = await pushedInVain(t, engine, short)
        await end({ stage, ...about })
        await nextAttempt()
        await nextAttempt()
        assertError(endpoint, 'access_denied')
      })
    }

    test('the tokens have expired: the next attempts say transaction_failed', async (t) => {
      const { endpoint, nextAttempt } = await pushedInVain(t, engine, short)
      await nextAttempt()
      await nextAttempt()
      assertError(endpoint, 'transaction_failed')
    })

    test('the tokens have expired, and Dora is locked later: the next attempts say transaction_failed', async (t) => {
      const { stage, endpoint, nextAttempt } = await pushedInVain(t, engine, short)
      stage.clock.advance(40_000)
      await byCommand(stage, ({ endUser }) => endUser(dora.id, 'locked', { by: 'command' }))
      await nextAttempt()
      await nextAttempt()
      assertError(endpoint, 'transaction_failed')
    })

    test('the access token has expired, but not the refresh token: the next attempt sends both', async (t) => {
      const { stage, endpoint, nextAttempt } = await pushedInVain(t, engine, { ...short, scope: offline })
      await nextAttempt()
      assert.equal(endpoint.heard[1]!.text, endpoint.heard[0]!.text)
      const { refresh_token } = endpoint.heard[1]!.body
      const form = { grant_type: 'refresh_token', refresh_token: String(refresh_token) }
      assert.equal((await stage.post('/oauth/token', form, credentials.till)).status, 200)
    })

    for (const [name, end] of Object.entries(stays)) {
      test(`${name}: the next attempt sends the same tokens, and they work`, async (t) => {
        const { stage, endpoint, nextAttempt, ...about } = await pushedInVain(t, engine)
        await end({ stage, ...about })
        await nextAttempt()
        assert.equal(endpoint.heard[1]!.text, endpoint.heard[0]!.text)
        const authorization = `Bearer ${endpoint.heard[1]!.body.access_token}`
        assert.equal((await stage.get('/oauth/userinfo', { authorization })).status, 200)
      })
    }
  })
}

const later = { status: 503, headers: { 'retry-after': '60' } }
const offline = 'openid offline_access'
/** Tokens that expire before the next attempt. */
const short = { accessTtl: 30, scope: 'openid' }

/** Till sends a request, Dora approves it, and the first push is answered with 503. */
async function pushedInVain(t: TestContext, engine: Engine, { accessTtl = 600, scope = offline } = {}) {
  const endpoint = await openNotificationEndpoint(t)
  endpoint.behaves(later, later, 204)
  const stage = await openStage(t, { engine, till: endpoint.url, config: { tokens: { accessTtl } } })
  await byCommand(stage, ({ addDora }) => addDora())
  const bearer = `Bearer ${(await signIn(stage, dora)).access_token}`
  await stage.ring('till', { login_hint: 'dora', scope })
  const requestId = await stage.newestRequest('dora')
  await stage.decide(requestId, 'approved', { login_hint: 'dora' })
  await endpoint.hears(1)
  await stage.doorbell.idle()
  const nextAttempt = async () => {
    stage.clock.advance(61_000)
    // Expired tokens are deleted.
    await stage.doorbell.prune()
    await stage.doorbell.idle()
  }
  return { stage, endpoint, requestId, bearer, nextAttempt }
}

function assertError({ heard }: NotificationEndpoint, error: string): void {
  const [tokens, first, again] = heard
  assert.equal(typeof tokens!.body.access_token, 'string')
  const { error_description: _, ...rest } = first!.body
  assert.deepEqual(rest, { auth_req_id: tokens!.body.auth_req_id, error })
  assert.equal(again!.text, first!.text)
}
