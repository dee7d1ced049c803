/**
 * Clients that state in detail what they request (RFC 9396). The user reads the details as text, and may approve less.
 * The tokens contain the approved details unchanged.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt } from 'jose'
import { newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, credentials, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import {
  accounts,
  type Detail,
  introspect,
  json,
  limit,
  payment,
  refused,
  sendRequest,
  types,
  withTypes,
} from './detail-types.ts'

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

for (const engine of engines) {
  describe(`a client requests authorization details, on ${engine.name}`, () => {
    test('details are shown, approved, and unchanged in tokens, introspection and refresh (RA-1, RA-2, RA-5, RA-7)', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { authReqId, requestId } = await sendRequest(stage, [payment, accounts], { scope: 'openid offline_access' })
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

    test('the user approves less: only that is in the tokens, in the history, and after a refresh', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { authReqId, requestId } = await sendRequest(stage, [payment, accounts, limit], {
        scope: 'openid offline_access',
      })
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

    test('more than was requested is refused, and nothing is decided', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { requestId } = await sendRequest(stage, [payment, accounts, limit])
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

    test('of two decisions at once one takes effect, with its own details', async (t) => {
      const stage = await openStage(t, withTypes({ engine }))
      const { authReqId, requestId } = await sendRequest(stage, [accounts])
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

describe('in a signed request', () => {
  test('are given as JSON or as JSON text; a parameter beside the JWT is ignored (SR-2, RA-2)', async (t) => {
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
    for (const authorization_details of [payment, 5, [5], 'x', [], [{ ...payment, more: 1 }], [{ type: 'x' }]]) {
      refused(await send({ authorization_details }), 'invalid_authorization_details')
    }
    refused(await send({}, json(payment)), 'invalid_request')
    assert.equal((await send({ request_context: { geo: [1] } })).status, 200, 'FC-12')
    for (const request_context of [[], 5]) refused(await send({ request_context }), 'invalid_request', 'FC-12')
  })
})

describe('at the token endpoint', () => {
  test('a client may request less than was approved; the rest stays available at refresh (RA-6)', async (t) => {
    const stage = await openStage(t, withTypes({ config: { resources: { 'https://api.example': {} } } }))
    const resource = 'https://api.example'
    const { authReqId, requestId } = await sendRequest(stage, [payment, accounts, limit], {
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
    assert.deepEqual(body.authorization_details, [one, { ...limit, most: 5 }], 'the refused call used nothing up')
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

  test('without approved details, none can be requested', async (t) => {
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
    test(`lists only the details that name it as a location or name none, on ${engine.name} (RA-7)`, async (t) => {
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

  test('has no details if none concern it; without a resource a token has all of them', async (t) => {
    const stage = await openStage(t, serving(engines[0]!))
    const first = (await redeem(stage, await approvedFor(stage, [at('ledger')]), {})).body
    const again = (await refresh(stage, first.refresh_token)).body
    for (const body of [first, again]) {
      assert.ok(!('authorization_details' in body))
      assert.ok(!('authorization_details' in decodeJwt(String(body.access_token))))
    }
    const { authReqId, requestId } = await sendRequest(stage, [at('ledger'), at(api)])
    await stage.decide(requestId, 'approved')
    const { body } = await redeem(stage, authReqId, {})
    assert.deepEqual(body.authorization_details, [at('ledger'), at(api)])
  })
})

test('a push brings the granted details and no others (RA-5)', async (t) => {
  const endpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, withTypes({ till: endpoint.url }))
  await stage.ring('till', { ...json(accounts) })
  const less = { ...accounts, accounts: ['DE91'] }
  await stage.decide(await stage.newestRequest(), 'approved', json(less))
  const [heard] = await endpoint.hears(1)
  assert.deepEqual(heard!.body.authorization_details, [less])
  assert.equal(decodeJwt(String(heard!.body.id_token)).sub, ana.id)
})
