/**
 * Tokens are issued once, completely, and with the latest data of the request, on both engines, even if the database is
 * slow.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { AuthenticationRequest } from '../../src/ciba/authentication-request/authentication-request.ts'
import { contentOf } from '../../src/ciba/client-notification/notification-for.ts'
import { createPush } from '../../src/ciba/client-notification/push.ts'
import type { Issued } from '../../src/ciba/tokens/issue-tokens.ts'
import type { OutboxMessage } from '../../src/outbox/notification.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { capacityFor, furnished, newRequest, vault } from '../support/rows.ts'
import { openStage } from '../support/stage.ts'
import { contentsOf } from '../support/tables.ts'
import { createWires } from '../support/wires.ts'

for (const engine of engines) {
  describe(`issuing tokens, on ${engine.name}`, () => {
    test('of forty polls at the same moment one gets tokens, and the tokens work', async (t) => {
      const wires = createWires(() => Math.random() * 10)
      const stage = await openStage(t, { engine, parts: { openDatabase: wires.open } })
      const { auth_req_id: authReqId } = (await stage.ring('kiosk', { scope: 'openid email offline_access' })).body
      await stage.decide(await stage.newestRequest(), 'approved')

      const polls = await Promise.all(Array.from({ length: 40 }, () => stage.poll('kiosk', authReqId)))
      const won = polls.filter(({ status }) => status === 200)
      assert.equal(won.length, 1)
      for (const { status, body } of polls)
        if (status !== 200) assert.deepEqual([status, body.error], [400, 'invalid_grant'])

      const { access_token, refresh_token } = won[0]!.body
      const bearer = { authorization: `Bearer ${access_token}` }
      assert.equal((await stage.get('/oauth/userinfo', bearer)).body.email, 'ana@example.com')
      const { oidc_models } = await contentsOf(stage)
      const models = oidc_models!.map(
        ({ model, request_id }) => `${model} ${request_id === null ? 'of nothing' : 'of it'}`,
      )
      assert.deepEqual(
        models.sort(),
        ['AccessToken of it', 'Grant of it', 'RefreshToken of it'],
        'the other polls left nothing behind',
      )
      assert.ok(refresh_token)
    })

    test('a deadline that passes while the tokens are made counts as passed', async (t) => {
      const wires = createWires()
      const stage = await openStage(t, { engine, parts: { openDatabase: wires.open } })
      const { auth_req_id: authReqId } = (await stage.ring('kiosk', { requested_expiry: '60' })).body
      await stage.decide(await stage.newestRequest(), 'approved')
      stage.clock.advance(59_000)
      // The authentication and the poll are before the deadline. The redemption is after it.
      let calls = 0
      wires.slowness = () => {
        calls += 1
        if (calls === 3) stage.clock.advance(1_000)
        return 0
      }
      const late = await stage.poll('kiosk', authReqId)
      assert.deepEqual([late.status, late.body.error], [400, 'expired_token'])
      const { oidc_models } = await contentsOf(stage)
      assert.deepEqual(oidc_models, [])
    })

    test('a redemption that fails half way leaves an approval that can be redeemed', async (t) => {
      const wires = createWires()
      const stage = await openStage(t, { engine, parts: { openDatabase: wires.open } })
      const { auth_req_id: authReqId } = (await stage.ring('kiosk')).body
      await stage.decide(await stage.newestRequest(), 'approved')
      // The statements that find the client and the request succeed. All later statements fail.
      wires.cut(1)
      assert.equal((await stage.poll('kiosk', authReqId)).status, 500)
      await stage.restart()
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
    })

    test('two workers that hold the same push send the same content, whichever redeems', async (t) => {
      for (const first of ['the one whose lease ended', 'the one who took over']) {
        const { clock, one, other } = await furnished(t, engine, { count: 2 })
        const request = newRequest(clock.now(), { deliveryMode: 'push' })
        await one.requests.accept(request, 'a', { maxOpenPerUser: 9 })
        await one.decide({ requestId: request.id, userId: 'user-ana', outcome: 'approved', decidedBy: 'application' })

        const claim = async (node: typeof one) => {
          const lease = { lease: `lease of ${node === one}`, leaseUntil: clock.now() + 1000 }
          const [message] = await node.outbox.claimDue({ ...lease, now: clock.now(), room: capacityFor() })
          return message!
        }
        const early = await claim(one)
        clock.advance(1000)
        const late = await claim(other)

        const sent: string[] = []
        const ready = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const
        const pushing = (node: typeof one, message: OutboxMessage, number: 0 | 1) => {
          const issueTokens = async (about: AuthenticationRequest): Promise<Issued> => {
            await ready[number].promise
            return {
              response: { access_token: `token ${number} for ${about.userId}` } as never,
              grantId: '',
              lifetimeSeconds: 600,
              statements: [],
            }
          }
          const call = async ({ body = '' }: { body?: string | Buffer }) => {
            sent.push(String(body))
            return { status: 204, headers: {}, body: '' }
          }
          const caller = { call, close: async () => {} }
          const { requests, outbox, needs } = node
          const { audit } = needs
          const push = createPush({
            requests,
            outbox,
            issueTokens,
            hasValidGrant: async () => true,
            signingKeys: undefined,
            timeout: 60_000,
            caller,
            vault,
            clock,
            audit,
          })
          return push(message, contentOf(message, vault)!, new AbortController().signal, () => {})
        }
        const outcomes = [pushing(one, early, 0), pushing(other, late, 1)]
        const order = first === 'the one whose lease ended' ? ([0, 1] as const) : ([1, 0] as const)
        for (const number of order) {
          ready[number].resolve()
          assert.equal((await outcomes[number]!).kind, 'delivered', first)
        }
        assert.equal(sent.length, 2)
        assert.equal(sent[0], sent[1])
        assert.match(sent[0]!, new RegExp(`token ${order[0]} for user-ana`))
      }
    })

    test('a push for a removed or disabled user says so, and that is final', async (t) => {
      const till = await openNotificationEndpoint(t)
      const user = { id: 'user-ana', email: 'ana@example.com', disabled: false }
      let deciding = false
      const find = async () => {
        const seen = { ...user }
        // Ana is disabled right after the check whether she may decide.
        if (deciding) user.disabled = true
        return seen
      }
      const users = { find, findByHint: async () => user }
      const stage = await openStage(t, { engine, till: till.url, config: { users } })
      till.behaves(500, 500, 204)
      const { auth_req_id: authReqId } = (await stage.ring('till')).body
      const requestId = await stage.newestRequest()
      // The notification of Ana looks her up too, so the test waits until it is finished.
      await stage.doorbell.idle()

      // Ana approves, and is disabled at the same moment; when the push is retried, she is enabled again.
      deciding = true
      const decided = await stage.doorbell.requests.approve(requestId, 'user-ana')
      assert.deepEqual(decided, { kind: 'settled', status: 'approved' })
      await till.hears(1)
      await stage.doorbell.idle()
      deciding = false
      user.disabled = false
      for (let attempt = 2; attempt <= 3; attempt++) {
        // This is longer than the pause between attempts, and shorter than the lease of an attempt.
        stage.clock.advance(2_500)
        await till.hears(attempt)
        await stage.doorbell.idle()
      }
      stage.clock.advance(700_000)
      await stage.doorbell.sweep()
      await stage.doorbell.idle()
      assert.equal(till.heard.length, 3, 'no other result is sent later')
      for (const { body } of till.heard) {
        assert.deepEqual([body.auth_req_id, body.error], [authReqId, 'transaction_failed'])
      }
      assert.equal(new Set(till.heard.map(({ text }) => text)).size, 1)
    })

    test('a notification keeps the content that was sent, until it is delivered', async (t) => {
      const till = await openNotificationEndpoint(t)
      const stage = await openStage(t, { engine, till: till.url })
      till.behaves(500, 500, 500, 204)
      await stage.ring('till', { scope: 'openid offline_access' })
      await stage.decide(await stage.newestRequest(), 'approved')
      for (let attempt = 1; attempt <= 4; attempt++) {
        await till.hears(attempt)
        await stage.doorbell.idle()
        stage.clock.advance(2_500)
      }
      assert.equal(new Set(till.heard.map(({ text }) => text)).size, 1)
      const { notifications, oidc_models } = await contentsOf(stage)
      assert.equal(oidc_models!.length, 3, 'tokens were made once')
      assert.deepEqual(
        notifications!.filter(({ kind }) => kind === 'push').map(({ state, sealed }) => [state, sealed]),
        [['delivered', null]],
      )
    })
  })
}
