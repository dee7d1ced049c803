/** Clients that refresh or poll for a part of the approved request: some of the details, or one resource. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as openid from 'openid-client'
import { engines } from '../support/engines.ts'
import { playedBy } from '../support/foreign-client.ts'
import { type Answer, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { openForSuite } from '../support/teardown.ts'
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
import { unlimited } from './keyed-clients.ts'

const post = (stage: Stage, form: Record<string, string>) => stage.post('/oauth/token', form, credentials.kiosk)
const redeem = (stage: Stage, authReqId: unknown, more: Record<string, string> = {}) =>
  post(stage, { grant_type: CIBA, auth_req_id: String(authReqId), ...more })
const refresh = (stage: Stage, token: unknown, more: Record<string, string> = {}) =>
  post(stage, { grant_type: 'refresh_token', refresh_token: String(token), ...more })

const granted = [payment, accounts, { ...limit, most: 50 }]
const parts: [string, Detail[]][] = [
  ['one of them', [payment]],
  ['two of them, in another order', [limit50(), payment]],
  ['all of them', granted],
  ['one with a shorter list', [{ ...accounts, accounts: ['DE75'] }]],
  ['one with a lower limit', [{ ...limit, most: 5 }]],
  ['one as it is, another narrowed', [payment, { ...accounts, actions: ['read_balances'] }]],
]
const tooMuch: Detail[][] = [
  [limit],
  [payment, payment],
  [{ ...accounts, accounts: ['XX'] }],
  [{ ...payment, creditor: 'x' }],
  [{ type: 'unknown' }],
]

const api = 'https://api.example.com'
const withPath = 'https://ledger.example.com/v1/'
const urn = 'urn:example:printer'
const spellings: [configured: string, asked: string][] = [
  [api, `${api}/`],
  [`${api}/`, api],
  [api, 'HTTPS://API.example.com'],
  [api, `${api}:443`],
  [`${api}:443/`, api],
  [withPath, 'https://LEDGER.example.com:443/x/../v1/'],
  [urn, 'URN:example:printer'],
  ['https://ana.example.com/~ana', 'https://ana.example.com/%7Eana'],
  ['https://ana.example.com/a%2fb', 'https://ana.example.com/a%2Fb'],
  ['https://caf.example.com/caf%C3%A9', 'https://caf.example.com/caf%c3%a9'],
]
const others: [configured: string, asked: string][] = [
  [api, 'http://api.example.com'],
  [api, `${api}//`],
  [api, `${api}/v1`],
  [api, `${api}?x`],
  [api, 'https://user@api.example.com'],
  [api, `${api}:80`],
  [withPath, 'https://ledger.example.com/v1'],
  [withPath, 'https://ledger.example.com/V1/'],
  [withPath, 'https://ledger.example.com/v1%2F'],
  [urn, 'urn:example:PRINTER'],
]

const ask = (stage: Stage, resource: string) => stage.ring('kiosk', { scope: 'openid offline_access', resource })
const audienceOf = async (stage: Stage, { body, text }: Answer) => {
  assert.ok(body.access_token, text)
  return (await introspect(stage, body.access_token)).body.aud
}

for (const engine of engines) {
  describe(`authorization details are narrowed at a refresh without any resource (RA-6, RA-9), on ${engine.name}`, () => {
    const it = openForSuite((t) => openStage(t, withTypes({ engine })))

    test('each part, in the answer and at introspection', async () => {
      const stage = it()
      const { authReqId, requestId } = await sendRequest(stage, [payment, accounts, limit], {
        scope: 'openid offline_access',
      })
      await stage.decide(requestId, 'approved', json(...granted))
      const { refresh_token } = (await redeem(stage, authReqId)).body
      for (const [name, part] of parts) {
        const { status, body, text } = await refresh(stage, refresh_token, json(...part))
        assert.deepEqual([status, body.authorization_details], [200, part], `${name}: ${text}`)
        assert.equal(body.scope, 'openid offline_access')
        const inspected = (await introspect(stage, body.access_token)).body
        assert.deepEqual([inspected.authorization_details, 'aud' in inspected], [part, false], name)
      }
      for (const part of tooMuch) {
        const answer = await refresh(stage, refresh_token, json(...part))
        refused(answer, 'invalid_authorization_details', JSON.stringify(part))
      }
      const again = await refresh(stage, refresh_token)
      assert.deepEqual(again.body.authorization_details, granted, 'the refresh token is still for all of them')
    })

    test('with approved resources, the first is the default, as without authorization_details', async (t) => {
      const [api, ledger] = ['https://api.example.com', 'https://ledger.example.com']
      const stage = await openStage(t, {
        engine,
        config: { authorizationDetails: { types }, resources: { [api]: {}, [ledger]: {} } },
      })
      const form = new URLSearchParams({ scope: 'openid offline_access', login_hint: 'ana', ...json(payment, limit) })
      for (const resource of [ledger, api]) form.append('resource', resource)
      const { body } = await stage.post('/backchannel/authorize', form, credentials.kiosk)
      await stage.decide(await stage.newestRequest(), 'approved')
      const { refresh_token } = (await redeem(stage, body.auth_req_id)).body
      const some = await refresh(stage, refresh_token, json(payment))
      assert.deepEqual(some.body.authorization_details, [payment], some.text)
      assert.equal((await introspect(stage, some.body.access_token)).body.aud, ledger)
      const other = await refresh(stage, refresh_token, { ...json(limit), resource: api })
      assert.deepEqual(other.body.authorization_details, [limit], other.text)
      assert.equal((await introspect(stage, other.body.access_token)).body.aud, api)
    })

    test('without approved details, none can be requested', async () => {
      const stage = it()
      const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
      await stage.decide(await stage.newestRequest(), 'approved')
      const { refresh_token } = (await redeem(stage, auth_req_id)).body
      refused(await refresh(stage, refresh_token, json(limit)), 'invalid_authorization_details')
      assert.equal((await refresh(stage, refresh_token)).status, 200)
    })

    test('as openid-client sends it', async () => {
      const stage = it()
      const { authReqId, requestId } = await sendRequest(stage, [payment, limit], { scope: 'openid offline_access' })
      await stage.decide(requestId, 'approved')
      const { refresh_token } = (await redeem(stage, authReqId)).body
      const client = await playedBy(stage, 'kiosk')
      const tokens = await openid.refreshTokenGrant(client, String(refresh_token), json(payment))
      assert.deepEqual(tokens.authorization_details, [payment])
    })
  })

  describe(`a resource may be spelled in every way that means the same (RFC 3986 §6.2), on ${engine.name}`, () => {
    const resources = { [api]: {}, [withPath]: {}, [urn]: {} }
    const config = { authorizationDetails: { types }, resources, limits: unlimited }
    const it = openForSuite((t) => openStage(t, { engine, config }))

    for (const [configured, asked] of spellings) {
      test(`${asked} is ${configured}: in the request, at the poll and at the refresh`, async (t) => {
        const isThere = configured in resources
        const stage = isThere ? it() : await openStage(t, { engine, config: { resources: { [configured]: {} } } })
        for (const [first, second] of [
          [asked, configured],
          [configured, asked],
          [asked, asked],
        ] as const) {
          const { body } = await ask(stage, first)
          await stage.decide(await stage.newestRequest(), 'approved')
          assert.deepEqual((await stage.waiting())[0]!.resource, [configured])
          const tokens = await redeem(stage, body.auth_req_id, { resource: second })
          assert.equal(await audienceOf(stage, tokens), configured, 'tokens contain the spelling of the configuration')
          const { refresh_token } = tokens.body
          assert.equal(await audienceOf(stage, await refresh(stage, refresh_token, { resource: second })), configured)
          assert.equal(await audienceOf(stage, await refresh(stage, refresh_token)), configured)
        }
      })
    }

    test('other addresses are other resources', async () => {
      const stage = it()
      for (const configured of Object.keys(resources)) {
        const { body } = await ask(stage, configured)
        await stage.decide(await stage.newestRequest(), 'approved')
        for (const [, resource] of others.filter(([each]) => each === configured)) {
          refused(await ask(stage, resource), 'invalid_target', resource)
          refused(await redeem(stage, body.auth_req_id, { resource }), 'invalid_target', resource)
        }
        const { refresh_token } = (await redeem(stage, body.auth_req_id)).body
        for (const [, resource] of others.filter(([each]) => each === configured)) {
          refused(await refresh(stage, refresh_token, { resource }), 'invalid_target', resource)
        }
      }
    })

    test('as openid-client sends an address that went through URL', async () => {
      const stage = it()
      const client = await playedBy(stage, 'kiosk')
      const resource = new URL(api).href
      const asked = await openid.initiateBackchannelAuthentication(client, {
        scope: 'openid offline_access',
        login_hint: 'ana',
        resource,
      })
      await stage.decide(await stage.newestRequest(), 'approved')
      const { refresh_token } = (await redeem(stage, asked.auth_req_id, { resource })).body
      const tokens = await openid.refreshTokenGrant(client, String(refresh_token), { resource })
      assert.equal((await introspect(stage, tokens.access_token)).body.aud, api)
    })

    test('locations of details, too', async () => {
      const stage = it()
      const [forApi, forOther] = [
        { ...payment, locations: [`${api}/`] },
        { ...payment, locations: ['https://ledger.example.com'] },
      ]
      const { authReqId, requestId } = await sendRequest(stage, [forApi, forOther], { resource: api })
      await stage.decide(requestId, 'approved')
      assert.deepEqual((await redeem(stage, authReqId)).body.authorization_details, [forApi])
    })
  })
}

function limit50(): Detail {
  return { ...limit, most: 50 }
}
