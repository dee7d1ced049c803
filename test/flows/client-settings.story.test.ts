/** A client changes how it is notified of results, with the seed's `clientconfig` (M7, M11, RG-3, RG-4, OV-4). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { basic, credentials, openStage, type Stage, secrets } from '../support/stage.ts'
import { contentsOf } from '../support/tables.ts'

const mode = 'backchannel_token_delivery_mode'
const endpoint = 'backchannel_client_notification_endpoint'

const change = (stage: Stage, form: Record<string, string>, as: string = credentials.kiosk) =>
  stage.post('/backchannel/clientconfig', form, as)

describe('a client changes its settings', () => {
  for (const [name, form] of [
    ["the standard's names", { [mode]: 'ping', [endpoint]: 'https://kiosk.example/notify' }],
    ["the seed's names", { ciba_notify_type: 'PING', ciba_notify_endpoint: 'https://kiosk.example/notify' }],
  ] as [string, Record<string, string>][]) {
    test(`with ${name}, and gets the settings in force under both`, async (t) => {
      const stage = await openStage(t)
      const { status, body, headers } = await change(stage, form)
      assert.equal(status, 200)
      assert.deepEqual(body, {
        [mode]: 'ping',
        ciba_notify_type: 'PING',
        [endpoint]: 'https://kiosk.example/notify',
        ciba_notify_endpoint: 'https://kiosk.example/notify',
      })
      assert.equal(headers.get('cache-control'), 'no-store')
      assert.deepEqual((await change(stage, {})).body, body, 'asked without a change')
      await stage.restart()
      assert.deepEqual((await change(stage, {})).body, body, 'it outlives a restart')
      assert.deepEqual((await change(stage, { ciba_notify_type: 'POLL' })).body, {
        [mode]: 'poll',
        ciba_notify_type: 'POLL',
      })
    })
  }

  test('the next request has the new mode', async (t) => {
    const next = await openNotificationEndpoint(t)
    const stage = await openStage(t)
    assert.equal((await change(stage, { [mode]: 'push', [endpoint]: next.url }, credentials.northbank)).status, 200)
    const { body } = await stage.ring('northbank')
    assert.ok(!('interval' in body))
    await stage.decide(await stage.newestRequest(), 'approved')
    const [push] = await next.hears(1)
    assert.equal(push!.body.auth_req_id, body.auth_req_id)
    assert.ok(push!.body.id_token)
  })
})

describe('a refused change leaves the settings as they were (M7)', () => {
  const cases: [string, Record<string, string>, boolean?][] = [
    ['an endpoint for poll', { [mode]: 'poll', [endpoint]: 'https://kiosk.example/notify' }],
    ['an endpoint alone, by a poll client', { [endpoint]: 'https://kiosk.example/notify' }],
    ['ping without an endpoint (RG-3)', { [mode]: 'ping' }],
    ['http on another machine', { [mode]: 'ping', [endpoint]: 'http://kiosk.example/notify' }],
    ['a fragment (RG-6)', { [mode]: 'ping', [endpoint]: 'https://kiosk.example/notify#x' }],
    ['a password in the address', { [mode]: 'push', [endpoint]: 'https://a:b@kiosk.example/notify' }],
    ['another scheme', { [mode]: 'push', [endpoint]: 'ftp://kiosk.example/notify' }],
    ['no address', { [mode]: 'push', [endpoint]: 'notify' }],
    ["the seed's misspelt POOL (M11)", { ciba_notify_type: 'POOL' }],
    ['an unknown mode', { [mode]: 'pull' }],
    ['http on this machine, in production', { [mode]: 'ping', [endpoint]: 'http://localhost:9/notify' }, false],
  ]
  for (const [name, form, development = true] of cases) {
    test(`${name}: invalid_client_metadata`, async (t) => {
      const stage = await openStage(t, development ? {} : { config: productionConfig, northbank: https, till: https })
      const before = await contentsOf(stage)
      const { status, body, text } = await change(stage, form)
      assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'])
      for (const value of Object.values(form)) assert.ok(value.length < 8 || !text.includes(value), `M29: ${text}`)
      assert.deepEqual(await contentsOf(stage), before)
    })
  }

  test('a client without the CIBA grant: unauthorized_client; an unauthenticated caller: 401', async (t) => {
    const stage = await openStage(t)
    const form = { [mode]: 'poll' }
    const service = await change(stage, form, credentials.phoneService)
    assert.deepEqual([service.status, service.body.error], [400, 'unauthorized_client'])
    assert.equal((await change(stage, form, basic('kiosk', secrets.till))).status, 401)
    assert.equal((await stage.post('/backchannel/clientconfig', form)).status, 401)
  })
})

const https = 'https://client.example/notify'
const productionConfig = { development: false, issuer: 'https://id.example.com' }
