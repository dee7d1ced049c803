/** Clients that say exactly what they want (RFC 9396): in words to the user, who may allow less, and to the letter in the tokens. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import { z } from 'zod'
import { loadConfig } from '../../src/config/load.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { newKey, pollClient } from '../cast/assertions.ts'
import { engines } from '../cast/engines.ts'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { bearerOf } from '../cast/phone-app.ts'
import { signedRequest } from '../cast/signed-requests.ts'
import { type Answer, ana, basic, ben, credentials, openStage, type Stage, type StageOptions } from '../cast/stage.ts'
import { countRows, rowsOf } from '../cast/tables.ts'
import { formTokenOn, openVisitor } from '../cast/visitor.ts'

type Detail = { type: string; [field: string]: unknown }

const amount = z.strictObject({ currency: z.string().length(3), value: z.string() })

/** A payment is approved or not; of accounts a user may leave some out; a limit may be lowered. */
const types = {
  payment_initiation: {
    schema: z.strictObject({ amount, creditor: z.string(), locations: z.array(z.string()).exactOptional() }),
    describe: (detail: Detail, locale: string) => {
      const { currency, value } = detail.amount as z.output<typeof amount>
      return `${locale === 'de' ? 'Zahlung an' : 'Pay'} ${detail.creditor}: ${value} ${currency}`
    },
  },
  account_information: {
    schema: {
      type: 'object',
      properties: {
        actions: { type: 'array', items: { enum: ['read_balances', 'read_transactions'] } },
        accounts: { type: 'array', items: { type: 'string' }, minItems: 1 },
        since: { type: 'string' },
      },
      required: ['accounts'],
      additionalProperties: false,
    },
    describe: { en: ['See accounts {{accounts}}', 'Since {{since}}'], de: 'Konten ansehen: {{accounts}}' },
    narrow: ['actions', 'accounts'],
  },
  limit: {
    // Drops what it does not know, as schemas do unless told otherwise.
    schema: z.object({ most: z.number(), nested: z.object({ a: z.number() }).exactOptional() }),
    describe: ({ most }: Detail) => `Up to ${most}`,
    narrow: (asked: Detail, approved: Detail) => Number(approved.most) <= Number(asked.most),
  },
}

const payment: Detail = {
  type: 'payment_initiation',
  amount: { currency: 'EUR', value: '123.50' },
  creditor: 'Merchant <A> & Söhne',
}
const accounts: Detail = {
  type: 'account_information',
  actions: ['read_balances', 'read_transactions'],
  accounts: ['DE40', 'DE75', 'DE91'],
  since: '2026-01-01',
}
const limit: Detail = { type: 'limit', most: 500 }

const withTypes = (options: StageOptions = {}): StageOptions => ({
  ...options,
  config: { ...options.config, authorizationDetails: { types } },
})

const json = (...details: unknown[]) => ({ authorization_details: JSON.stringify(details) })

