/**
 * The forms in which clients send a hint: phone numbers in every spelling (RFC 3966), and subject identifiers as JSON
 * (RFC 9493). All forms lead to the same user as the plain text.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { UserHint } from '../../src/user/user.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, ana, basic, ben, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'

/** Carla is configured with visual separators. Dora is added by command, in another spelling. */
const carla = { id: 'user-carla', username: 'carla', phone_number: '+49 (151) 23-45.67' }
const dora = { id: 'user-dora', username: 'dora', email: 'dora@example.com', phone_number: '+44 20.7946-0018' }
/**
 * Emil is configured with a `tel:` address, and Erik with a number as a contact app copies it. Finn is added in the
 * first of these forms.
 */
const emil = { id: 'user-emil', username: 'emil', phone_number: 'tel:+49-30-901820' }
const erik = { id: 'user-erik', username: 'erik', phone_number: '\u202a+49\u00a030\u202f1234\u201156\u202c' }
const finn = { id: 'user-finn', username: 'finn', phone_number: 'TEL:+353-1-677-1234' }
/** Gina's number is stored as a `tel:` address, by a statement of the operator. */
const gina = { id: 'user-gina', username: 'gina', phone_number: 'tel:+33-1-70-18-99-00' }

async function scene(t: TestContext, engine: Engine): Promise<Stage> {
  const stage = await openStage(t, { engine, config: { users: [ana, ben, carla, emil, erik] } })
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  for (const user of [dora, finn]) await createUserStore(database).add(user, stage.clock.now())
  await database.step({
    sql: `insert into users (id, username, phone_number, disabled, created_at) values ($1, $2, $3, 0, $4)
          returning id`,
    values: [gina.id, gina.username, gina.phone_number, stage.clock.now()],
  })
  await database.close()
  return stage
}

const json = (format: string, members: object) => JSON.stringify({ format, ...members })

async function assertFinds(stage: Stage, login_hint: string, user: { id: string }): Promise<void> {
  const { status, text } = await stage.ring('kiosk', { login_hint })
  assert.equal(status, 200, `${login_hint}: ${text}`)
  const [newest] = await stage.doorbell.requests.list(user.id, { only: 'open' })
  assert.equal(newest?.createdAt, stage.clock.now(), login_hint)
}

function assertRefused({ status, body, text }: Answer, error: string, hint: string): void {
  assert.deepEqual([status, body.error], [400, error], `${hint}: ${text}`)
}

