/**
 * Malformed input at every address. The server refuses it with the right error, writes nothing, and does not repeat the
 * input. No response has a status 5xx (M29, EP-3, RQ-8).
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Answer, CIBA, credentials, openStage, type Stage, secrets } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'

/** A part of every malformed input. No response may contain it. */
const marker = 'q7Zx-marker-q7Zx'

let stage: Stage
let close = () => {}

before(async () => {
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never)
  await stage.ring('kiosk')
})
after(() => close())

interface Address {
  path: string
  allow: string
  /** The parameters of a valid call; the malformed input is added to it. */
  form: Record<string, string>
  authorization?: string
  takesJson?: boolean
}

const decision = { login_hint: 'ana', status: 'approved', request_id: 'unknown' }
const addresses: Address[] = [
  {
    path: '/backchannel/authorize',
    allow: 'POST',
    form: { scope: 'openid', login_hint: 'ana' },
    authorization: credentials.kiosk,
  },
  {
    path: '/oauth/token',
    allow: 'POST, OPTIONS',
    form: { grant_type: CIBA, auth_req_id: 'x' },
    authorization: credentials.kiosk,
  },
  {
    path: '/backchannel/authinfo',
    allow: 'GET, POST, HEAD',
    form: { login_hint: 'ana' },
    authorization: credentials.phoneService,
    takesJson: true,
  },
  {
    path: '/backchannel/complete',
    allow: 'POST',
    form: decision,
    authorization: credentials.phoneService,
    takesJson: true,
  },
  { path: '/backchannel/clientconfig', allow: 'POST', form: {}, authorization: credentials.kiosk, takesJson: true },
  { path: '/oauth/introspect', allow: '', form: { token: 'x' }, authorization: credentials.kiosk },
  { path: '/oauth/revoke', allow: '', form: { token: 'x' }, authorization: credentials.kiosk },
]
const ours = addresses.filter(({ allow }) => allow !== '')
const FORM = 'application/x-www-form-urlencoded'

type Malformed = [name: string, body: string | Uint8Array, contentType?: string]

const malformed: Malformed[] = [
  ['malformed percent-encoding', `x=${marker}%zz`],
  ['percent-encoding that breaks off', `x=${marker}%2`],
  ['percent-encoded bytes that are not UTF-8', `x=${marker}%ff%fe`],
  ['bytes that are not UTF-8', new Uint8Array([0x61, 0x3d, 0xff, 0xfe])],
  ['a repeated parameter (RQ-8)', `foo=${marker}&foo=2`],
  ['a repeated parameter, the second empty', `foo=${marker}&foo=`],
  ['NUL in a value', `foo=${marker}%00`],
  ['NUL in a name', `${marker}%00=1`],
  ['200 parameters', Array.from({ length: 200 }, (_, i) => `${marker}${i}=1`).join('&')],
  ['a form that says it is text', `x=${marker}`, 'text/plain'],
  ['a form in another character set', `x=${marker}%e4`, `${FORM}; charset=iso-8859-1`],
  ['multipart', `--b\r\n\r\n${marker}\r\n--b--`, 'multipart/form-data; boundary=b'],
  ['an invalid content type', `x=${marker}`, marker],
]
const malformedJson: Malformed[] = [
  ['JSON that breaks off', `{"x":"${marker}`, 'application/json'],
  ['a JSON list', `["${marker}"]`, 'application/json'],
  ['a JSON null', 'null', 'application/json'],
  ['JSON with an object inside', `{"login_hint":{"x":"${marker}"}}`, 'application/json'],
  ['JSON with a lone surrogate', `{"x":"${marker}\\ud800"}`, 'application/json'],
  ['JSON with NUL', `{"x":"${marker}\\u0000"}`, 'application/json'],
]

for (const address of addresses) {
  describe(`malformed input at ${address.path} (M29)`, () => {
    const isOurs = address.allow !== ''
    // With another content type, oidc-provider parses the body as another form, or not at all.
    const all = isOurs
      ? [...malformed, ...(address.takesJson ? malformedJson : malformedJson.slice(0, 1))]
      : malformed.slice(0, 8)
    for (const [name, body, contentType = FORM] of all) {
      test(`${name}: 400 invalid_request`, async () => {
        const before = await countRows(stage)
        const whole =
          typeof body === 'string' && contentType === FORM ? `${new URLSearchParams(address.form)}&${body}` : body
        const answer = await send(address, whole, contentType)
        if (isOurs) assert.deepEqual([answer.status, answer.body.error], [400, 'invalid_request'], answer.text)
        assertHarmless(answer)
        assert.deepEqual(await countRows(stage), before)
      })
    }

    test('more than 64 KiB: 413', async () => {
      const answer = await send(address, `x=${marker}${'x'.repeat(70_000)}`, FORM)
      assert.equal(answer.status, 413)
      assertHarmless(answer)
    })

    test('an empty body', async () => {
      const answer = await send(address, '', FORM)
      assert.ok(answer.status < 500)
      assertHarmless(answer)
    })

    test('__proto__ and constructor are names like others (VL-7)', async () => {
      const names = '__proto__=1&constructor=2&__proto__[admin]=true&toString=3'
      const answer = await send(address, `${new URLSearchParams(address.form)}&${names}`, FORM)
      const usual = await stage.post(address.path, address.form, address.authorization)
      assert.deepEqual([answer.status, answer.body.error], [usual.status, usual.body.error])
      assert.equal(({} as Record<string, unknown>).admin, undefined)
    })
  })
}

