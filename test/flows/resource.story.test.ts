/** Tokens for one service (RFC 8707). The authentication request names resources, and each token is for one of them. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import { loadConfig } from '../../src/config/load.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signedRequest } from '../support/signed-requests.ts'
import {
  type Answer,
  ana,
  basic,
  CIBA,
  credentials,
  openStage,
  type Stage,
  type StageOptions,
} from '../support/stage.ts'
import { countRows } from '../support/tables.ts'
import { openVisitor } from '../support/visitor.ts'

const api = 'https://api.example.com'
const ledger = 'https://ledger.example.com/v1?x=1'
const urn = 'urn:example:printer'

const resources = {
  [api]: {},
  [ledger]: { scopes: ['email'], audience: 'ledger', accessTtl: 60 },
  [urn]: { accessTokenFormat: 'jwt' as const, scopes: ['openid', 'email'] },
}

const withResources = (options: StageOptions = {}): StageOptions => ({
  ...options,
  config: { ...options.config, resources },
})

async function approved(stage: Stage, asked: string[], scope = 'openid email offline_access') {
  stage.clock.advance(1)
  const form = new URLSearchParams({ scope, login_hint: 'ana' })
  for (const resource of asked) form.append('resource', resource)
  const { status, body, text } = await stage.post('/backchannel/authorize', form, credentials.kiosk)
  assert.equal(status, 200, text)
  const requestId = await stage.newestRequest()
  await stage.decide(requestId, 'approved')
  return { authReqId: String(body.auth_req_id), requestId }
}

function token(stage: Stage, grant: Record<string, string>, resources: string[] = []): Promise<Answer> {
  const form = new URLSearchParams(grant)
  for (const resource of resources) form.append('resource', resource)
  return stage.post('/oauth/token', form, credentials.kiosk)
}

const redeem = (stage: Stage, auth_req_id: string, resources: string[] = []) =>
  token(stage, { grant_type: CIBA, auth_req_id }, resources)

const refresh = (stage: Stage, refresh_token: unknown, resources: string[] = []) =>
  token(stage, { grant_type: 'refresh_token', refresh_token: String(refresh_token) }, resources)

const introspect = async (stage: Stage, { body }: Answer) =>
  (await stage.post('/oauth/introspect', { token: String(body.access_token) }, credentials.kiosk)).body

function refused({ status, body, text }: Answer, what?: string) {
  assert.deepEqual([status, body.error], [400, 'invalid_target'], `${what}: ${text}`)
}

for (const engine of engines) {
  describe(`a token is for the requested resource, on ${engine.name}`, () => {
    test('the first one unless the client names another; refreshed tokens may be for any of them (RI-4, RI-5)', async (t) => {
      const stage = await openStage(t, withResources({ engine }))
      const { authReqId } = await approved(stage, [api, ledger, api])
      assert.deepEqual((await stage.waiting())[0]!.resource, [api, ledger])
      await stage.restart()
      const first = await redeem(stage, authReqId)
      assert.deepEqual([first.body.scope, first.body.expires_in], ['openid email offline_access', 600])
      const inspected = await introspect(stage, first)
      assert.deepEqual([inspected.active, inspected.aud], [true, api])

      const same = await refresh(stage, first.body.refresh_token)
      assert.equal((await introspect(stage, same)).aud, api, same.text)
      const other = await refresh(stage, first.body.refresh_token, [ledger])
      assert.deepEqual([other.body.scope, other.body.expires_in], ['email', 60], 'only what applies to it')
      const { aud, scope } = await introspect(stage, other)
      assert.deepEqual([aud, scope], ['ledger', 'email'])
      for (const wrong of [[urn], ['https://api.example.com//'], [api, ledger], ['/api'], [`${api}#x`]]) {
        refused(await refresh(stage, first.body.refresh_token, wrong), wrong.join())
      }
      await stage.post('/oauth/revoke', { token: String(other.body.access_token) }, credentials.kiosk)
      assert.deepEqual(await introspect(stage, other), { active: false })
    })

    test('an approved resource may be named at the token endpoint; a refused call uses nothing up (RI-4)', async (t) => {
      const stage = await openStage(t, withResources({ engine }))
      const { authReqId } = await approved(stage, [api, ledger])
      for (const wrong of [[urn], ['https://api.example.com:444'], [api, ledger], ['x'], [`${ledger}#`]]) {
        refused(await redeem(stage, authReqId, wrong), wrong.join())
      }
      const answer = await redeem(stage, authReqId, [ledger])
      assert.deepEqual([answer.status, answer.body.scope, answer.body.expires_in], [200, 'email', 60], answer.text)
      assert.equal((await introspect(stage, answer)).aud, 'ledger')
      assert.equal((await redeem(stage, authReqId, [ledger])).body.error, 'invalid_grant')
    })

    test('without resources, tokens are as usual, and none can be named later (RI-6)', async (t) => {
      const stage = await openStage(t, withResources({ engine }))
      const { authReqId } = await approved(stage, [])
      refused(await redeem(stage, authReqId, [api]))
      const answer = await redeem(stage, authReqId)
      assert.ok(!('aud' in (await introspect(stage, answer))))
      refused(await refresh(stage, answer.body.refresh_token, [api]))
      assert.ok(!('aud' in (await introspect(stage, await refresh(stage, answer.body.refresh_token)))))
      const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${answer.body.access_token}` })
      assert.equal(userinfo.status, 200)
      assert.ok(!('email' in decodeJwt(String(answer.body.id_token))))
    })
  })
}

for (const engine of engines) {
  test(`access tokens say how the user was authenticated, the same before and after a refresh, on ${engine.name}`, async (t) => {
    const till = await openNotificationEndpoint(t)
    const stage = await openStage(t, withResources({ engine, till: till.url }))
    const authTime = Math.floor(stage.clock.now() / 1000) - 120
    const stated = { acr: 'strong', amr: 'face pin', auth_time: String(authTime) }
    const asStated = { acr: 'strong', amr: ['face', 'pin'], auth_time: authTime }
    const cases: [as: 'kiosk' | 'till', resource: string, decided: Record<string, string>, expected: object][] = [
      ['kiosk', urn, stated, asStated],
      ['kiosk', api, stated, asStated],
      ['kiosk', '', stated, asStated],
      ['till', urn, stated, asStated],
      ['till', '', stated, asStated],
      ['kiosk', urn, { amr: 'face', auth_time: String(authTime) }, { amr: ['face'], auth_time: authTime }],
      ['kiosk', api, { acr: 'strong', auth_time: String(authTime) }, { acr: 'strong', auth_time: authTime }],
    ]
    let pushes = 0
    for (const [as, resource, decided, expected] of cases) {
      const { auth_req_id } = (await stage.ring(as, { scope: 'openid email offline_access', resource })).body
      await stage.decide(await stage.newestRequest(), 'approved', decided)
      const first = as === 'till' ? (await till.hears(++pushes)).at(-1)!.body : (await stage.poll(as, auth_req_id)).body
      const form = { grant_type: 'refresh_token', refresh_token: String(first.refresh_token) }
      const { body: refreshed } = await stage.post('/oauth/token', form, credentials[as])
      const shown: object[] = []
      for (const { access_token } of [first, refreshed]) {
        const form = { token: String(access_token) }
        // A JWT is not introspected, because the service reads it by itself.
        const claims =
          resource === urn ? decodeJwt(form.token) : (await stage.post('/oauth/introspect', form, credentials[as])).body
        shown.push(
          Object.fromEntries(Object.entries(claims).filter(([name]) => ['acr', 'amr', 'auth_time'].includes(name))),
        )
      }
      const what = `${as} ${resource} ${JSON.stringify(decided)}`
      assert.partialDeepStrictEqual(shown[0], expected, what)
      assert.deepEqual(shown[1], shown[0], what)
    }
  })
}

test('a token for a service is not for userinfo: the ID token has the claims instead', async (t) => {
  const stage = await openStage(t, withResources())
  const answer = await redeem(stage, (await approved(stage, [api])).authReqId)
  const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${answer.body.access_token}` })
  assert.equal(userinfo.status, 401)
  for (const { body } of [answer, await refresh(stage, answer.body.refresh_token)]) {
    const claims = decodeJwt(String(body.id_token))
    assert.deepEqual([claims.sub, claims.email, 'phone_number' in claims], [ana.id, ana.email, false])
  }
})

test('a service configured for JWTs gets them, signed by the published keys (AT-1, AT-2, AT-5)', async (t) => {
  const stage = await openStage(t, withResources())
  const answer = await redeem(stage, (await approved(stage, [urn, api])).authReqId)
  const keys = createRemoteJWKSet(new URL(`${stage.url}/oauth/jwks`))
  const verify = ({ body }: Answer) =>
    jwtVerify(String(body.access_token), keys, {
      issuer: stage.url,
      audience: urn,
      typ: 'at+jwt',
      currentDate: new Date(stage.clock.now()),
    })
  for (const each of [answer, await refresh(stage, answer.body.refresh_token)]) {
    const { payload, protectedHeader } = await verify(each)
    assert.equal(protectedHeader.alg, 'ES256')
    assert.deepEqual([payload.sub, payload.client_id, payload.scope], [ana.id, 'kiosk', 'openid email'])
    assert.deepEqual([payload.exp! - payload.iat!, typeof payload.jti], [600, 'string'])
  }
  const opaque = await refresh(stage, answer.body.refresh_token, [api])
  assert.equal((await introspect(stage, opaque)).aud, api)
})

test('a push has a token for the first', async (t) => {
  const endpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, withResources({ till: endpoint.url }))
  await stage.ring('till', { resource: urn })
  await stage.decide(await stage.newestRequest(), 'approved')
  const [heard] = await endpoint.hears(1)
  assert.equal(decodeJwt(String(heard!.body.access_token)).aud, urn)
})

test('the service can introspect tokens that are for it, and no others (IN-6)', async (t) => {
  const services = ['ledger', 'printer'].map((client_id) => ({
    client_id,
    client_secret: newSecret(),
    grant_types: [],
  }))
  const stage = await openStage(t, withResources({ config: { clients: services } }))
  const ask = async (service: (typeof services)[number], { body }: Answer) => {
    const form = { token: String(body.access_token) }
    return (await stage.post('/oauth/introspect', form, basic(service.client_id, service.client_secret))).body
  }
  const [ledgerService, printer] = services
  const { authReqId } = await approved(stage, [ledger, api])
  const forLedger = await redeem(stage, authReqId)
  const { active, aud, sub, client_id } = await ask(ledgerService!, forLedger)
  assert.deepEqual([active, aud, sub, client_id], [true, 'ledger', ana.id, 'kiosk'])
  assert.deepEqual(await ask(printer!, forLedger), { active: false })
  const forApi = await refresh(stage, forLedger.body.refresh_token, [api])
  for (const service of services) assert.deepEqual(await ask(service, forApi), { active: false })
  const ofKiosk = { ...forLedger, body: { access_token: forLedger.body.refresh_token } }
  assert.deepEqual(await ask(ledgerService!, ofKiosk), { active: false }, 'its refresh token is the client’s alone')
})

test("a JWT names the user by the client's own subject only (PW-1)", async (t) => {
  const key = await newKey('one')
  const shop = pollClient('shop', {
    token_endpoint_auth_method: 'private_key_jwt',
    subject_type: 'pairwise',
    sector_identifier_uri: 'https://shop.example/sector.json',
    jwks: { keys: [key.publicJwk] },
    grant_types: [CIBA, 'refresh_token'],
  })
  const stage = await openStage(t, withResources({ config: { clients: [shop] } }))
  const post = async (path: string, form: Record<string, string>) =>
    (await stage.post(path, { ...form, ...asserted(await assertionOf(stage, 'shop', { key: key.privateKey })) })).body
  const asked = { scope: 'openid offline_access', login_hint: 'ana', resource: urn }
  const { auth_req_id } = await post('/backchannel/authorize', asked)
  await stage.decide(await stage.newestRequest(), 'approved')
  const first = await post('/oauth/token', { grant_type: CIBA, auth_req_id: String(auth_req_id) })
  const again = await post('/oauth/token', {
    grant_type: 'refresh_token',
    refresh_token: String(first.refresh_token),
  })
  const { sub } = decodeJwt(String(first.id_token))
  assert.match(sub!, /^[A-Za-z0-9_-]{43}$/)
  for (const { access_token } of [first, again]) {
    assert.equal(decodeJwt(String(access_token)).sub, sub)
    assert.ok(!Buffer.from(String(access_token).split('.')[1]!, 'base64url').includes(ana.id))
  }
})

describe('resources that are refused', () => {
  const wrong = [
    'https://unknown.example.com',
    `${api}//`,
    `${api}#fragment`,
    `${api}#`,
    'http://api.example.com',
    '/v1',
    'api.example.com',
    'x',
    ' ',
    `${api} ${api}`,
    '__proto__',
    'constructor',
    `https://${'x'.repeat(3000)}.example`,
  ]

  test('each of these is an invalid_target, alone or beside a valid one, and nothing is stored (RI-1, RI-3)', async (t) => {
    const stage = await openStage(t, withResources())
    for (const resource of wrong) {
      refused(await stage.ring('kiosk', { resource }), resource)
      const form = new URLSearchParams({ scope: 'openid', login_hint: 'ana', resource: api })
      form.append('resource', resource)
      refused(await stage.post('/backchannel/authorize', form, credentials.kiosk), resource)
    }
    assert.equal((await countRows(stage)).backchannel_auth_requests, 0)
    const plain = await openStage(t)
    refused(await plain.ring('kiosk', { resource: api }), 'where none is configured')
  })

  test('in a signed request the claim is a string or a list of strings (RI-2, SR-2)', async (t) => {
    const key = await newKey('one')
    const bank = pollClient('bank', {
      client_secret: 'bank-secret',
      backchannel_authentication_request_signing_alg: 'ES256',
      jwks: { keys: [key.publicJwk] },
    })
    const stage = await openStage(t, withResources({ config: { clients: [bank] } }))
    const send = async (resource: unknown, beside = {}) => {
      stage.clock.advance(1)
      const request = await signedRequest(stage, 'bank', { key: key.privateKey, claims: { resource } })
      return stage.post('/backchannel/authorize', { request, ...beside }, basic('bank', 'bank-secret'))
    }
    for (const [resource, kept] of [
      [urn, [urn]],
      [
        [ledger, api],
        [ledger, api],
      ],
      ['', undefined],
      [null, undefined],
      [[], undefined],
    ] as const) {
      const { status, text } = await send(resource)
      assert.equal(status, 200, text)
      assert.deepEqual((await stage.waiting())[0]!.resource, kept)
    }
    for (const resource of [5, {}, [5], [[api]], [api, 'x'], [''], `${api}#`]) {
      refused(await send(resource), JSON.stringify(resource))
    }
    assert.equal((await send(undefined, { resource: api })).body.error, 'invalid_request', 'SR-11')
  })

  test('other parameters may still not be repeated (RQ-8)', async (t) => {
    const stage = await openStage(t, withResources())
    const form = new URLSearchParams({ scope: 'openid', login_hint: 'ana', resource: api })
    form.append('login_hint', 'ben')
    const { status, body } = await stage.post('/backchannel/authorize', form, credentials.kiosk)
    assert.deepEqual([status, body.error], [400, 'invalid_request'])
  })

  test('refused at the authorization endpoint', async (t) => {
    const stage = await openStage(t, withResources())
    const query = new URLSearchParams({
      client_id: 'phone-app',
      response_type: 'code',
      scope: 'openid',
      redirect_uri: 'http://127.0.0.1/callback',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
      resource: api,
    })
    const { headers } = await stage.get(`/oauth/authorize?${query}`)
    assert.match(String(headers.get('location')), /error=invalid_target/)
  })
})

test('the page and the history show which service it is for', async (t) => {
  const stage = await openStage(t, withResources())
  await stage.ring('kiosk', { resource: ledger })
  const path = `/approve/${await stage.newestRequest()}`
  const visitor = openVisitor(stage.url)
  const shown = 'For use at: https://ledger.example.com/v1?x=1'
  assert.ok((await visitor.signIn(ana, path)).text.includes(shown))
  await stage.decide(await stage.newestRequest(), 'approved')
  assert.ok((await visitor.get('/activity')).text.includes(shown))
})

test('a resource that is no longer configured gets no token, rather than one that is valid everywhere', async (t) => {
  const { fresh } = engines[0]!
  const { url, drop } = await fresh()
  const sharing = { name: 'sqlite' as const, fresh: async () => ({ url, drop: async () => {} }) }
  const before = await openStage(t, withResources({ engine: sharing }))
  const { authReqId } = await approved(before, [api])
  await before.doorbell.close()
  const after = await openStage(t, { engine: sharing })
  const { status, body } = await redeem(after, authReqId)
  assert.deepEqual([status, body.error], [400, 'access_denied'])
  t.after(drop)
})

test('the configuration reports each problem and the correct form', async () => {
  for (const [resources, complaint] of [
    [5, 'resources must be an object of resources by address'],
    [{ x: {} }, 'resources["x"] must be an absolute URI without a fragment'],
    [{ [`${api}#x`]: {} }, 'must be an absolute URI without a fragment'],
    [{ [api]: 5 }, `resources["${api}"] must be an object of settings`],
    [{ [api]: { scopes: 'openid' } }, `resources["${api}"].scopes must be a list of scopes`],
    [{ [api]: { scopes: ['pay'] } }, `resources["${api}"].scopes contains "pay", which is not in tokens.scopes`],
    [{ [api]: { accessTokenFormat: 'paseto' } }, `resources["${api}"].accessTokenFormat must be "opaque" or "jwt"`],
    [{ [api]: { accessTtl: 0 } }, `resources["${api}"].accessTtl must be at least 1 second`],
    [{ [api]: { audience: '' } }, `resources["${api}"].audience must be a string`],
    [{ [api]: { ttl: 5 } }, `resources["${api}"].ttl is not a setting`],
  ] as const) {
    const overrides = { development: true, database: 'sqlite::memory:', resources } as never
    await assert.rejects(loadConfig({ env: {}, overrides }), (error: Error) => {
      assert.ok(error.message.includes(complaint), error.message)
      return true
    })
  }
})