for (const engine of engines) {
  describe(`phone numbers, on ${engine.name}`, () => {
    const same: [user: { id: string }, hints: string[]][] = [
      [
        ana,
        [
          '+34600000001',
          'tel:+34600000001',
          'TEL:+34-600-000-001',
          '+34 600 000 001',
          '+34 (600) 000.001',
          '+34600/000001',
          json('phone_number', { phone_number: '+34 600 000 001' }),
        ],
      ],
      [carla, [carla.phone_number, '+49151234567', 'tel:+49-151-234567', 'tel:+49(151)234567']],
      [dora, [dora.phone_number, '+442079460018', 'tel:+44-20-7946-0018', '+44 20 7946 0018']],
      [emil, [emil.phone_number, '+4930901820', '+49 30 901820', 'Tel:+49(30)901820']],
      [erik, [erik.phone_number, '+4930123456', 'tel:+49-30-1234-56']],
      [finn, [finn.phone_number, '+35316771234', 'tel:+353-1-6771234', '+353 (1) 677-1234']],
      [gina, [gina.phone_number, '+33170189900', 'tel:+33170189900', '+33 1 70 18 99 00']],
      // The number as contact apps, word processors and web pages write it.
      [
        ana,
        [
          '+34\u00a0600\u00a0000\u00a0001',
          '+34\u202f600\u202f000\u202f001',
          '+34\u2011600\u2011000\u2011001',
          '+34\u2009600\u2009000\u2009001',
          '+34 600\u2013000\u2013001',
          '+34 600\u2212000\u2212001',
          '\u202a+34 600 000 001\u202c',
          '\u200e+34 600 000 001',
          '\u2066+34600000001\u2069',
          '+34600\u200b000\u2060001',
          'tel:+34\u00a0600000001',
          '(+34) 600 000 001',
          json('phone_number', { phone_number: '+34\u00a0600\u2011000\u2011001' }),
        ],
      ],
    ]
    test('find their user as tel addresses, and with or without visual separators', async (t) => {
      const stage = await scene(t, engine)
      for (const [user, hints] of same) for (const hint of hints) await assertFinds(stage, hint, user)
    })

    test('find their user in the bytes that openid-client sends', async (t) => {
      const stage = await scene(t, engine)
      const bodies: [{ id: string }, string][] = [
        [emil, 'scope=openid&login_hint=tel%3A%2B49-30-901820&binding_message=Coffee+4.20&client_id=kiosk'],
        [emil, 'scope=openid&login_hint=%2B49%C2%A030%C2%A0901820&binding_message=Coffee+4.20&client_id=kiosk'],
        [erik, 'scope=openid&login_hint=%E2%80%AA%2B49%C2%A030%E2%80%AF1234%E2%80%9156%E2%80%AC&client_id=kiosk'],
        [gina, 'scope=openid&login_hint=tel%3A%2B33-1-70-18-99-00&binding_message=Coffee+4.20&client_id=kiosk'],
      ]
      for (const [user, body] of bodies) {
        stage.clock.advance(1)
        const { status } = await fetch(`${stage.url}/backchannel/authorize`, {
          method: 'POST',
          headers: {
            authorization: credentials.kiosk,
            'content-type': 'application/x-www-form-urlencoded;charset=UTF-8',
            'user-agent': 'openid-client/v6.9.0',
          },
          body,
        })
        assert.equal(status, 200, body)
        const [newest] = await stage.doorbell.requests.list(user.id, { only: 'open' })
        assert.equal(newest?.createdAt, stage.clock.now(), body)
      }
    })

    test('are given to clients without tel: and with plain separators', async (t) => {
      const stage = await scene(t, engine)
      const given: [{ id: string; username: string }, string][] = [
        [emil, '+49-30-901820'],
        [erik, '+49 30 1234-56'],
        [finn, '+353-1-677-1234'],
        [carla, carla.phone_number],
      ]
      for (const [{ id, username }, number] of given) {
        const { body } = await stage.ring('kiosk', { login_hint: username, scope: 'openid phone' })
        const [newest] = await stage.doorbell.requests.list(id, { only: 'open' })
        await stage.decide(newest!.requestId, 'approved', { login_hint: username })
        const { access_token } = (await stage.poll('kiosk', body.auth_req_id)).body
        const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })
        assert.equal(userinfo.body.phone_number, number)
      }
    })

    test('cannot be those of two users, in whatever form', async (t) => {
      const stage = await scene(t, engine)
      const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
      for (const phone_number of ['+35316771234', 'tel:+353 1 677 1234', '+353\u00a01\u00a06771234', '+33170189900']) {
        const another = { id: 'user-hans', username: 'hans', phone_number }
        assert.equal(await createUserStore(database).add(another, stage.clock.now()), false, phone_number)
      }
      await database.close()
    })

    test('find nobody if they are other numbers', async (t) => {
      const stage = await scene(t, engine)
      for (const hint of [
        '34600000001',
        '0034600000001',
        '+3460000000',
        '+346000000011',
        'tel:+34600000001;ext=5',
        'tel:600000001;phone-context=+34',
        'tel:tel:+34600000001',
        'tel:',
        'tel:ana',
        '+',
        '()',
        `+34600000001${' '.repeat(100)}`,
        '+34\u00a060000000',
        '+34600000001+',
        '+34+600000001',
        '+3460000000\u0661',
        '\u202atel:tel:+34600000001',
        '+34600000001\u2028',
        '\u00a0\u2011',
      ]) {
        assertRefused(await stage.ring('kiosk', { login_hint: hint }), 'unknown_user_id', hint)
      }
    })
  })

  describe(`subject identifiers, on ${engine.name}`, () => {
    test('find the same user as the plain text', async (t) => {
      const stage = await scene(t, engine)
      const here = new URL(stage.url).host
      const identifiers: [string, { id: string }][] = [
        [json('iss_sub', { iss: stage.url, sub: ana.id }), ana],
        // auth0-auth-js writes this form: its issuers end with a slash.
        [`{"format":"iss_sub","iss":"${stage.url}/","sub":"user-dora"}`, dora],
        [json('email', { email: 'Ana@Example.com' }), ana],
        [json('email', { email: 'dora@example.com' }), dora],
        [json('phone_number', { phone_number: carla.phone_number }), carla],
        [json('phone_number', { phone_number: 'tel:+442079460018' }), dora],
        [json('opaque', { id: 'user-ben' }), ben],
        [json('account', { uri: 'acct:ana@example.com' }), ana],
        [json('account', { uri: 'ACCT:ana%40example.com' }), ana],
        [json('account', { uri: `acct:carla@${here}` }), carla],
        [json('account', { uri: `acct:dora@${here.toUpperCase()}` }), dora],
        [`\n ${json('aliases', { identifiers: [{ format: 'opaque', id: 'user-ben' }] })}`, ben],
        [
          json('aliases', {
            identifiers: [
              { format: 'email', email: 'nobody@example.com' },
              { format: 'did', url: 'did:example:123' },
              { format: 'iss_sub', iss: stage.url, sub: ana.id },
              { format: 'phone_number', phone_number: '+34-600000001' },
            ],
          }),
          ana,
        ],
      ]
      for (const [hint, user] of identifiers) await assertFinds(stage, hint, user)
    })

    test('find no user if they name no user or two users, or if the value does not fit the format', async (t) => {
      const stage = await scene(t, engine)
      for (const hint of [
        json('iss_sub', { iss: 'https://elsewhere.example', sub: ana.id }),
        json('iss_sub', { iss: stage.url, sub: 'ana' }),
        json('email', { email: 'ana' }),
        json('email', { email: '+34600000001' }),
        json('phone_number', { phone_number: 'ana@example.com' }),
        json('opaque', { id: 'ana@example.com' }),
        json('account', { uri: 'acct:ana@elsewhere.example' }),
        json('account', { uri: `acct:user-ana@${new URL(stage.url).host}` }),
        json('did', { url: 'did:example:123' }),
        json('unheard-of', {}),
        json('__proto__', {}),
        json('aliases', {
          identifiers: [
            { format: 'opaque', id: ana.id },
            { format: 'opaque', id: ben.id },
          ],
        }),
        json('aliases', { identifiers: [{ format: 'opaque', id: 'nobody' }] }),
        '{"sub":"user-ana"}',
        '{"format":7,"id":"user-ana"}',
        '{"format":"opaque","id":"user-ana"',
        '[{"format":"opaque","id":"user-ana"}]',
        '{}',
      ]) {
        assertRefused(await stage.ring('kiosk', { login_hint: hint }), 'unknown_user_id', hint)
      }
    })

    test('are refused if they lack what their format requires', async (t) => {
      const stage = await scene(t, engine)
      const alias = { format: 'opaque', id: ana.id }
      for (const hint of [
        json('iss_sub', { sub: ana.id }),
        json('iss_sub', { iss: stage.url, sub: 7 }),
        json('email', { email: '' }),
        json('email', { mail: 'ana@example.com' }),
        json('phone_number', { phone_number: null }),
        json('opaque', { id: { toString: 1 } }),
        json('opaque', { id: 'user-ana\0' }),
        json('account', { uri: 'ana@example.com' }),
        json('aliases', { identifiers: [] }),
        json('aliases', { identifiers: {} }),
        json('aliases', { identifiers: [alias, alias, alias, alias, alias, alias] }),
        json('aliases', { identifiers: [{ format: 'aliases', identifiers: [alias] }] }),
        json('aliases', { identifiers: ['user-ana'] }),
        json('aliases', { identifiers: [{ format: 'email' }] }),
        json('unheard-of', { deep: JSON.parse('['.repeat(200) + ']'.repeat(200)) }),
      ]) {
        assertRefused(await stage.ring('kiosk', { login_hint: hint }), 'invalid_request', hint)
      }
    })
  })
}