/** Rings with details and answers what the client got and the request's id. */
async function rung(stage: Stage, details: Detail[], more: Record<string, string> = {}) {
  const { status, body, text } = await stage.ring('kiosk', { ...json(...details), ...more })
  assert.equal(status, 200, text)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

const introspect = (stage: Stage, token: unknown) =>
  stage.post('/oauth/introspect', { token: String(token) }, credentials.kiosk)

const refresh = (stage: Stage, token: unknown, more: Record<string, string> | URLSearchParams = {}) =>
  stage.post(
    '/oauth/token',
    new URLSearchParams([
      ['grant_type', 'refresh_token'],
      ['refresh_token', String(token)],
      ...new URLSearchParams(more),
    ]),
    credentials.kiosk,
  )

const redeem = (stage: Stage, authReqId: unknown, more: Record<string, string>) =>
  stage.post(
    '/oauth/token',
    { grant_type: 'urn:openid:params:grant-type:ciba', auth_req_id: String(authReqId), ...more },
    credentials.kiosk,
  )

function refused({ status, body, text }: Answer, code: string, what?: string) {
  assert.deepEqual([status, body.error], [400, code], `${what}: ${text}`)
}

for (const engine of engines) {
  describe(`a client says what it wants, on ${engine.name}`, () => {
    test('RA-1, RA-2, RA-5, RA-7: it is shown, approved, and the same to the letter in tokens, introspection and refresh', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { authReqId, requestId } = await rung(stage, [payment, accounts], { scope: 'openid offline_access' })
      const [waiting] = await stage.waiting()
      assert.deepEqual(waiting!.authorization_details, [payment, accounts])
      assert.deepEqual(waiting!.authorization_details_text, [
        { lines: ['Pay Merchant <A> & Söhne: 123.50 EUR'] },
        {
          lines: ['See accounts DE40, DE75, DE91', 'Since 2026-01-01'],
          choices: [
            { field: 'actions', members: ['read_balances', 'read_transactions'] },
            { field: 'accounts', members: ['DE40', 'DE75', 'DE91'] },
          ],
        },
      ])
      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'authorization_pending')
      assert.equal((await stage.decide(requestId, 'approved')).status, 200)
      await stage.restart()
      const { body } = await stage.poll('kiosk', authReqId)
      assert.deepEqual(body.authorization_details, [payment, accounts])
      assert.deepEqual((await introspect(stage, body.access_token)).body.authorization_details, [payment, accounts])
      const again = await refresh(stage, body.refresh_token)
      assert.deepEqual(again.body.authorization_details, [payment, accounts], again.text)
      const inspected = (await introspect(stage, again.body.access_token)).body
      assert.deepEqual([inspected.active, inspected.authorization_details], [true, [payment, accounts]])

      await stage.post('/oauth/revoke', { token: String(again.body.access_token) }, credentials.kiosk)
      assert.deepEqual((await introspect(stage, again.body.access_token)).body, { active: false })
    })

    test('the user allows less: only that is in the tokens, in the history, and refreshed', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { authReqId, requestId } = await rung(stage, [payment, accounts, limit], { scope: 'openid offline_access' })
      const less = [
        payment,
        { ...accounts, actions: ['read_balances'], accounts: ['DE40', 'DE91'] },
        { ...limit, most: 50 },
      ]
      const decided = await stage.decide(requestId, 'approved', json(...less))
      assert.deepEqual(decided.body, { request_id: requestId, status: 'approved' }, decided.text)
      const { body } = await stage.poll('kiosk', authReqId)
      assert.deepEqual(body.authorization_details, less)
      assert.deepEqual((await introspect(stage, body.access_token)).body.authorization_details, less)
      assert.deepEqual((await refresh(stage, body.refresh_token)).body.authorization_details, less)
      const history = await rowsOf(stage, 'select authorization_details from backchannel_auth_consent_history')
      assert.deepEqual(
        history.map((row) => JSON.parse(String(row.authorization_details))),
        [less],
      )
      const activity = (await stage.get('/backchannel/activity', { authorization: await bearerOf(stage) })).body
      const [entry] = activity.activity as Record<string, unknown>[]
      assert.deepEqual(entry!.authorization_details, less)
      assert.deepEqual((entry!.authorization_details_text as { lines: string[] }[])[2], { lines: ['Up to 50'] })
    })

    test('whatever is more than was asked is refused, and nothing is decided', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { requestId } = await rung(stage, [payment, accounts, limit])
      const wrong: [string, unknown][] = [
        ['another amount', [{ ...payment, amount: { currency: 'EUR', value: '9.00' } }, accounts, limit]],
        ['another currency', [{ ...payment, amount: { currency: 'USD', value: '123.50' } }, accounts, limit]],
        ['an account more', [payment, { ...accounts, accounts: ['DE40', 'XX'] }, limit]],
        ['an account twice', [payment, { ...accounts, accounts: ['DE40', 'DE40'] }, limit]],
        ['accounts in another order', [payment, { ...accounts, accounts: ['DE75', 'DE40'] }, limit]],
        ['no account', [payment, { ...accounts, accounts: [] }, limit]],
        ['no actions, which might mean all', [payment, { ...accounts, actions: [] }, limit]],
        [
          'a list left out',
          [payment, { type: accounts.type, accounts: accounts.accounts, since: accounts.since }, limit],
        ],
        ['an earlier date', [payment, { ...accounts, since: '1999-01-01' }, limit]],
        ['a field more', [payment, { ...accounts, privileges: ['admin'] }, limit]],
        ['a higher limit', [payment, accounts, { ...limit, most: 501 }]],
        ['a limit that is none', [payment, accounts, { ...limit, most: '5' }]],
        ['a lower limit and a field more', [payment, accounts, { ...limit, most: 5, all: true }]],
        ['one detail left out', [payment, accounts]],
        ['one detail more', [payment, accounts, limit, limit]],
        ['another order', [accounts, payment, limit]],
        ['a type for another', [{ ...limit, type: 'payment_initiation' }, accounts, limit]],
        ['nothing', []],
        ['no list', payment],
        ['a null', null],
      ]
      for (const [what, details] of wrong) {
        const form = { authorization_details: JSON.stringify(details) }
        refused(await stage.decide(requestId, 'approved', form), 'invalid_authorization_details', what)
      }
      refused(
        await stage.decide(requestId, 'approved', { authorization_details: '[' }),
        'invalid_authorization_details',
      )
      refused(await stage.decide(requestId, 'denied', json(payment, accounts, limit)), 'invalid_request')
      assert.equal((await countRows(stage)).backchannel_auth_consent_history, 0)
      assert.equal((await stage.waiting())[0]!.status, 'pending')
      assert.equal((await stage.decide(requestId, 'approved', json(payment, accounts, limit))).status, 200)
    })

    test('of two answers at once one stands, with its details', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { authReqId, requestId } = await rung(stage, [accounts])
      const answers = ['DE40', 'DE75', 'DE91', 'DE40'].map((account) => ({ ...accounts, accounts: [account] }))
      const results = await Promise.all(answers.map((less) => stage.decide(requestId, 'approved', json(less))))
      assert.deepEqual(results.map(({ status }) => status).sort(), [200, 409, 409, 409])
      const won = answers[results.findIndex(({ status }) => status === 200)]
      assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, [won])
      const history = await rowsOf(stage, 'select authorization_details from backchannel_auth_consent_history')
      assert.deepEqual(
        history.map((row) => JSON.parse(String(row.authorization_details))),
        [[won]],
      )
    })
  })
}

