/** Claims that a client requests one by one in an authentication request (OpenID Connect Core §5.5). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt, type JWTPayload } from 'jose'
import * as openid from 'openid-client'
import { newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { playedBy } from '../support/foreign-client.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, ana, basic, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'

interface Got {
  idToken: JWTPayload
  userinfo: Record<string, unknown>
  refreshed: { idToken: JWTPayload; userinfo: Record<string, unknown> }
}

const named = ['name', 'preferred_username', 'locale', 'email', 'phone_number', 'zoneinfo'] as const
/** The claims about the user in a set of claims. */
const about = (claims: Record<string, unknown>) => named.filter((name) => name in claims)

const ask = (stage: Stage, claims: unknown, more: Record<string, string> = {}) =>
  stage.ring('kiosk', {
    scope: 'openid offline_access',
    ...(claims !== undefined && { claims: typeof claims === 'string' ? claims : JSON.stringify(claims) }),
    ...more,
  })

async function userinfo(stage: Stage, { body }: Answer): Promise<Record<string, unknown>> {
  const answer = await stage.get('/oauth/userinfo', { authorization: `Bearer ${body.access_token}` })
  assert.equal(answer.status, 200, answer.text)
  return answer.body
}

async function collected(stage: Stage, asked: Answer): Promise<Got> {
  assert.equal(asked.status, 200, asked.text)
  await stage.decide(await stage.newestRequest(), 'approved')
  const tokens = await stage.poll('kiosk', asked.body.auth_req_id)
  const form = { grant_type: 'refresh_token', refresh_token: String(tokens.body.refresh_token) }
  const again = await stage.post('/oauth/token', form, credentials.kiosk)
  return {
    idToken: decodeJwt(String(tokens.body.id_token)),
    userinfo: await userinfo(stage, tokens),
    refreshed: { idToken: decodeJwt(String(again.body.id_token)), userinfo: await userinfo(stage, again) },
  }
}

for (const engine of engines) {
  describe(`claims are in the tokens that they were requested for, on ${engine.name}`, () => {
    const variants: [string, claims: unknown, idToken: string[], userinfo: string[]][] = [
      ['in the ID token', { id_token: { email: null } }, ['email'], []],
      ['at userinfo', { userinfo: { email: { essential: true } } }, [], ['email']],
      [
        'in both, as the standard writes them',
        { userinfo: { name: { essential: true }, picture: null }, id_token: { phone_number: { value: 'x' } } },
        ['phone_number'],
        ['name'],
      ],
      ['beside a scope', { id_token: { email: null } }, ['email'], ['name', 'preferred_username']],
      ['not known', { id_token: { shoe_size: null, constructor: null }, userinfo: { zoneinfo: null } }, [], []],
      ['none', { id_token: {}, userinfo: null }, [], []],
    ]
    test('by form, also after a refresh', async (t) => {
      const stage = await openStage(t, { engine })
      for (const [name, claims, inIdToken, atUserinfo] of variants) {
        const more = { scope: `openid offline_access${name === 'beside a scope' ? ' profile' : ''}` }
        const got = await collected(stage, await ask(stage, claims, more))
        for (const each of [got, got.refreshed]) {
          assert.deepEqual(about(each.idToken), inIdToken, name)
          assert.deepEqual(about(each.userinfo), atUserinfo, name)
        }
      }
    })

    test('in a push, and not for the scopes of another request', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const stage = await openStage(t, { engine, till: endpoint.url })
      for (const [claims, expected] of [
        ['{"id_token":{"email":null}}', ['email']],
        ['', []],
      ] as const) {
        await stage.ring('till', { claims })
        await stage.decide(await stage.newestRequest(), 'approved')
        const heard = await endpoint.hears(claims === '' ? 2 : 1)
        assert.deepEqual(about(decodeJwt(String(heard.at(-1)!.body.id_token))), expected)
      }
    })
  })
}