test('a device service and a signed request may use them too', async (t) => {
  const key = await newKey('one')
  const bank = pollClient('bank', {
    client_secret: 'bank-secret',
    backchannel_authentication_request_signing_alg: 'ES256',
    jwks: { keys: [key.publicJwk] },
  })
  const stage = await openStage(t, { config: { clients: [bank] } })
  for (const login_hint of [json('email', { email: ana.email }), 'tel:+34-600-000-001']) {
    const request = await signedRequest(stage, 'bank', { key: key.privateKey, claims: { login_hint } })
    const { status, text } = await stage.post('/backchannel/authorize', { request }, basic('bank', 'bank-secret'))
    assert.equal(status, 200, text)
    assert.ok((await stage.waiting(login_hint)).length > 0)
  }
})

test('for a client with pairwise subjects, iss_sub contains the subject of this client', async (t) => {
  const key = await newKey('one')
  const shop = pollClient('shop', {
    token_endpoint_auth_method: 'private_key_jwt',
    subject_type: 'pairwise',
    sector_identifier_uri: 'https://shop.example/sector.json',
    jwks: { keys: [key.publicJwk] },
  })
  const stage = await openStage(t, { config: { clients: [shop] } })
  const post = async (path: string, form: Record<string, string>) =>
    stage.post(path, { ...form, ...asserted(await assertionOf(stage, 'shop', { key: key.privateKey })) })
  const ask = (login_hint: string) => post('/backchannel/authorize', { scope: 'openid', login_hint })
  const { auth_req_id } = (await ask('ana')).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const tokens = await post('/oauth/token', { grant_type: CIBA, auth_req_id: String(auth_req_id) })
  const [, payload] = String(tokens.body.id_token).split('.')
  const { sub } = JSON.parse(Buffer.from(payload!, 'base64url').toString()) as { sub: string }
  assert.notEqual(sub, ana.id)
  assert.equal((await ask(json('iss_sub', { iss: stage.url, sub }))).status, 200)
  const raw = json('iss_sub', { iss: stage.url, sub: ana.id })
  assertRefused(await ask(raw), 'unknown_user_id', raw)
  assertRefused(
    await stage.ring('kiosk', { login_hint: json('iss_sub', { iss: stage.url, sub }) }),
    'unknown_user_id',
    sub,
  )
})