describe('a method that an address does not support: 405 with Allow (EP-3)', () => {
  const others = [
    { path: '/oauth/introspect', allow: 'POST, OPTIONS' },
    { path: '/oauth/revoke', allow: 'POST, OPTIONS' },
    { path: '/oauth/userinfo', allow: 'GET, POST, OPTIONS, HEAD' },
    { path: '/oauth/jwks', allow: 'GET, OPTIONS, HEAD' },
  ]
  for (const { path, allow } of [...ours, ...others]) {
    for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].filter((name) => !allow.includes(name))) {
      test(`${method} ${path}`, async () => {
        const response = await fetch(`${stage.url}${path}?x=${marker}`, { method })
        assert.deepEqual([response.status, response.headers.get('allow')], [405, allow])
        assert.ok(!(await response.text()).includes(marker))
      })
    }
  }
})

describe('parameters are read from the body alone', () => {
  test('credentials and parameters in the query are not read (EP-3)', async () => {
    const query = new URLSearchParams({
      client_id: 'kiosk',
      client_secret: secrets.kiosk,
      scope: 'openid',
      login_hint: 'ana',
    })
    assert.equal((await stage.post(`/backchannel/authorize?${query}`, {})).status, 401)
    assert.equal((await stage.post(`/backchannel/authorize?${query}`, {}, credentials.kiosk)).status, 400)
  })

  test('an empty parameter is an absent one (RQ-9)', async () => {
    const empty = 'requested_expiry=&binding_message=&acr_values=&id_token_hint=&request='
    const form = `scope=openid&login_hint=ana&${empty}`
    assert.equal((await send(addresses[0]!, form, FORM)).status, 200)
    assert.equal((await send(addresses[0]!, `&&${form}&&`, `${FORM}; charset=UTF-8`)).status, 200)
  })

  test('an unknown address: 404, without repeating it', async () => {
    for (const path of [
      `/${marker}`,
      `/oauth/${marker}`,
      `/sign-in/${marker}`,
      `/%zz${marker}`,
      `/backchannel/authorize/${marker}`,
    ]) {
      for (const answer of [await stage.get(path), await stage.post(path, {})]) {
        assert.ok([400, 404, 410].includes(answer.status), `${path} ${answer.status}`)
        assert.ok(!answer.text.includes(marker), answer.text)
        assert.equal(answer.headers.get('x-content-type-options'), 'nosniff', path)
      }
    }
  })
})

describe('no parameter switches checks off (M10)', () => {
  for (const [kind, contentType, make] of [
    [
      'a form',
      FORM,
      (fields: Record<string, unknown>) => String(new URLSearchParams(fields as Record<string, string>)),
    ],
    ['JSON', 'application/json', (fields: Record<string, unknown>) => JSON.stringify(fields)],
  ] as const) {
    test(`SKIP_MODE_CHECK in ${kind} does not let Till poll (TE-4)`, async () => {
      const { auth_req_id } = (await stage.ring('till')).body
      const fields = { grant_type: CIBA, auth_req_id, SKIP_MODE_CHECK: true, skip_mode_check: true }
      const address = { ...addresses[1]!, authorization: credentials.till }
      const answer = await send(address, make(fields), contentType)
      assert.equal(answer.status, 400)
      assert.ok(['unauthorized_client', 'invalid_request'].includes(String(answer.body.error)))
      assert.ok(!('access_token' in answer.body))
    })
  }
})

describe('parameters that a client adds are not passed on (M28)', () => {
  test('secret-looking parameters appear neither in authinfo nor in the mailbox', async () => {
    const secret = `${marker}-secret`
    await stage.ring('northbank', {
      client_secret_2: secret,
      password: secret,
      user_code: secret,
      api_key: secret,
      client_notification_token: secret,
    })
    await stage.doorbell.idle()
    const info = await stage.post('/backchannel/authinfo', { login_hint: 'ana' }, credentials.phoneService)
    const mailbox = await stage.get('/dev/mailbox', { accept: 'application/json' })
    for (const { text } of [info, mailbox]) {
      assert.ok(text.includes('Coffee 4.20'))
      assert.ok(!text.includes(marker))
      assert.ok(!text.includes('auth_req_id'), 'the approval side never sees the auth_req_id (M27)')
    }
    const [newest] = info.body.requests as Record<string, unknown>[]
    assert.deepEqual(Object.keys(newest!).sort(), [
      ...['binding_message', 'client', 'created_at', 'expires_in'],
      ...['passkey_required', 'request_id', 'scope', 'status', 'user_code_required'],
    ])
  })
})

async function send({ path, authorization }: Address, body: string | Uint8Array, contentType: string): Promise<Answer> {
  const headers = { 'content-type': contentType, ...(authorization !== undefined && { authorization }) }
  const response = await fetch(`${stage.url}${path}`, { method: 'POST', headers, body: body as string })
  const text = await response.text()
  const parsed = (() => {
    try {
      return JSON.parse(text) as Record<string, unknown>
    } catch {
      return {}
    }
  })()
  return { status: response.status, headers: response.headers, text, body: parsed }
}

function assertHarmless({ status, headers, text }: Answer): void {
  assert.ok(status < 500, `${status}: ${text}`)
  assert.ok(!text.includes(marker), `repeats what it was sent: ${text}`)
  assert.equal(headers.get('cache-control')?.includes('no-store'), true, 'no-store')
  assert.equal(headers.get('x-content-type-options'), 'nosniff')
  assert.equal(headers.get('referrer-policy'), 'no-referrer')
}
