/** The operator withdraws a permission from a client. Tokens that were issued before no longer have the permission. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signIn } from '../support/phone-app.ts'
import { ana, basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { type Detail, json, limit, payment, types } from './detail-types.ts'
import { open, opened } from './registration-calls.ts'

const secret = newSecret()
const shelf = basic('shelf', secret)
const offline = 'openid offline_access'
const everything = 'openid profile email offline_access'
const [api, ledger] = ['https://api.example.com', 'https://ledger.example.com']

const withShelf = (more: Partial<ClientMetadataInput> = {}, others: ConfigInput = {}): ConfigInput => ({
  ...others,
  clients: [pollClient('shelf', { client_secret: secret, grant_types: [CIBA, 'refresh_token'], ...more })],
})

const withApp = (scope: string): ConfigInput => ({
  clients: [
    {
      client_id: 'app',
      client_name: 'App',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['http://127.0.0.1/callback'],
      scope,
    },
  ],
})

const signsIn = {
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['https://shelf.example/callback'],
}

type Tokens = Record<string, string> & { authorization_details?: Detail[] }

const ask = (stage: Stage, more: Record<string, string>, as = shelf) => {
  stage.clock.advance(1)
  return stage.post('/backchannel/authorize', { scope: everything, login_hint: 'ana', ...more }, as)
}

async function collect(stage: Stage, { auth_req_id }: Record<string, unknown>, more = {}, as = shelf) {
  await stage.decide(await stage.newestRequest(), 'approved')
  const form = { grant_type: CIBA, auth_req_id: String(auth_req_id), ...more }
  const { status, body, text } = await stage.post('/oauth/token', form, as)
  assert.equal(status, 200, text)
  return body as Tokens
}

const tokensFor = async (stage: Stage, more: Record<string, string> = {}, as = shelf) =>
  collect(stage, (await ask(stage, more, as)).body, {}, as)

const refresh = (stage: Stage, { refresh_token = '' }: Tokens, more: Record<string, string> = {}, as = shelf) =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token, ...more }, as)

const introspect = async (stage: Stage, token = '') =>
  (await stage.post('/oauth/introspect', { token }, shelf)).body as { active: boolean; scope?: string } & Tokens

const bearer = (token: unknown) => ({ authorization: `Bearer ${token}` })
const userinfo = async (stage: Stage, { access_token }: Tokens) =>
  Object.keys((await stage.get('/oauth/userinfo', bearer(access_token))).body).sort()

for (const engine of engines) {
  describe(`what is withdrawn from a client, on ${engine.name}`, () => {
    test('ciba:decide: an app that has lost it neither sees nor decides requests, and a refresh narrows', async (t) => {
      const stage = await openStage(t, { engine, config: withApp(`${offline} ciba:decide`) })
      const wish = { scope: `${offline} ciba:decide`, prompt: 'consent' }
      const tokens = (await signIn(stage, ana, wish, { id: 'app' })) as unknown as Tokens
      const asked = await stage.ring('kiosk')
      const requestId = await stage.newestRequest()
      await stage.restart(withApp(offline))

      const attempts = async (token: unknown) => {
        const read = await stage.get('/backchannel/authinfo', bearer(token))
        const decision = { request_id: requestId, status: 'approved' }
        const decided = await stage.post('/backchannel/complete', decision, `Bearer ${token}`)
        return [read, decided].map(({ status, body }) => [status, body.error])
      }
      const refused = [403, 'insufficient_scope']
      assert.deepEqual(await attempts(tokens.access_token), [refused, refused])
      const renewed = await stage.post('/oauth/token', {
        grant_type: 'refresh_token',
        refresh_token: String(tokens.refresh_token),
        client_id: 'app',
      })
      assert.deepEqual([renewed.status, renewed.body.scope], [200, offline], renewed.text)
      assert.deepEqual(await attempts(renewed.body.access_token), [refused, refused])
      assert.equal((await stage.poll('kiosk', asked.body.auth_req_id)).body.error, 'authorization_pending')

      await stage.restart(withApp(`${offline} ciba:decide`))
      assert.deepEqual(
        (await attempts(renewed.body.access_token))[0],
        refused,
        'what was refreshed meanwhile stays narrow',
      )
    })

    test('scopes of data: userinfo, introspection, refresh, and a request that was open', async (t) => {
      const stage = await openStage(t, { engine, config: withShelf({ scope: everything }) })
      const claims = JSON.stringify({ userinfo: { phone_number: null, email: null }, id_token: { name: null } })
      const tokens = await tokensFor(stage)
      const byName = await tokensFor(stage, { scope: offline, claims })
      assert.deepEqual(await userinfo(stage, byName), ['email', 'sub'], 'phone is not registered')
      assert.equal(decodeJwt(byName.id_token!).name, ana.name)
      const waiting = await ask(stage, { claims })
      await stage.restart(withShelf({ scope: offline }))

      const collected = await collect(stage, waiting.body)
      assert.equal(collected.scope, offline)
      const renewed = (await refresh(stage, tokens)).body as Tokens
      const renewedByName = (await refresh(stage, byName)).body as Tokens
      assert.equal(renewed.scope, offline)
      for (const each of [tokens, byName, collected, renewed, renewedByName]) {
        assert.deepEqual(await userinfo(stage, each), ['sub'])
        assert.equal((await introspect(stage, each.access_token)).scope, offline)
      }
      for (const { id_token } of [collected, renewedByName]) assert.equal(decodeJwt(id_token!).name, undefined)
      assert.equal((await introspect(stage, tokens.refresh_token)).scope, offline)
      assert.equal((await refresh(stage, tokens, { scope: 'openid email' })).body.error, 'invalid_scope')
    })

    test('a registration that its client narrows: at once, without a restart', async (t) => {
      const { stage, send, register } = await opened(t, open, engine)
      const metadata = { grant_types: [CIBA, 'refresh_token'], backchannel_token_delivery_mode: 'poll' }
      const { body } = await register({ ...metadata, scope: everything })
      const as = basic(String(body.client_id), String(body.client_secret))
      const tokens = await tokensFor(stage, {}, as)
      assert.ok((await userinfo(stage, tokens)).includes('email'))
      const put = await send(
        'PUT',
        String(body.registration_client_uri),
        { ...metadata, client_id: body.client_id, scope: offline },
        String(body.registration_access_token),
      )
      assert.equal(put.status, 200, put.text)
      assert.deepEqual(await userinfo(stage, tokens), ['sub'])
      assert.equal((await refresh(stage, tokens, {}, as)).body.scope, offline)
    })

    const refreshing: [name: string, less: Partial<ClientMetadataInput>][] = [
      ['the grant refresh_token', { grant_types: [CIBA] }],
      ['the scope offline_access', { scope: 'openid email profile' }],
    ]
    for (const [name, less] of refreshing) {
      test(`${name}: the refresh token is not valid, but can still be revoked`, async (t) => {
        const stage = await openStage(t, { engine, config: withShelf({ scope: everything }) })
        const tokens = await tokensFor(stage)
        const kept = await tokensFor(stage)
        await stage.restart(withShelf({ scope: everything, ...less }))
        const answer = await refresh(stage, tokens)
        assert.deepEqual([answer.status, answer.body.access_token], [400, undefined], answer.text)
        assert.deepEqual(await introspect(stage, tokens.refresh_token), { active: false })
        assert.equal((await stage.get('/oauth/userinfo', bearer(tokens.access_token))).status, 200)
        await stage.post('/oauth/revoke', { token: tokens.refresh_token! }, shelf)

        await stage.restart(withShelf({ scope: everything }))
        assert.deepEqual(await introspect(stage, tokens.refresh_token), { active: false })
        assert.equal((await refresh(stage, kept)).status, 200, 'given back by the operator')
      })
    }

    test('the CIBA grant: an open request is not collected, and no new one is accepted', async (t) => {
      const stage = await openStage(t, { engine, config: withShelf() })
      const { body } = await ask(stage, {})
      await stage.decide(await stage.newestRequest(), 'approved')
      await stage.restart(withShelf({ ...signsIn, backchannel_token_delivery_mode: undefined }))
      const form = { grant_type: CIBA, auth_req_id: String(body.auth_req_id) }
      const answers = [await stage.post('/oauth/token', form, shelf), await ask(stage, {})]
      assert.deepEqual(answers.map(errorOf), ['unauthorized_client', 'unauthorized_client'])
    })

    test('a type of details: introspection, refresh, and a request that was open', async (t) => {
      const stage = await openDetailed(t, engine)
      const details = json(payment, limit)
      const tokens = await tokensFor(stage, details)
      const waiting = await ask(stage, details)
      await stage.restart(withShelf({ authorization_details_types: ['limit'] }, { authorizationDetails: { types } }))
      const collected = await collect(stage, waiting.body)
      const renewed = (await refresh(stage, tokens)).body as Tokens
      assert.deepEqual([collected.authorization_details, renewed.authorization_details], [[limit], [limit]])
      for (const { access_token } of [tokens, collected, renewed]) {
        assert.deepEqual((await introspect(stage, access_token)).authorization_details, [limit])
      }
      assert.equal(errorOf(await refresh(stage, tokens, json(payment))), 'invalid_authorization_details')
    })

    test('resources and their scopes: tokens for them are not valid, or narrower', async (t) => {
      const both = { [api]: {}, [ledger]: {} }
      const stage = await openStage(t, { engine, config: withShelf({}, { resources: both }) })
      const form = new URLSearchParams({ scope: everything, login_hint: 'ana' })
      for (const resource of [api, ledger]) form.append('resource', resource)
      const asked = await stage.post('/backchannel/authorize', form, shelf)
      const tokens = await collect(stage, asked.body)
      const forLedger = (await refresh(stage, tokens, { resource: ledger })).body as Tokens
      await stage.restart(withShelf({}, { resources: { [ledger]: { scopes: ['openid'] } } }))
      assert.deepEqual(await introspect(stage, tokens.access_token), { active: false })
      const known = await introspect(stage, forLedger.access_token)
      assert.deepEqual([known.active, known.aud, known.scope], [true, ledger, 'openid'])
      assert.equal(errorOf(await refresh(stage, tokens, { resource: api })), 'invalid_target')
      const renewed = await refresh(stage, tokens)
      const inspected = await introspect(stage, String(renewed.body.access_token))
      assert.deepEqual([inspected.aud, inspected.scope], [ledger, 'openid'], renewed.text)
    })
  })
}

const errorOf = ({ body }: { body: Record<string, unknown> }) => body.error

const openDetailed = (t: TestContext, engine: Engine) =>
  openStage(t, { engine, config: withShelf({}, { authorizationDetails: { types } }) })