for (const engine of engines) {
  describe(`requested claims, on ${engine.name}`, () => {
    test('in a signed request, claims is a JSON object or its text', async (t) => {
      const key = await newKey('one')
      const bank = pollClient('bank', {
        client_secret: 'bank-secret',
        backchannel_authentication_request_signing_alg: 'ES256',
        jwks: { keys: [key.publicJwk] },
      })
      const stage = await openStage(t, { engine, config: { clients: [bank] } })
      const auth = basic('bank', 'bank-secret')
      for (const claims of [{ id_token: { email: null }, userinfo: null }, '{"id_token":{"email":null}}']) {
        const request = await signedRequest(stage, 'bank', { key: key.privateKey, claims: { claims } })
        const asked = await stage.post('/backchannel/authorize', { request }, auth)
        assert.equal(asked.status, 200, asked.text)
        await stage.decide(await stage.newestRequest(), 'approved')
        const form = { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) }
        const { body } = await stage.post('/oauth/token', form, auth)
        assert.equal(decodeJwt(String(body.id_token)).email, ana.email)
        stage.clock.advance(1)
      }
    })

    test('as openid-client sends them', async (t) => {
      const stage = await openStage(t, { engine })
      const client = await playedBy(stage, 'kiosk')
      const asked = await openid.initiateBackchannelAuthentication(client, {
        scope: 'openid',
        login_hint: 'ana',
        claims: JSON.stringify({ id_token: { email: { essential: true } } }),
      })
      await stage.decide(await stage.newestRequest(), 'approved')
      const { body } = await stage.poll('kiosk', asked.auth_req_id)
      assert.equal(decodeJwt(String(body.id_token)).email, ana.email)
    })

    test('a client gets no claim of a scope that it may not request, and the user is not asked for it', async (t) => {
      const narrow = pollClient('narrow', { client_secret: 'narrow-secret', scope: 'openid email' })
      const stage = await openStage(t, { engine, config: { clients: [narrow] } })
      const auth = basic('narrow', 'narrow-secret')
      const claims = JSON.stringify({ id_token: { email: null, phone_number: null }, userinfo: { name: null } })
      const asked = await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana', claims }, auth)
      assert.deepEqual((await stage.waiting())[0]!.claims, { id_token: { email: null } })
      await stage.decide(await stage.newestRequest(), 'approved')
      const form = { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) }
      const tokens = await stage.post('/oauth/token', form, auth)
      assert.deepEqual(about(decodeJwt(String(tokens.body.id_token))), ['email'])
      assert.deepEqual(about(await userinfo(stage, tokens)), [])
    })

    test('claims of the operator, which no scope contains, may be requested by their names', async (t) => {
      const stage = await openStage(t, {
        engine,
        config: {
          users: [{ ...ana, claims: { zoneinfo: 'Europe/Madrid' } }],
          oidc: { claims: { openid: ['sub'], zoneinfo: null } },
        },
      })
      const acr = { essential: true, values: ['gold'] }
      assert.equal((await ask(stage, { id_token: { acr } })).status, 200)
      assert.deepEqual(
        (await stage.waiting())[0]!.claims,
        { id_token: { acr } },
        'what the server states is always there',
      )
      const { idToken, userinfo } = await collected(stage, await ask(stage, { id_token: { zoneinfo: null } }))
      assert.deepEqual([idToken.zoneinfo, 'zoneinfo' in userinfo], ['Europe/Madrid', false])
    })

    describe('acr and sub as claims', () => {
      test('values of acr mean the same as acr_values, which has priority', async (t) => {
        const stage = await openStage(t, { engine })
        const acr = (request: object) => ({ id_token: { acr: request } })
        for (const [claims, acr_values, stored] of [
          [acr({ essential: true, values: ['phr', 'urn:b'] }), '', 'phr urn:b'],
          [acr({ value: 'urn:b' }), '', 'urn:b'],
          [acr({ essential: true, value: null, values: ['urn:b'] }), '', 'urn:b'],
          [acr({ essential: null, value: 'urn:b', values: null }), '', 'urn:b'],
          [acr({ values: ['urn:b'] }), 'urn:c', 'urn:c'],
          [acr({ values: ['urn:b', 'urn:d'] }), '', 'urn:b urn:d'],
          [acr({ values: 'urn:b' }), '', undefined],
          [{ id_token: { acr: null } }, '', undefined],
        ] as const) {
          assert.equal((await ask(stage, claims, { acr_values })).status, 200)
          assert.equal((await stage.waiting())[0]!.acr_values, stored, JSON.stringify(claims))
        }
      })

      test('a value of sub that is not the user of the hint: unknown_user_id', async (t) => {
        const stage = await openStage(t, { engine })
        const sub = (value: unknown) => ({ id_token: { sub: { value } } })
        assert.equal((await ask(stage, sub(ana.id))).status, 200)
        assert.equal((await ask(stage, { id_token: { sub: { values: ['user-ben', ana.id] } } })).status, 200)
        for (const value of ['user-ben', 'ana', 'nobody', '']) {
          assert.equal((await ask(stage, sub(value))).body.error, 'unknown_user_id', value)
        }
      })
    })

    test('what is no claims parameter is refused, and asks nobody', async (t) => {
      const stage = await openStage(t, { engine })
      const many = Object.fromEntries(Array.from({ length: 51 }, (_, n) => [`c${n}`, null]))
      for (const claims of [
        'email',
        '[]',
        '{}',
        '7',
        '{"email":null}',
        '{"id_token":[]}',
        '{"id_token":null}',
        '{"userinfo":"email"}',
        '{"id_token":{"email":true}}',
        '{"id_token":{"email":["x"]}}',
        JSON.stringify({ id_token: many }),
        '{"id_token":{"a\\u0000":null}}',
        `{"id_token":{"a":${'{"a":'.repeat(200)}1${'}'.repeat(200)}}}`,
      ]) {
        const { status, body } = await ask(stage, claims)
        assert.deepEqual([status, body.error], [400, 'invalid_request'], claims.slice(0, 60))
      }
      assert.deepEqual(await stage.waiting(), [])
    })

    test('the user sees them: on the page, in the device API, in the history, in the hook', async (t) => {
      const told: unknown[] = []
      const stage = await openStage(t, {
        engine,
        config: {
          users: {
            find: async (id) => (id === ana.id ? ana : null),
            findByHint: async () => ana,
            verifyPassword: async (_user, password) => password === ana.password,
            notify: async ({ claims }) => void told.push(claims),
          },
          oidc: { claims: { openid: ['sub'], email: ['email'], profile: ['name'], shoe_size: null } },
        },
      })
      const claims = { id_token: { email: { essential: true } }, userinfo: { name: null, shoe_size: null } }
      await ask(stage, claims, { scope: 'openid email' })
      const [shown] = await stage.waiting()
      assert.deepEqual(shown!.claims, claims)
      const [listed] = await stage.doorbell.requests.list(ana.id)
      assert.deepEqual(listed!.claims, claims)
      const page = (await openVisitor(stage.url).signIn(ana, `/approve/${shown!.request_id}`)).text
      for (const want of [
        'know who you are',
        'see your e-mail address',
        'see your name and language',
        'see: shoe_size',
      ]) {
        assert.equal(page.split(want).length, 2, want)
      }
      await stage.decide(String(shown!.request_id), 'approved')
      const [kept] = await rowsOf(stage, 'select claims from backchannel_auth_consent_history')
      assert.deepEqual(JSON.parse(String(kept!.claims)), claims)
      await until(() => told.length > 0)
      assert.deepEqual(told, [claims])
    })
  })
}
