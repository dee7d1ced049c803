/** Claims from the user store never make statements about the authentication, the session or the token. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt } from 'jose'
import type { User, UserHooks } from '../../src/index.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signIn } from '../support/phone-app.ts'
import { ana, credentials, openStage, type Stage } from '../support/stage.ts'

const AUTH_REQ_ID = 'urn:openid:params:jwt:claim:auth_req_id'

const variants: [name: string, claims: Record<string, unknown>][] = [
  ['acr', { acr: 'phr' }],
  ['amr', { amr: ['hwk', 'face'] }],
  ['auth_time', { auth_time: 1 }],
  ['the subject and the issuer', { sub: 'user-ben', iss: 'https://elsewhere.example', aud: 'another', azp: 'another' }],
  [
    'levels of trust, actors and what introspection says',
    {
      vot: 'P2',
      vtm: 'https://x',
      act: { sub: 'x' },
      may_act: { sub: 'x' },
      active: false,
      token_type: 'x',
      scope: 'x',
      client_id: 'x',
      authorization_details: [{ type: 'x' }],
      events: { x: {} },
      sub_jwk: { kty: 'x' },
      c_hash: 'x',
      s_hash: 'x',
    },
  ],
  ['hashes and the request', { at_hash: 'x', [AUTH_REQ_ID]: 'x', nonce: 'x', sid: 'x', cnf: { jkt: 'x' } }],
  [
    'claims that another server knows',
    { _claim_names: { acr: 'a' }, _claim_sources: { a: { endpoint: 'https://a' } } },
  ],
]

/** The claims of an operator who lists every claim, so that oidc-provider would select it. */
const listed = [
  'sub',
  'acr',
  'amr',
  'auth_time',
  'favourite',
  'iss',
  'aud',
  'azp',
  'at_hash',
  'nonce',
  'sid',
  'cnf',
  'vot',
  'vtm',
  'act',
  'may_act',
  'active',
  'token_type',
  'scope',
  'client_id',
  'authorization_details',
  'events',
  'sub_jwk',
  'c_hash',
  's_hash',
]
const oidc = { claims: { openid: [...listed, AUTH_REQ_ID] } }

for (const engine of engines) {
  for (const store of ['the built-in directory', 'an application'] as const) {
    describe(`claims of ${store}, on ${engine.name}:`, () => {
      for (const [name, claims] of variants) {
        test(name, async (t) => {
          const user = { ...ana, claims: { ...claims, favourite: 'tea' } }
          const users = store === 'an application' ? hooksFor(user) : [user]
          const endpoint = await openNotificationEndpoint(t)
          const stage = await openStage(t, { engine, config: { users, oidc }, till: endpoint.url })
          const collected = await collect(stage)
          await stage.ring('till')
          await stage.decide(await stage.newestRequest(), 'approved')
          const [push] = await endpoint.hears(1)
          const signedIn = await signIn(stage)
          const about: [where: string, claims: Record<string, unknown>, known: string[]][] = [
            ['the ID token of a poll', decodeJwt(String(collected.first.id_token)), []],
            ['the refreshed ID token', decodeJwt(String(collected.refreshed.id_token)), ['at_hash']],
            ['the ID token of a push', decodeJwt(String(push!.body.id_token)), ['at_hash', AUTH_REQ_ID]],
            ['userinfo', collected.userinfo, []],
          ]
          for (const [where, given, known] of about) {
            assert.equal(given.favourite, 'tea', `${where}: other claims are there`)
            assert.equal(given.sub, ana.id, where)
            for (const [claim, value] of Object.entries(claims)) {
              assert.notDeepEqual(given[claim], value, `${where}: ${claim}`)
              if (!known.includes(claim) && !['sub', 'iss', 'aud'].includes(claim) && claim !== '_claim_sources')
                assert.ok(!hasNames(given[claim]), `${where}: ${claim}`)
            }
          }
          const { acr, amr, auth_time: authTime } = decodeJwt(String(signedIn.id_token))
          assert.notEqual(acr, 'phr', 'a sign-in with a password')
          assert.deepEqual(amr, ['pwd'])
          assert.ok(Number(authTime) > 1_000_000)
        })
      }
    })
  }
}

/** Whether a value contains a claim. An empty object contains none. */
function hasNames(value: unknown): boolean {
  return value !== undefined && (typeof value !== 'object' || value === null || Object.keys(value).length > 0)
}

async function collect(stage: Stage) {
  const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const { body: first } = await stage.poll('kiosk', auth_req_id)
  const refresh = { grant_type: 'refresh_token', refresh_token: String(first.refresh_token) }
  const { body: refreshed } = await stage.post('/oauth/token', refresh, credentials.kiosk)
  const authorization = `Bearer ${first.access_token}`
  const { body: userinfo } = await stage.get('/oauth/userinfo', { authorization })
  return { first, refreshed, userinfo }
}

function hooksFor(user: User & { password: string }): UserHooks {
  return {
    find: async (id) => (id === user.id ? user : null),
    findByHint: async () => user,
    verifyPassword: async (_user, password) => password === user.password,
  }
}
