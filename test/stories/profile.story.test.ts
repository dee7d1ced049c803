/** A deployment that has promised to keep to FAPI-CIBA: what it refuses to start with, and how its resources answer. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createClientStore } from '../../src/client/client-store.ts'
import { toClient } from '../../src/client/register.ts'
import { checkConfig, freeze } from '../../src/config/config.ts'
import { createLog } from '../../src/log.ts'
import { createDoorbell, ProfileError } from '../../src/provider.ts'
import { createVault } from '../../src/secret.ts'
import { migrate } from '../../src/storage/migrate.ts'
import { openDatabase } from '../../src/storage/open.ts'
import { createStageClock } from '../cast/clock.ts'
import { engines } from '../cast/engines.ts'
import { bearerOf } from '../cast/phone-app.ts'
import { ana, CIBA, openStage } from '../cast/stage.ts'

describe('clients that were registered before the profile was', () => {
  for (const engine of engines) {
    test(`${engine.name}: keep the server from starting, each by name (FC-4, FC-7, FI-1)`, async (t) => {
      const { url, drop } = await engine.fresh()
      t.after(drop)
      const clock = createStageClock()
      const secret = Buffer.alloc(32, 7).toString('base64url')
      const database = await openDatabase(url, { log: createLog('silent'), clock })
      await migrate(database, clock)
      const clients = createClientStore(database)
      const common = { redirect_uris: [], response_types: [], grant_types: [CIBA] }
      await clients.add(
        toClient(
          {
            ...common,
            client_id: 'old-till',
            client_secret: 'hush-hush-hush',
            token_endpoint_auth_method: 'client_secret_basic',
            backchannel_token_delivery_mode: 'push',
            backchannel_client_notification_endpoint: 'https://till.example/n',
          },
          createVault(secret),
        ),
        clock.now(),
      )
      await database.close()

      const checked = checkConfig({
        issuer: 'https://id.example.com',
        database: url,
        secret,
        profile: 'fapi-ciba',
        proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'X-Client-Cert' },
      })
      assert.ok('config' in checked, JSON.stringify(checked))
      const config = freeze({ ...checked.config, secret })
      const error = await createDoorbell(config, { clock, log: createLog('silent') }).then(
        () => assert.fail('it started'),
        (error: unknown) => error,
      )
      assert.ok(error instanceof ProfileError)
      for (const named of ['delivery_mode must be poll or ping', 'auth_method must be', 'signing_alg is missing']) {
        assert.match(error.message, new RegExp(`client old-till: .*${named}`))
      }
      assert.doesNotMatch(error.message, /hush/)
    })
  }
})

describe('RS-5: userinfo answers with the interaction it belongs to', () => {
  const id = '93bac548-d2de-4546-b106-880a5018460d'

  test('the one that the caller names, and its log line has it', async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage, ana)
    const { status, headers, body } = await stage.get('/oauth/userinfo', { authorization, 'x-fapi-interaction-id': id })
    assert.equal(status, 200)
    assert.equal(body.sub, ana.id)
    assert.equal(headers.get('x-fapi-interaction-id'), id)
    assert.match(String(headers.get('content-type')), /^application\/json/)
    assert.ok(headers.get('date'))
    assert.ok(stage.logLines.some((line) => line.includes('userinfo.called') && line.includes(id)))
  })

  test('one of our own where it names none, or what could be none', async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage, ana)
    for (const given of [undefined, 'x', `${id}\t`, '<script>']) {
      const { headers } = await stage.get('/oauth/userinfo', {
        authorization,
        ...(given !== undefined && { 'x-fapi-interaction-id': given }),
      })
      assert.match(String(headers.get('x-fapi-interaction-id')), /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/)
    }
  })

  test('RS-2, RS-6: no token in the address; an address of the caller’s customer is no reason to refuse', async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage, ana)
    const inAddress = await stage.get(`/oauth/userinfo?access_token=${authorization.slice('Bearer '.length)}`)
    assert.ok([400, 401].includes(inAddress.status))
    for (const customer of ['2001:DB8::1893:25c8:1946', '198.51.100.119']) {
      const { status } = await stage.get('/oauth/userinfo', {
        authorization,
        accept: 'application/json;charset=UTF-8',
        'x-fapi-customer-ip-address': customer,
      })
      assert.equal(status, 200)
    }
  })
})
