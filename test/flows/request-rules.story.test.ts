/** What a client may request, and the errors of CIBA §13 with their status (M9, AE-1). */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { basic, credentials, openStage, type RingingClient, type Stage, secrets } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'

const secret = newSecret()
let stage: Stage
let close = () => {}

before(async () => {
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: { clients: [pollClient('narrow', { client_secret: secret, scope: 'openid email' })] },
  })
})
after(() => close())

type Case = [name: string, parameters: Record<string, string>, as?: RingingClient]

const token = 'client_notification_token'

const accepted: Case[] = [
  ['requested_expiry 1', { requested_expiry: '1' }],
  ['requested_expiry max', { requested_expiry: '86400' }],
  ['every scope there is, in any order', { scope: 'offline_access phone email profile openid' }],
  ['a scope twice', { scope: 'openid openid email' }],
  ['a binding message of 128 characters', { binding_message: 'x'.repeat(128) }],
  ['a binding message of 128 emoji: characters count, not bytes', { binding_message: '🛎'.repeat(128) }],
  ['a binding message in another script', { binding_message: 'Καφές 4,20 € — ☕ 一杯' }],
  ['no binding message', { binding_message: '' }],
  ['acr_values', { acr_values: 'urn:strong urn:weak' }],
  ['a token of 1024 characters', { [token]: 'a'.repeat(1024) }, 'northbank'],
  ['a token of one character', { [token]: 'a' }, 'till'],
  ['a token with all of its alphabet', { [token]: 'aZ0-._~+/==' }, 'northbank'],
  ['a token from a poll client, which does not need one', { [token]: 'not a token' }],
  ['unknown parameters (VL-7)', { foo: 'bar', user_code: '1234', nonce: 'x', 'a b': 'ü' }],
]

const refused: [error: string, cases: Case[]][] = [
  [
    'invalid_request',
    [
      ['requested_expiry -1 (M8, RQ-7)', { requested_expiry: '-1' }],
      ['requested_expiry 0', { requested_expiry: '0' }],
      ['requested_expiry 5.0', { requested_expiry: '5.0' }],
      ['requested_expiry abc', { requested_expiry: 'abc' }],
      ['requested_expiry 1e21', { requested_expiry: '1e21' }],
      ['requested_expiry with a plus', { requested_expiry: '+5' }],
      ['requested_expiry with a space', { requested_expiry: ' 5' }],
      ['requested_expiry in hexadecimal', { requested_expiry: '0x10' }],
      ['requested_expiry with a leading zero', { requested_expiry: '05' }],
      ['requested_expiry beyond every number', { requested_expiry: '9'.repeat(40) }],
      ['requested_expiry in other digits', { requested_expiry: '٥' }],
      ['scope missing (M8)', { scope: '' }],
      ['no hint', { login_hint: '' }],
      ['two hints (VL-3, M43)', { id_token_hint: 'x.y.z' }],
      ['all three hints', { id_token_hint: 'x.y.z', login_hint_token: 'x' }],
      ['acr_values with two spaces', { acr_values: 'a  b' }],
      ['a signed request (MD-4)', { request: 'x.y.z' }],
      ['no token, for ping (RQ-3)', { [token]: '' }, 'northbank'],
      ['no token, for push (RQ-3)', { [token]: '' }, 'till'],
      ['a token of 1025 characters', { [token]: 'a'.repeat(1025) }, 'northbank'],
      ['a token with a space', { [token]: 'a b' }, 'northbank'],
      ['a token with a line break (header injection)', { [token]: 'a\r\nX-Injected: 1' }, 'till'],
      ['a token with = in the middle', { [token]: 'a=b' }, 'till'],
      ['a token of nothing but =', { [token]: '==' }, 'till'],
      ['a token with a character beyond ASCII', { [token]: 'schlüssel' }, 'till'],
    ],
  ],
  [
    'invalid_scope',
    [
      ['no openid', { scope: 'email' }],
      ['an unknown scope', { scope: 'openid admin' }],
      ['two spaces', { scope: 'openid  email' }],
      ['a space before', { scope: ' openid' }],
      ['a quotation mark', { scope: 'openid "email"' }],
      ['a tab', { scope: 'openid\temail' }],
      ['OPENID', { scope: 'OPENID' }],
    ],
  ],
  [
    'invalid_binding_message',
    [
      ['129 characters', { binding_message: 'x'.repeat(129) }],
      ['129 emoji', { binding_message: '🛎'.repeat(129) }],
      ['a line break', { binding_message: 'Coffee\n4.20' }],
      ['a tab', { binding_message: 'Coffee\t4.20' }],
      ['a bell', { binding_message: 'Coffee\u0007' }],
      ['a delete', { binding_message: 'Coffee\u007f' }],
      ['a C1 control', { binding_message: 'Coffee\u0085' }],
      ['right-to-left override', { binding_message: 'Pay \u202e02.4' }],
      ['an isolate', { binding_message: 'Pay \u2066x\u2069' }],
      ['a right-to-left mark', { binding_message: 'Pay \u200f1' }],
      ['a zero-width space', { binding_message: 'Pay\u200b1' }],
      ['a byte order mark', { binding_message: '\ufeffPay' }],
      ['a line separator', { binding_message: 'a\u2028b' }],
      ['a private-use character', { binding_message: 'a\ue000b' }],
      ['nothing but spaces', { binding_message: '   ' }],
    ],
  ],
  ['unknown_user_id', [['an unknown user (VL-5)', { login_hint: 'zoe@example.com' }]]],
]

