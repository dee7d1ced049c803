/** The scope `offline_access` is granted only with a refresh token, and refreshed ID tokens contain `at_hash`. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { decodeJwt } from 'jose'
import * as openid from 'openid-client'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { collect, discover } from '../support/foreign-client.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { codeFor } from '../support/phone-app.ts'
import { ana, basic, CIBA, newNotificationToken, openStage, type Stage } from '../support/stage.ts'

const secret = newSecret()
const api = 'https://api.example.com'
const scope = 'openid email offline_access'
const shelf = (more: Partial<ClientMetadataInput>) => pollClient('shelf', { client_secret: secret, ...more })
const mayRefresh = { grant_types: [CIBA, 'refresh_token'] }
const credentials = basic('shelf', secret)

type Tokens = Record<string, string>

/** Sends a request as Shelf, lets Ana approve it, and resolves to the tokens. */
async function tokensFor(stage: Stage, more: Record<string, string> = {}): Promise<Tokens> {
  const asked = await stage.post('/backchannel/authorize', { scope, login_hint: 'ana', ...more }, credentials)
  assert.equal(asked.status, 200, asked.text)
  await stage.decide(await stage.newestRequest(), 'approved')
  const form = { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) }
  return (await stage.post('/oauth/token', form, credentials)).body as Tokens
}

async function refresh(stage: Stage, refresh_token: string, more = {}): Promise<Tokens> {
  return (await stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token, ...more }, credentials))
    .body as Tokens
}

const scopeOf = async (stage: Stage, { access_token: token = '' }: Tokens) =>
  (await stage.post('/oauth/introspect', { token }, credentials)).body.scope

