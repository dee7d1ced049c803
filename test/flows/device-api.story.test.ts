/**
 * The device API: Ana's pending requests, and her decision, sent with her own token or by her bank's service (CN-3 to
 * CN-5).
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, basic, ben, credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

interface Device {
  authinfo(fields?: Record<string, string>): ReturnType<Stage['post']>
  complete(fields: Record<string, string>): ReturnType<Stage['post']>
}

const devices: [name: string, make: (stage: Stage, user: typeof ana | typeof ben) => Promise<Device>][] = [
  [
    "the user's own token",
    async (stage, user) => {
      const authorization = await bearerOf(stage, user)
      return {
        authinfo: (fields = {}) => stage.get(`/backchannel/authinfo?${new URLSearchParams(fields)}`, { authorization }),
        complete: (fields) => stage.post('/backchannel/complete', fields, authorization),
      }
    },
  ],
  [
    'the phone service',
    async (stage, user) => {
      const hint = { login_hint: user.username }
      return {
        authinfo: (fields = {}) =>
          stage.post('/backchannel/authinfo', { ...hint, ...fields }, credentials.phoneService),
        complete: (fields) => stage.post('/backchannel/complete', { ...hint, ...fields }, credentials.phoneService),
      }
    },
  ],
]

for (const [name, make] of devices) {
  describe(`through ${name}`, () => {
    test('Ana reads pending requests, newest first, with what she needs to decide (CN-3)', async (t) => {
      const stage = await openStage(t)
      const device = await make(stage, ana)
      const first = (await stage.ring('kiosk', { requested_expiry: '60', scope: 'openid email' })).body.auth_req_id
      stage.clock.advance(1_000)
      await stage.ring('northbank', { acr_values: 'strong', binding_message: 'Transfer 12' })
      await stage.ring('till', { login_hint: 'ben' })

      const answer = await device.authinfo()
      assert.equal(answer.headers.get('cache-control'), 'no-store')
      const [newest, oldest, ...more] = answer.body.requests as Record<string, unknown>[]
      assert.deepEqual(more, [], "Ben's request is not listed")
      assert.deepEqual(newest, {
        request_id: newest!.request_id,
        status: 'pending',
        binding_message: 'Transfer 12',
        scope: 'openid',
        created_at: Math.floor(stage.clock.now() / 1000),
        expires_in: 600,
        client: { client_id: 'northbank', client_name: 'Northbank' },
        acr_values: 'strong',
        user_code_required: false,
        passkey_required: false,
      })
      assert.deepEqual([oldest!.scope, oldest!.binding_message], ['openid email', 'Coffee 4.20'])

      const byId = await device.authinfo({ request_id: String(oldest!.request_id) })
      assert.deepEqual(byId.body.requests, [oldest])
      assert.deepEqual((await device.authinfo({ auth_req_id: String(first) })).body.requests, [oldest])

      await device.complete({ request_id: String(newest!.request_id), status: 'denied' })
      stage.clock.advance(59_000)
      const statuses = ((await device.authinfo()).body.requests as { status: string }[]).map(({ status }) => status)
      assert.deepEqual(statuses, ['denied', 'expired'])
      for (const open of [{ status: 'pending' }, { poolingMode: 'true' }]) {
        assert.deepEqual((await device.authinfo(open)).body.requests, [])
      }
      assert.equal(((await device.authinfo({ poolingMode: 'false' })).body.requests as unknown[]).length, 2)
    })

    test("another user's request is treated as unknown: not listed, 404 (CN-4)", async (t) => {
      const stage = await openStage(t)
      const bens = await make(stage, ben)
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const requestId = await stage.newestRequest()
      const unknown = await bens.complete({ request_id: 'unknown', status: 'approved' })
      assert.equal(unknown.status, 404)
      for (const by of [{ request_id: requestId }, { auth_req_id: String(auth_req_id) }]) {
        assert.deepEqual((await bens.authinfo(by as never)).body.requests, [])
        const foreign = await bens.complete({ ...(by as { request_id: string }), status: 'approved' })
        assert.deepEqual([foreign.status, foreign.text], [404, unknown.text])
      }
      assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
    })

    for (const [said, status, by] of [
      ['approved', 'approved', 'request_id'],
      ['A', 'approved', 'auth_req_id'],
      ['denied', 'denied', 'auth_req_id'],
      ['D', 'denied', 'request_id'],
    ] as const) {
      test(`${said} means ${status}, by ${by}; a second decision gets 409 with the first one (M22)`, async (t) => {
        const stage = await openStage(t)
        const device = await make(stage, ana)
        const { auth_req_id } = (await stage.ring('kiosk')).body
        const request_id = await stage.newestRequest()
        const named = { [by]: by === 'request_id' ? request_id : String(auth_req_id) }
        const decided = await device.complete({ ...named, status: said })
        assert.deepEqual([decided.status, decided.body], [200, { request_id, status }])
        for (const again of ['approved', 'denied']) {
          const { status: code, body } = await device.complete({ ...named, status: again })
          assert.deepEqual([code, body.error, body.status], [409, 'already_decided', status])
        }
        if (status === 'approved') {
          await stage.poll('kiosk', auth_req_id)
          assert.equal((await device.complete({ ...named, status: 'denied' })).body.status, 'redeemed')
        }
      })
    }

    test('"this was not me" is a denial that is recorded as a report; it never approves', async (t) => {
      const stage = await openStage(t)
      const device = await make(stage, ana)
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const request_id = await stage.newestRequest()
      assert.equal((await device.complete({ request_id, status: 'approved', report: 'true' })).status, 400)
      assert.equal((await device.complete({ request_id, status: 'denied', report: 'perhaps' })).status, 400)
      assert.equal((await device.complete({ request_id, status: 'denied', report: 'true' })).status, 200)
      assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'access_denied')
      const [row] = await rowsOf(
        stage,
        'select outcome, reported, binding_message from backchannel_auth_consent_history',
      )
      assert.deepEqual(row, { outcome: 'denied', reported: 1, binding_message: 'Coffee 4.20' })
    })

    for (const [what, fields] of [
      ['no status', {}],
      ['another status', { status: 'maybe' }],
      ['a status in small letters', { status: 'a' }],
      ['a request named twice', { status: 'approved', auth_req_id: 'x' }],
    ] as [string, Record<string, string>][]) {
      test(`${what}: invalid_request`, async (t) => {
        const stage = await openStage(t)
        const device = await make(stage, ana)
        await stage.ring('kiosk')
        const { status, body } = await device.complete({ request_id: await stage.newestRequest(), ...fields })
        assert.deepEqual([status, body.error], [400, 'invalid_request'])
        const nameless = await device.complete({ status: 'approved' })
        assert.deepEqual([nameless.status, nameless.body.error], [400, 'invalid_request'])
      })
    }
  })
}

describe('authentication context in a decision', () => {
  test('a device service gives acr, amr and auth_time: ID token and history have the same (M43, SM-4, RQ-4)', async (t) => {
    const stage = await openStage(t)
    const { auth_req_id } = (await stage.ring('kiosk', { acr_values: 'strong' })).body
    const auth_time = Math.floor(stage.clock.now() / 1000) - 120
    const form = {
      login_hint: 'ana',
      request_id: await stage.newestRequest(),
      status: 'A',
      acr: 'strong',
      amr: 'face pin',
    }
    const json = JSON.stringify({ ...form, auth_time })
    const headers = { 'content-type': 'application/json', authorization: credentials.phoneService }
    const decided = await fetch(`${stage.url}/backchannel/complete`, { method: 'POST', headers, body: json })
    assert.equal(decided.status, 200)
    stage.clock.advance(30_000)
    const claims = decodeJwt(String((await stage.poll('kiosk', auth_req_id)).body.id_token))
    assert.deepEqual([claims.acr, claims.amr, claims.auth_time], ['strong', ['face', 'pin'], auth_time])
    const [row] = await rowsOf(stage, 'select * from backchannel_auth_consent_history')
    assert.deepEqual(
      [row!.acr, row!.amr, row!.auth_time, row!.decided_by, row!.device_client_id],
      ['strong', '["face","pin"]', auth_time, 'device_service', 'phone-service'],
    )
  })

  test('a user cannot set it', async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const form = {
      request_id: await stage.newestRequest(),
      status: 'approved',
      acr: 'strongest',
      auth_time: '1',
      amr: 'dna',
    }
    assert.equal((await stage.post('/backchannel/complete', form, authorization)).status, 200)
    const claims = decodeJwt(String((await stage.poll('kiosk', auth_req_id)).body.id_token))
    assert.deepEqual([claims.acr, claims.amr], [undefined, ['pwd']])
    assert.ok(Number(claims.auth_time) > 1)
  })

  for (const auth_time of ['0', '-1', 'now', '1.5', '9'.repeat(20)]) {
    test(`auth_time ${auth_time} is refused`, async (t) => {
      const stage = await openStage(t)
      await stage.ring('kiosk')
      const { status, body } = await stage.decide(await stage.newestRequest(), 'approved', { auth_time })
      assert.deepEqual([status, body.error], [400, 'invalid_request'])
    })
  }
})

describe('a device service', () => {
  test('names the user with exactly one hint', async (t) => {
    const stage = await openStage(t)
    const ask = (form: Record<string, string>) => stage.post('/backchannel/authinfo', form, credentials.phoneService)
    assert.equal((await ask({})).body.error, 'invalid_request')
    assert.equal((await ask({ login_hint: 'ana', id_token_hint: 'x' })).body.error, 'invalid_request')
    assert.equal((await ask({ login_hint: 'zoe' })).body.error, 'unknown_user_id')
    assert.deepEqual((await ask({ login_hint: 'ana' })).body, { requests: [] })
  })

  test('names the user only with the hints it may use', async (t) => {
    const secret = newSecret()
    const clients = [
      {
        client_id: 'careful-service',
        client_secret: secret,
        backchannel_device_service: true,
        backchannel_allowed_hints: ['login_hint_token' as const],
      },
    ]
    const stage = await openStage(t, { config: { clients } })
    await stage.ring('kiosk')
    const request_id = await stage.newestRequest()
    for (const [path, form] of [
      ['/backchannel/authinfo', {}],
      ['/backchannel/complete', { request_id, status: 'approved' }],
    ] as const) {
      const answer = await stage.post(path, { login_hint: 'ana', ...form }, basic('careful-service', secret))
      assert.deepEqual([answer.status, answer.body.error], [400, 'invalid_request'], path)
    }
    assert.equal((await stage.waiting())[0]!.status, 'pending')
  })

  test('the request_id is not accepted at the token endpoint (M39)', async (t) => {
    const stage = await openStage(t)
    await stage.ring('kiosk')
    const requestId = await stage.newestRequest()
    await stage.decide(requestId, 'approved')
    assert.equal((await stage.poll('kiosk', requestId)).body.error, 'invalid_grant')
  })
})