describe('what cannot be asked', () => {
  const many = (count: number, detail: Detail = limit) => Array.from({ length: count }, () => detail)
  const nested = (levels: number): unknown => (levels === 0 ? 1 : { a: nested(levels - 1) })
  const wrong: [string, unknown][] = [
    ['no JSON', '[{'],
    ['a text', '"payment_initiation"'],
    ['an object', payment],
    ['a number', 5],
    ['null', null],
    ['an empty list', []],
    ['a null in the list', [null]],
    ['a list in the list', [[payment]]],
    ['no type', [{ amount: 1 }]],
    ['a type that is a number', [{ ...payment, type: 1 }]],
    ['an unknown type', [{ type: 'crypto' }]],
    ['a type of the language', [{ type: 'constructor' }]],
    ['a type in other letters', [{ ...payment, type: 'Payment_initiation' }]],
    ['a known and an unknown type', [payment, { type: 'crypto' }]],
    ['an unknown field', [{ ...payment, urgent: true }]],
    ['an unknown field that the schema would drop', [{ ...limit, least: 1 }]],
    ['one within', [{ ...limit, nested: { a: 1, b: 2 } }]],
    ['an unknown field beside a JSON Schema', [{ ...accounts, iban: 'x' }]],
    ['a field of another kind', [{ ...payment, amount: '123.50' }]],
    ['a value that is not allowed', [{ ...accounts, actions: ['write'] }]],
    ['a missing field', [{ type: 'payment_initiation', amount: payment.amount }]],
    ['locations that are no list', [{ ...payment, locations: 'https://api.example' }]],
    ['an empty location', [{ ...payment, locations: [''] }]],
    ['a number that cannot be kept', `[{"type":"limit","most":1e999}]`],
    ['a number that would be another', `[{"type":"limit","most":12345678901234567890}]`],
    ['__proto__', `[{"type":"limit","most":1,"__proto__":{"a":1}}]`],
    ['a NUL', [{ ...payment, creditor: 'a\0b' }]],
    ['half a letter', `[{"type":"payment_initiation","creditor":"\\ud800"}]`],
    ['too many', many(21)],
    ['too deep', [{ ...limit, nested: nested(8) }]],
    ['so deep that it could hurt', `${'['.repeat(8000)}${']'.repeat(8000)}`],
    ['too long (16 KiB)', [{ ...payment, creditor: 'x'.repeat(16 * 1024) }]],
    ['too long by spaces only', `${JSON.stringify([payment])}${' '.repeat(16 * 1024)}`],
  ]
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))

  test('RA-3: each of these is an invalid_authorization_details, and nothing is kept', async (t) => {
    const stage = await openStage(t, withTypes())
    for (const [what, value] of wrong) {
      const answer = await stage.ring('kiosk', { authorization_details: text(value) })
      refused(answer, 'invalid_authorization_details', what)
      assert.match(String(answer.body.error_description), /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/)
    }
    assert.equal((await countRows(stage)).backchannel_auth_requests, 0)
    assert.equal((await stage.ring('kiosk', json(...many(20)))).status, 200)
    assert.equal((await stage.ring('kiosk', { authorization_details: '' })).status, 200, 'empty is absent (RQ-9)')
  })

  test('a server that declares no type refuses, rather than let something be approved that nobody saw', async (t) => {
    const stage = await openStage(t)
    refused(await stage.ring('kiosk', json(payment)), 'invalid_authorization_details')
  })

  test('RA-8: a client that registered types may use these, and no other', async (t) => {
    const clients = [pollClient('narrow', { client_secret: 'narrow-secret', authorization_details_types: ['limit'] })]
    const stage = await openStage(t, withTypes({ config: { clients } }))
    const ring = (...details: Detail[]) =>
      stage.post(
        '/backchannel/authorize',
        { scope: 'openid', login_hint: 'ana', ...json(...details) },
        basic('narrow', 'narrow-secret'),
      )
    assert.equal((await ring(limit)).status, 200)
    refused(await ring(payment), 'invalid_authorization_details')
    refused(await ring(limit, payment), 'invalid_authorization_details')
    await assert.rejects(
      openStage(t, {
        config: { clients: [pollClient('x', { client_secret: 'y', authorization_details_types: ['limit'] })] },
      }),
      /clients\[0?\d*\]\.authorization_details_types holds a type that this server does not know/,
    )
  })

  test('RA-8: the metadata name the types, if there are any; registration knows them', async (t) => {
    const stage = await openStage(t, withTypes({ config: { registration: { mode: 'open' } } }))
    const { body } = await stage.get('/.well-known/openid-configuration')
    assert.deepEqual(body.authorization_details_types_supported, Object.keys(types))
    const register = (authorization_details_types: unknown) =>
      fetch(`${stage.url}/oauth/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          redirect_uris: ['https://c.example/cb'],
          grant_types: ['authorization_code'],
          authorization_details_types,
        }),
      })
    const good = await register(['limit'])
    assert.equal(good.status, 201)
    assert.deepEqual(((await good.json()) as Record<string, unknown>).authorization_details_types, ['limit'])
    for (const types of [['crypto'], 'limit', [5]]) assert.equal((await register(types)).status, 400)
    const plain = await openStage(t)
    const metadata = (await plain.get('/.well-known/openid-configuration')).body
    assert.ok(!('authorization_details_types_supported' in metadata))
  })

  test('at the authorization endpoint, where nobody would see it', async (t) => {
    const stage = await openStage(t, withTypes())
    const query = new URLSearchParams({
      client_id: 'phone-app',
      response_type: 'code',
      scope: 'openid',
      redirect_uri: 'http://127.0.0.1/callback',
      code_challenge: newSecret(),
      code_challenge_method: 'S256',
      ...json(limit),
    })
    const { headers } = await stage.get(`/oauth/authorize?${query}`)
    assert.match(String(headers.get('location')), /error=invalid_authorization_details/)
  })
})

describe('in a signed request', () => {
  test('SR-2, RA-2: as JSON or as a text of it; beside it, it does not count', async (t) => {
    const key = await newKey('one')
    const bank = pollClient('bank', {
      client_secret: 'bank-secret',
      backchannel_authentication_request_signing_alg: 'ES256',
      jwks: { keys: [key.publicJwk] },
    })
    const stage = await openStage(t, withTypes({ config: { clients: [bank] } }))
    const send = async (claims: Record<string, unknown>, beside = {}) => {
      stage.clock.advance(1)
      const request = await signedRequest(stage, 'bank', { key: key.privateKey, claims })
      return stage.post('/backchannel/authorize', { request, ...beside }, basic('bank', 'bank-secret'))
    }
    for (const authorization_details of [[payment], JSON.stringify([payment])]) {
      assert.equal((await send({ authorization_details })).status, 200)
      assert.deepEqual((await stage.waiting())[0]!.authorization_details, [payment])
    }
    for (const authorization_details of [payment, 5, null, [5], 'x', [], [{ ...payment, more: 1 }], [{ type: 'x' }]]) {
      refused(await send({ authorization_details }), 'invalid_authorization_details')
    }
    refused(await send({}, json(payment)), 'invalid_request')
    assert.equal((await send({ request_context: { geo: [1] } })).status, 200, 'FC-12')
    for (const request_context of [[], 5, null]) refused(await send({ request_context }), 'invalid_request', 'FC-12')
  })
})

describe('at the token endpoint', () => {
  test('RA-6: a client may take less than was approved; the rest stays for refreshed tokens', async (t) => {
    const stage = await openStage(t, withTypes({ config: { resources: { 'https://api.example': {} } } }))
    const resource = 'https://api.example'
    const { authReqId, requestId } = await rung(stage, [payment, accounts, limit], {
      scope: 'openid offline_access',
      resource,
    })
    const one = { ...accounts, accounts: ['DE75'] }
    await stage.decide(requestId, 'approved', json(payment, accounts, { ...limit, most: 50 }))
    for (const more of [[limit], [payment, payment], [{ ...accounts, accounts: ['XX'] }], [{ type: 'x' }], []]) {
      refused(await redeem(stage, authReqId, json(...more)), 'invalid_authorization_details', JSON.stringify(more))
    }
    refused(await redeem(stage, authReqId, { authorization_details: '{' }), 'invalid_authorization_details')
    const { body } = await redeem(stage, authReqId, json(one, { ...limit, most: 5 }))
    assert.deepEqual(
      body.authorization_details,
      [one, { ...limit, most: 5 }],
      'nothing was used up by what was refused',
    )
    assert.deepEqual((await introspect(stage, body.access_token)).body.authorization_details, [
      one,
      { ...limit, most: 5 },
    ])
    const all = await refresh(stage, body.refresh_token)
    assert.deepEqual(all.body.authorization_details, [payment, accounts, { ...limit, most: 50 }])
    const some = await refresh(stage, body.refresh_token, { ...json(payment), resource })
    assert.deepEqual(some.body.authorization_details, [payment], some.text)
    for (const more of [[limit], [payment, payment], [{ ...payment, creditor: 'x' }]]) {
      refused(await refresh(stage, body.refresh_token, { ...json(...more), resource }), 'invalid_authorization_details')
    }
  })

  test('nothing was asked for in detail: nothing can be taken in detail', async (t) => {
    const stage = await openStage(t, withTypes())
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    refused(await redeem(stage, auth_req_id, json(limit)), 'invalid_authorization_details')
    const { status, body } = await stage.poll('kiosk', auth_req_id)
    assert.deepEqual([status, 'authorization_details' in body], [200, false])
  })
})

describe('a token for one service', () => {
  const [api, ledger] = ['https://api.example.com', 'https://ledger.example.com']
  const resources = {
    [api]: { accessTokenFormat: 'jwt' as const },
    [ledger]: { audience: 'ledger' },
  }
  const at = (...locations: string[]): Detail => ({ ...payment, locations })
  const serving = (engine: (typeof engines)[number]): StageOptions => ({
    engine,
    config: { authorizationDetails: { types }, resources },
  })

  async function approvedFor(stage: Stage, details: Detail[]) {
    const form = new URLSearchParams({ scope: 'openid offline_access', login_hint: 'ana', ...json(...details) })
    for (const resource of [api, ledger]) form.append('resource', resource)
    const { body, text } = await stage.post('/backchannel/authorize', form, credentials.kiosk)
    assert.ok(body.auth_req_id, text)
    await stage.decide(await stage.newestRequest(), 'approved')
    return body.auth_req_id
  }

  for (const engine of engines) {
    test(`RA-7: carries what names it among its locations, or names none, on ${engine.name}`, async (t) => {
      const stage = await openStage(t, serving(engine))
      const all = [at(api), at('ledger'), at(ledger, api), at('https://elsewhere.example'), accounts]
      const forApi = [at(api), at(ledger, api), accounts]
      const first = (await redeem(stage, await approvedFor(stage, all), {})).body
      assert.deepEqual(first.authorization_details, forApi)
      assert.deepEqual(decodeJwt(String(first.access_token)).authorization_details, forApi)

      const forLedger = [at('ledger'), at(ledger, api), accounts]
      const second = (await refresh(stage, first.refresh_token, { resource: ledger })).body
      assert.deepEqual(second.authorization_details, forLedger)
      assert.deepEqual((await introspect(stage, second.access_token)).body.authorization_details, forLedger)
      const third = (await refresh(stage, first.refresh_token, { resource: api })).body
      assert.deepEqual(decodeJwt(String(third.access_token)).authorization_details, forApi)
    })
  }

  test('carries none where none is its business; without a resource all of them are there', async (t) => {
    const stage = await openStage(t, serving(engines[0]!))
    const first = (await redeem(stage, await approvedFor(stage, [at('ledger')]), {})).body
    const again = (await refresh(stage, first.refresh_token)).body
    for (const body of [first, again]) {
      assert.ok(!('authorization_details' in body))
      assert.ok(!('authorization_details' in decodeJwt(String(body.access_token))))
    }
    const { authReqId, requestId } = await rung(stage, [at('ledger'), at(api)])
    await stage.decide(requestId, 'approved')
    const { body } = await redeem(stage, authReqId, {})
    assert.deepEqual(body.authorization_details, [at('ledger'), at(api)])
  })
})

test('RA-5: a push brings what was granted, and only that', async (t) => {
  const endpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, withTypes({ till: endpoint.url }))
  await stage.ring('till', { ...json(accounts) })
  const less = { ...accounts, accounts: ['DE91'] }
  await stage.decide(await stage.newestRequest(), 'approved', json(less))
  const [heard] = await endpoint.hears(1)
  assert.deepEqual(heard!.body.authorization_details, [less])
  assert.equal(decodeJwt(String(heard!.body.id_token)).sub, ana.id)
})

describe('who decides', () => {
  test("the user's own app narrows with JSON; Ben learns nothing of Ana's", async (t) => {
    const stage = await openStage(t, withTypes())
    const { authReqId, requestId } = await rung(stage, [accounts])
    const complete = async (who: typeof ana | typeof ben, authorization_details: unknown) => {
      const authorization = await bearerOf(stage, who)
      const response = await fetch(`${stage.url}/backchannel/complete`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify({ request_id: requestId, status: 'approved', authorization_details }),
      })
      return response.status
    }
    assert.equal(await complete(ben, [accounts]), 404)
    assert.equal(await complete(ben, [limit]), 404, 'not even whether this would have been too much')
    assert.equal(await complete(ana, [limit]), 400)
    assert.equal(await complete(ana, [{ ...accounts, accounts: ['DE40'] }]), 200)
    const { body } = await stage.poll('kiosk', authReqId)
    assert.deepEqual(body.authorization_details, [{ ...accounts, accounts: ['DE40'] }])
  })

  test('the words are in the language that is asked for, and hide nothing (RA-10)', async (t) => {
    const stage = await openStage(t, withTypes())
    const authorization = await bearerOf(stage)
    const words = async (query: string, headers = {}) => {
      const { body } = await stage.get(`/backchannel/authinfo${query}`, { authorization, ...headers })
      const [newest] = body.requests as { authorization_details_text: { lines: string[] }[] }[]
      return newest!.authorization_details_text[0]!.lines
    }
    await rung(stage, [payment])
    assert.deepEqual(await words('?ui_locales=de-AT'), ['Zahlung an Merchant <A> & Söhne: 123.50 EUR'])
    assert.deepEqual(await words('', { 'accept-language': 'de' }), ['Zahlung an Merchant <A> & Söhne: 123.50 EUR'])
    assert.deepEqual(await words('?ui_locales=fr'), ['Pay Merchant <A> & Söhne: 123.50 EUR'])
    await rung(stage, [accounts])
    assert.deepEqual(await words('?ui_locales=de'), ['Konten ansehen: DE40, DE75, DE91'])
    await rung(stage, [{ ...payment, creditor: 'A\u202eB\u200bC\nD' }])
    assert.deepEqual(await words(''), ['Pay A\ufffdB\ufffdC\ufffdD: 123.50 EUR'])
  })

  test('a description that fails, or says nothing, shows the fields as they are', async (t) => {
    const schema = z.looseObject({})
    const failing = {
      throws: { schema, describe: () => assert.fail('bug') },
      silent: { schema, describe: () => ['', ' '] },
    }
    const stage = await openStage(t, { config: { authorizationDetails: { types: failing } } })
    await rung(stage, [
      { type: 'throws', to: { iban: 'DE40', name: 'B' }, sums: [1, 2], why: null },
      { type: 'silent', loud: false },
    ])
    const [{ authorization_details_text: texts }] = (await stage.waiting()) as [Record<string, unknown>]
    assert.deepEqual(texts, [
      { lines: ['type: throws', 'to: DE40 B', 'sums: 1, 2', 'why: –'] },
      { lines: ['type: silent', 'loud: false'] },
    ])
    assert.match(stage.logLines.join(''), /"event":"details.not_described","type":"throws"/)
  })

  test('application code sees them and may approve less, not more', async (t) => {
    const stage = await openStage(t, withTypes())
    const { authReqId, requestId } = await rung(stage, [accounts])
    const { requests } = stage.doorbell
    assert.deepEqual((await requests.list(ana.id))[0]!.authorizationDetails, [accounts])
    const more = [{ ...accounts, accounts: ['XX'] }]
    await assert.rejects(requests.approve(requestId, ana.id, {}, { authorizationDetails: more }), {
      code: 'invalid_authorization_details',
    })
    assert.deepEqual(await requests.approve(requestId, ben.id, {}, { authorizationDetails: more }), { kind: 'unknown' })
    const less = [{ ...accounts, accounts: ['DE75', 'DE91'] }]
    assert.equal((await requests.approve(requestId, ana.id, {}, { authorizationDetails: less })).kind, 'settled')
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, less)
  })
})

describe('on the page', () => {
  async function looking(t: TestContext, details: Detail[]) {
    const stage = await openStage(t, withTypes())
    const { authReqId, requestId } = await rung(stage, details)
    const path = `/approve/${requestId}`
    const visitor = openVisitor(stage.url)
    const page = await visitor.signIn(ana, path)
    assert.equal(page.status, 200)
    const boxes = [
      ...page.text.matchAll(/<input type="checkbox" form="approving" name="([^"]+)" value="yes" checked> ([^\s<]+)/g),
    ]
    return { stage, path, page, visitor, authReqId, boxes: new Map(boxes.map(([, name, text]) => [text!, name!])) }
  }

  test('RA-4: it says in words what is asked, escaped, beside what the scope says', async (t) => {
    const { page, boxes, visitor } = await looking(t, [payment])
    assert.match(page.text, /know who you are/)
    assert.match(page.text, /What exactly is asked:/)
    assert.match(page.text, /<p>Pay Merchant &lt;A&gt; &amp; Söhne: 123.50 EUR<\/p>/)
    assert.equal(boxes.size, 0, 'a payment is all or nothing')
    assert.match((await visitor.get('/')).text, /Pay Merchant &lt;A&gt;/)
    assert.match(page.text, /<form id="approving" method="post"/)
  })

  test('boxes that are not ticked are not allowed, without any script; the history says so', async (t) => {
    const { stage, path, page, visitor, authReqId, boxes } = await looking(t, [payment, accounts])
    assert.deepEqual([...boxes.keys()], ['read_balances', 'read_transactions', 'DE40', 'DE75', 'DE91'])
    const ticked = ['read_transactions', 'DE75'].map((text) => [boxes.get(text)!, 'yes'])
    const form = { form_token: formTokenOn(page), decision: 'approve', ...Object.fromEntries(ticked) }
    assert.equal((await visitor.post(path, form)).location, `${path}?just=approve`)
    const less = [payment, { ...accounts, actions: ['read_transactions'], accounts: ['DE75'] }]
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, less)
    const activity = (await visitor.get('/activity')).text
    assert.match(activity, /<p>See accounts DE75<\/p>/)
    assert.match(activity, /<p>Pay Merchant &lt;A&gt; &amp; Söhne: 123.50 EUR<\/p>/)
  })

  test('with all boxes ticked all of it is allowed', async (t) => {
    const { stage, path, page, visitor, authReqId, boxes } = await looking(t, [accounts])
    const ticked = Object.fromEntries([...boxes.values()].map((name) => [name, 'yes']))
    await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve', ...ticked })
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, [accounts])
  })

  test('with none ticked nothing is decided, and the page says what to do', async (t) => {
    const { stage, path, page, visitor, boxes } = await looking(t, [accounts])
    for (const ticked of [{}, { [boxes.get('DE40')!]: 'yes' }]) {
      const seen = await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve', ...ticked })
      assert.equal(seen.location, `${path}?left=nothing`)
      assert.match((await visitor.follow(seen)).text, /role="alert">Something has to stay ticked/)
    }
    assert.equal((await stage.waiting())[0]!.status, 'pending')
    await visitor.post(path, { form_token: formTokenOn(page), decision: 'deny' })
    const activity = (await visitor.get('/activity')).text
    assert.match(activity, /<p>See accounts DE40, DE75, DE91<\/p>/, 'what was not allowed')
  })

  test('with more boxes than a form can hold it is all or nothing', async (t) => {
    const long = { ...accounts, accounts: Array.from({ length: 90 }, (_, n) => `DE${n}`) }
    const { stage, path, page, visitor, authReqId, boxes } = await looking(t, [long])
    assert.equal(boxes.size, 0)
    await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve' })
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, [long])
  })
})

describe('the configuration', () => {
  const load = (authorizationDetails: unknown) =>
    loadConfig({
      env: {},
      overrides: { development: true, database: 'sqlite::memory:', authorizationDetails } as never,
    })
  const good = { schema: z.strictObject({}), describe: () => 'x' }

  test('says of everything that is wrong what would be right', async () => {
    for (const [types, complaint] of [
      [5, 'authorizationDetails.types must be an object'],
      [{ a: 5 }, 'authorizationDetails.types.a must be an object with schema and describe'],
      [{ a: {} }, 'authorizationDetails.types.a.schema must be a schema of zod, or a JSON Schema'],
      [
        { a: { schema: good.schema } },
        'authorizationDetails.types.a.describe must be a function, or texts by language',
      ],
      [{ a: { ...good, describe: { en: 5 } } }, 'authorizationDetails.types.a.describe must be a function'],
      [{ a: { ...good, describe: {} } }, 'authorizationDetails.types.a.describe must be a function'],
      [{ a: { ...good, describe: { tlh: 'x' } } }, 'authorizationDetails.types.a.describe must be a function'],
      [{ a: { ...good, narrow: [] } }, 'authorizationDetails.types.a.narrow must be a list'],
      [{ a: { ...good, narow: ['b'] } }, 'authorizationDetails.types.a.narow is not a setting'],
      [
        { a: { ...good, schema: { type: 'string' } } },
        'authorizationDetails.types.a.schema must be a JSON Schema with',
      ],
      [
        { a: { ...good, schema: { type: 'object', if: {} } } },
        'authorizationDetails.types.a.schema is not a JSON Schema',
      ],
      [
        { a: { ...good, schema: z.object({ type: z.string() }) } },
        'authorizationDetails.types.a.schema must leave "type" out',
      ],
      [{ a: { ...good, schema: { type: 'object', properties: { type: {} } } } }, 'must leave "type" out'],
      [{ 'a b': good }, 'authorizationDetails.types.a b must have a name of printable ASCII without spaces'],
    ] as const) {
      await assert.rejects(load({ types }), (error: Error) => {
        assert.ok(error.message.includes(complaint), error.message)
        return true
      })
    }
    await assert.rejects(load({ typs: {} }), /authorizationDetails.typs is not a setting/)
  })
})