test('hooks get the hint as it was sent, and the subject identifier parsed', async (t) => {
  const heard: UserHint[] = []
  const stage = await openStage(t, {
    config: {
      users: {
        find: async (id) => (id === ana.id ? ana : null),
        async findByHint(hint) {
          heard.push(hint)
          return ana
        },
      },
    },
  })
  const hints: [string, UserHint['identifier']][] = [
    ['tel:+34600000001', undefined],
    ['{"format":"email"', undefined],
    ['{"format":"email","email":"a@b.example"}', { format: 'email', email: 'a@b.example' }],
    ['{"format":"customer","number":7,"branch":{"id":"x"}}', { format: 'customer', number: 7, branch: { id: 'x' } }],
    [`{"format":"iss_sub","iss":"${stage.url}/","sub":"u"}`, { format: 'iss_sub', iss: stage.url, sub: 'u' }],
    [
      '{"format":"iss_sub","iss":"https://elsewhere.example/","sub":"u"}',
      { format: 'iss_sub', iss: 'https://elsewhere.example/', sub: 'u' },
    ],
  ]
  for (const [value, identifier] of hints) {
    assert.equal((await stage.ring('kiosk', { login_hint: value })).status, 200, value)
    const expected = { kind: 'login_hint', value, ...(identifier && { identifier }) }
    assert.deepEqual(heard.pop(), expected)
  }
})

test('all forms of an unknown name lead to one decoy user, so that its limits do not reveal it', async (t) => {
  const stage = await openStage(t, { config: { requests: { unknownUsers: 'pretend', maxOpenPerUser: 5 } } })
  const forms: string[][] = [
    ['+34611111111', 'tel:+34-611-111-111', '+34 611 111 111'],
    ['zoe@example.com', 'Zoe@example.com', 'ZOE@EXAMPLE.COM'],
    ['zoe', 'ZOE', 'Zoe'],
    [
      json('iss_sub', { iss: stage.url, sub: 'user-zoe' }),
      JSON.stringify({ sub: 'user-zoe', iss: stage.url, format: 'iss_sub' }),
      ` ${json('iss_sub', { iss: stage.url, sub: 'user-zoe' })}`,
    ],
  ]
  for (const spellings of forms) {
    const answers: number[] = []
    for (let n = 0; n < 6; n++) {
      const { status } = await stage.ring('kiosk', { login_hint: spellings[n % spellings.length]! })
      answers.push(status)
    }
    assert.deepEqual(answers, [200, 200, 200, 200, 200, 403], spellings[0])
  }
})