for (const engine of engines) {
  describe(`offline_access is granted only with a refresh token, on ${engine.name}:`, () => {
    const variants: [
      name: string,
      client: Partial<ClientMetadataInput>,
      more: Record<string, string>,
      granted: string,
    ][] = [
      ['a client without the grant', {}, {}, 'openid email'],
      ['a client with the grant', mayRefresh, {}, scope],
      ['a client with the grant that does not ask', mayRefresh, { scope: 'openid email' }, 'openid email'],
      ['an access token for a service', {}, { resource: api }, 'openid email'],
      ['the scope alone and twice', {}, { scope: 'openid offline_access openid offline_access' }, 'openid'],
    ]
    for (const [name, client, more, granted] of variants) {
      test(name, async (t) => {
        const stage = await openStage(t, { engine, config: { clients: [shelf(client)], resources: { [api]: {} } } })
        const tokens = await tokensFor(stage, more)
        const hasRefreshToken = granted.includes('offline_access')
        assert.deepEqual(
          [tokens.scope, 'refresh_token' in tokens, await scopeOf(stage, tokens)],
          [granted, hasRefreshToken, granted],
        )
      })
    }

    test('the user is not asked for it either', async (t) => {
      const stage = await openStage(t, { engine, config: { clients: [shelf({})] } })
      await stage.post('/backchannel/authorize', { scope, login_hint: 'ana' }, credentials)
      assert.equal((await stage.waiting())[0]!.scope, 'openid email')
    })

    test('a client that has lost the grant since', async (t) => {
      const stage = await openStage(t, { engine, config: { clients: [shelf(mayRefresh)] } })
      const asked = await stage.post('/backchannel/authorize', { scope, login_hint: 'ana' }, credentials)
      await stage.decide(await stage.newestRequest(), 'approved')
      await stage.restart({ clients: [shelf({})] })
      const form = { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) }
      const { body } = await stage.post('/oauth/token', form, credentials)
      assert.deepEqual([body.scope, 'refresh_token' in body], ['openid email', false])
    })

    test('a push', async (t) => {
      const { stage, pushed } = await pushTo(t, engine, {})
      assert.deepEqual([pushed.scope, 'refresh_token' in pushed], ['openid email', false])
      assert.equal(await scopeOf(stage, pushed), 'openid email')
    })

    test('openid-client, which asks as its documentation shows', async (t) => {
      const stage = await openStage(t, { engine, config: { clients: [shelf({})] } })
      const client = await discover(stage, 'shelf', openid.ClientSecretBasic(secret))
      const asked = await openid.initiateBackchannelAuthentication(client, { scope, login_hint: 'ana' })
      await stage.decide(await stage.newestRequest(), 'approved')
      const tokens = await collect(client, asked)
      assert.deepEqual([tokens.scope, tokens.refresh_token], ['openid email', undefined])
    })

    test('a sign-in of a client without the grant', async (t) => {
      const stage = await openStage(t, { engine })
      const code = await codeFor(stage, ana, undefined, { scope: `${scope} ciba:decide`, prompt: 'consent' })
      const { body } = await code.exchange()
      assert.deepEqual([body.scope, 'refresh_token' in body], ['openid email ciba:decide', false])
    })
  })

  describe(`a refreshed ID token contains at_hash, on ${engine.name}:`, () => {
    for (const alg of ['ES256', 'RS256', 'PS256'] as const) {
      test(`of a client with ${alg}, for each access token its own`, async (t) => {
        const client = shelf({ ...mayRefresh, id_token_signed_response_alg: alg })
        const stage = await openStage(t, { engine, config: { clients: [client] } })
        const first = await tokensFor(stage)
        for (const more of [{}, { scope: 'openid' }]) assertHashed(await refresh(stage, first.refresh_token!, more))
      })
    }

    test('for an access token that is a JWT', async (t) => {
      const resources = { [api]: { accessTokenFormat: 'jwt' as const } }
      const stage = await openStage(t, { engine, config: { clients: [shelf(mayRefresh)], resources } })
      const first = await tokensFor(stage, { resource: api })
      const refreshed = await refresh(stage, first.refresh_token!)
      assert.equal(refreshed.access_token!.split('.').length, 3)
      assertHashed(refreshed)
    })

    test('after a push, whose ID token has it too', async (t) => {
      const { stage, pushed } = await pushTo(t, engine, { grant_types: ['refresh_token'] })
      assertHashed(pushed)
      assertHashed(await refresh(stage, pushed.refresh_token!))
    })

    test('the ID token of a sign-in contains at_hash, too', async (t) => {
      const stage = await openStage(t, { engine })
      const { body } = await (await codeFor(stage, ana)).exchange()
      assertHashed(body as Tokens)
    })

    test('a refresh without an ID token has none', async (t) => {
      const stage = await openStage(t, { engine, config: { clients: [shelf(mayRefresh)] } })
      const first = await tokensFor(stage)
      const refreshed = await refresh(stage, first.refresh_token!, { scope: 'email' })
      assert.ok(refreshed.access_token && !('id_token' in refreshed))
    })
  })
}

async function pushTo(t: Parameters<typeof openStage>[0], engine: Engine, client: Partial<ClientMetadataInput>) {
  const endpoint = await openNotificationEndpoint(t)
  const push = shelf({
    grant_types: [],
    backchannel_token_delivery_mode: 'push',
    backchannel_client_notification_endpoint: endpoint.url,
    ...client,
  })
  const stage = await openStage(t, { engine, config: { clients: [push] } })
  const asked = { scope, login_hint: 'ana', client_notification_token: newNotificationToken() }
  assert.equal((await stage.post('/backchannel/authorize', asked, credentials)).status, 200)
  await stage.decide(await stage.newestRequest(), 'approved')
  const [push_] = await endpoint.hears(1)
  return { stage, pushed: push_!.body as Tokens }
}

/** Asserts that `at_hash` is the left half of the SHA-256 of the access token. */
function assertHashed({ access_token, id_token }: Tokens): void {
  const hash = createHash('sha256').update(access_token!).digest()
  assert.equal(decodeJwt(id_token!).at_hash, hash.subarray(0, 16).toString('base64url'))
}
