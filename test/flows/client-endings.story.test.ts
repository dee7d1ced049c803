/**
 * A client is removed from the configuration, or by command. After that, no token, request or notification of the
 * client works, even if its id is used again.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { byCommand } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate, type Gate } from '../support/gate.ts'
import { basic, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'

const api = 'https://api.example.com'
const shop = {
  client_id: 'shop',
  client_secret: 'the secret of the shop, of some length',
  grant_types: [CIBA, 'refresh_token'],
  backchannel_token_delivery_mode: 'poll' as const,
}
const asShop = basic(shop.client_id, shop.client_secret)
/** The phone service is a resource server too, so that it may introspect tokens. */
const resources = { [api]: { audience: 'phone-service' } }

for (const engine of engines) {
  describe(`the removal of a client, on ${engine.name}`, () => {
    test('by the configuration: its tokens are not active, its open requests cannot be collected, and a new client with its id gets nothing back', async (t) => {
      const { stage, tokens, waiting } = await scene(t, engine)
      assert.equal(await isActive(stage, tokens.access_token), true)
      await stage.restart({ clients: [] })
      assert.equal(await isActive(stage, tokens.access_token), false)
      await stage.restart({ clients: [shop] })
      await assertNothingWorks(stage, tokens, waiting)
    })

    test('by command while the server runs: the same', async (t) => {
      const { stage, tokens, waiting } = await scene(t, engine)
      await byCommand(stage, ({ removeClient }) => removeClient('shop'))
      assert.equal(await isActive(stage, tokens.access_token), false)
      assert.equal((await refresh(stage, tokens.refresh_token)).status, 401)
      await stage.restart()
      await assertNothingWorks(stage, tokens, waiting)
    })

    test('a token that is being issued at that moment is not active either', async (t) => {
      const gate = createGate()
      const { stage, tokens } = await scene(t, engine, gate)
      gate.hold()
      const refreshing = refresh(stage, tokens.refresh_token)
      await gate.waiting(1)
      await byCommand(stage, ({ removeClient }) => removeClient('shop'))
      gate.release()
      const { body } = await refreshing
      assert.equal(await isActive(stage, body.access_token), false)
      await stage.restart()
      assert.equal(await isActive(stage, body.access_token), false, 'nor when the id is used again')
    })

    test('by command: a held poll is answered at once', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { longPoll: 20 } } })
      const { auth_req_id } = (await stage.ring('kiosk')).body
      const polling = stage.poll('kiosk', auth_req_id)
      await until(async () => (await stage.get('/metrics')).text.includes('doorbell_polls_held 1\n'))
      assert.equal(await byCommand(stage, ({ removeClient }) => removeClient('kiosk')), true)
      // On SQLite, a command is another process and cannot notify the server. The server finds the change when its
      // timer runs.
      if (engine.name === 'sqlite') stage.clock.advance(250)
      const { status, body } = await polling
      assert.deepEqual([status, body.error], [400, 'expired_token'])
    })

    test('but a new secret removes nothing', async (t) => {
      const { stage, tokens } = await scene(t, engine)
      await stage.restart({ clients: [{ ...shop, client_secret: 'another secret of some length too' }] })
      assert.equal(await isActive(stage, tokens.access_token), true)
    })
  })
}

for (const engine of engines) {
  describe(`a client that loses its permission while a request is pending, on ${engine.name} (SM-5)`, () => {
    const redirect = { redirect_uris: ['http://localhost/callback'], response_types: ['code' as const] }
    const { backchannel_token_delivery_mode: _, ...withoutMode } = shop
    const changes: [string, ClientMetadataInput][] = [
      ['it loses the CIBA grant and its mode', { ...withoutMode, ...redirect, grant_types: ['authorization_code'] }],
      [
        'it may only refresh tokens',
        { ...withoutMode, ...redirect, grant_types: ['authorization_code', 'refresh_token'] },
      ],
      ['it becomes a device service', { ...withoutMode, grant_types: [], backchannel_device_service: true }],
    ]
    test('it cannot collect the request, whether pending, approved or denied, until it has the permission again', async (t) => {
      const stage = await openStage(t, { engine, config: { clients: [shop], resources } })
      for (const [name, changed] of changes) {
        const approved = await sendRequest(stage, 'approved')
        const denied = await sendRequest(stage, 'denied')
        const pending = await sendRequest(stage, undefined)
        await stage.restart({ clients: [changed] })
        for (const authReqId of [approved, denied, pending, 'unknown']) {
          const { status, body } = await poll(stage, authReqId)
          assert.deepEqual([status, body.error], [400, 'unauthorized_client'], `${name}: ${authReqId}`)
        }
        await stage.restart({ clients: [shop] })
        assert.equal((await poll(stage, approved)).status, 200, name)
        assert.equal((await poll(stage, denied)).body.error, 'access_denied', name)
        assert.equal((await poll(stage, pending)).body.error, 'authorization_pending', name)
      }
    })
  })
}

async function scene(t: TestContext, engine: Engine, gate?: Gate) {
  const stage = await openStage(t, {
    engine,
    config: { clients: [shop], resources },
    ...(gate && { parts: { openDatabase: gatedAtTokens(gate) } }),
  })
  const collected = await sendRequest(stage, 'approved')
  const tokens = (await poll(stage, collected)).body
  assert.ok(tokens.refresh_token, JSON.stringify(tokens))
  return { stage, tokens, waiting: await sendRequest(stage, 'approved') }
}

/**
 * Sends a request, and decides it unless `decision` is undefined.
 * @returns the auth_req_id
 */
async function sendRequest(stage: Stage, decision: 'approved' | 'denied' | undefined): Promise<unknown> {
  stage.clock.advance(1)
  const asked = { scope: 'openid offline_access', login_hint: 'ana', resource: api }
  const { body } = await stage.post('/backchannel/authorize', asked, asShop)
  if (decision !== undefined) await stage.decide(await stage.newestRequest(), decision)
  return body.auth_req_id
}

async function assertNothingWorks(stage: Stage, tokens: Record<string, unknown>, waiting: unknown): Promise<void> {
  assert.equal(await isActive(stage, tokens.access_token), false)
  assert.equal((await refresh(stage, tokens.refresh_token)).body.error, 'invalid_grant')
  assert.equal((await poll(stage, waiting)).body.error, 'expired_token')
}

const poll = (stage: Stage, authReqId: unknown) =>
  stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: String(authReqId) }, asShop)

const refresh = (stage: Stage, token: unknown) =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: String(token) }, asShop)

async function isActive(stage: Stage, token: unknown): Promise<unknown> {
  const { status, body } = await stage.post('/oauth/introspect', { token: String(token) }, credentials.phoneService)
  assert.equal(status, 200)
  return body.active
}

/** Holds up a write of a single access token until the barrier is opened. */
function gatedAtTokens(gate: Gate): typeof openDatabase {
  return async (...about) => {
    const database = await openDatabase(...about)
    return {
      ...database,
      get listening() {
        return database.listening
      },
      get epoch() {
        return database.epoch
      },
      async step(first, options) {
        if ('rows' in first && first.rows.some(({ model }) => model === 'AccessToken')) await gate.pass()
        return database.step(first, options)
      },
    }
  }
}