describe('accepted parameters (M9)', () => {
  for (const [name, parameters, as = 'kiosk'] of accepted) {
    test(name, async () => {
      const { status, text, headers, body } = await stage.ring(as, parameters)
      assert.equal(status, 200, text)
      assert.equal(headers.get('cache-control'), 'no-store', 'AK-1')
      assert.match(String(headers.get('content-type')), /^application\/json/)
      const said = ['auth_req_id', 'expires_in', ...(as === 'till' ? [] : ['interval'])]
      assert.deepEqual(Object.keys(body), said)
    })
  }

  for (const [asked, given] of [
    ['', 600],
    ['5', 5],
    ['86399', 86_399],
    ['86401', 86_400],
    ['999999999', 86_400],
  ] as const) {
    test(`requested_expiry "${asked}" leads to expires_in ${given} (M8, M43, RQ-6)`, async () => {
      assert.equal((await stage.ring('kiosk', { requested_expiry: asked })).body.expires_in, given)
    })
  }
})

for (const [error, cases] of refused) {
  describe(`refused parameters: 400 ${error} (M8, M9)`, () => {
    for (const [name, parameters, as = 'kiosk'] of cases) {
      test(name, async () => {
        const before = await countRows(stage)
        const { status, body, headers, text } = await stage.ring(as, parameters)
        assert.deepEqual([status, body.error], [400, error])
        assert.match(String(body.error_description), /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/, 'AE-2')
        assert.equal(headers.get('cache-control'), 'no-store')
        assert.deepEqual(await countRows(stage), before)
        for (const value of Object.values(parameters)) {
          assert.ok(value.length < 8 || !text.includes(value), 'nothing of the request is repeated (M29)')
        }
      })
    }
  })
}

describe('which clients may send requests (M9)', () => {
  test('a device service may not: unauthorized_client (VL-9)', async () => {
    const form = { scope: 'openid', login_hint: 'ana' }
    const { status, body } = await stage.post('/backchannel/authorize', form, credentials.phoneService)
    assert.deepEqual([status, body.error], [400, 'unauthorized_client'])
    const poll = { grant_type: 'urn:openid:params:grant-type:ciba', auth_req_id: 'x' }
    const polled = await stage.post('/oauth/token', poll, credentials.phoneService)
    assert.deepEqual([polled.status, polled.body.error], [400, 'unauthorized_client'])
  })

  test('an unauthenticated caller learns nothing about the rules: authentication comes first (VL-1)', async () => {
    for (const parameters of [{}, { scope: 'x' }, { requested_expiry: '-1' }, { login_hint: 'zoe' }]) {
      const { status, body } = await stage.post('/backchannel/authorize', parameters, basic('kiosk', 'wrong'))
      assert.deepEqual([status, body.error], [401, 'invalid_client'])
    }
  })

  test('a malformed request does not reveal whether a user exists: the hint is read last', async () => {
    const texts = new Set<string>()
    for (const login_hint of ['ana', 'zoe']) {
      texts.add((await stage.ring('kiosk', { login_hint, requested_expiry: '0' })).text)
    }
    assert.equal(texts.size, 1)
  })

  test('a client cannot request a scope it was not registered for', async () => {
    const sendRequest = (scope: string) =>
      stage.post('/backchannel/authorize', { scope, login_hint: 'ana' }, basic('narrow', secret))
    assert.equal((await sendRequest('openid email')).status, 200)
    assert.equal((await sendRequest('openid phone')).body.error, 'invalid_scope')
  })
})

describe('too many pending requests for one user (M31)', () => {
  test('access_denied with 403 and no notification; there is room again when one is decided or expires (AE-1)', async (t) => {
    const own = await openStage(t, { config: { requests: { maxOpenPerUser: 2 } } })
    assert.equal((await own.ring('kiosk', { requested_expiry: '60' })).status, 200)
    assert.equal((await own.ring('northbank')).status, 200)
    await own.doorbell.idle()
    const before = await countRows(own)
    const third = await own.ring('kiosk')
    assert.deepEqual([third.status, third.body.error], [403, 'access_denied'])
    assert.deepEqual(await countRows(own), before)
    assert.equal((await own.ring('kiosk', { login_hint: 'ben' })).status, 200, 'Ben is not affected')

    await own.decide(await own.newestRequest(), 'denied')
    assert.equal((await own.ring('kiosk')).status, 200)
    assert.equal((await own.ring('kiosk')).status, 403)
    own.clock.advance(60_000)
    assert.equal((await own.ring('kiosk')).status, 200)
  })
})

describe('the token endpoint (M9)', () => {
  const grant_type = 'urn:openid:params:grant-type:ciba'
  const cases: [string, Record<string, string>, number, string][] = [
    ['no auth_req_id', { grant_type }, 400, 'invalid_request'],
    ['an empty auth_req_id', { grant_type, auth_req_id: '' }, 400, 'invalid_request'],
    ['an unknown auth_req_id (TE-2)', { grant_type, auth_req_id: newSecret() }, 400, 'invalid_grant'],
    ['an auth_req_id of 60000 characters', { grant_type, auth_req_id: 'x'.repeat(60_000) }, 400, 'invalid_grant'],
    ['another grant', { grant_type: 'password', auth_req_id: 'x' }, 400, 'unsupported_grant_type'],
    ['no grant', { auth_req_id: 'x' }, 400, 'invalid_request'],
  ]
  for (const [name, form, status, error] of cases) {
    test(`${name}: ${status} ${error}`, async () => {
      const answer = await stage.post('/oauth/token', form, basic('kiosk', secrets.kiosk))
      assert.deepEqual([answer.status, answer.body.error], [status, error])
      assert.equal(answer.headers.get('cache-control'), 'no-store')
    })
  }
})
