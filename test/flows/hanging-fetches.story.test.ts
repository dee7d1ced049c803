/**
 * What clients register for us to fetch (key sets, lists of sectors) hangs, and unauthenticated callers can cause a
 * thousand fetches: other users and clients must not notice.
 */
import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { before, describe, type TestContext, test } from 'node:test'
import { SignJWT } from 'jose'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { waitLimits } from '../../src/platform/http/bounded-wait.ts'
import { fetchLimits } from '../../src/platform/http/fetches.ts'
import {
  asserted,
  assertionOf,
  cibaEndpoints,
  isBelieved,
  type KeyHolder,
  newKey,
  pollClient,
} from '../support/assertions.ts'
import { type DocumentServer, gather, openDocumentServer } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import { type Answer, basic, CIBA, openStage, type Stage, type StageOptions, secrets } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

/** Far fewer wait for the fetch. */
const inFlight = 8
const attackers = '198.51.100'
/** Every address is in a network of its own. */
const manyNetworks = (n: number) => (n % 2 ? `10.${n >> 8}.${n & 255}.1` : `2001:db8:${n.toString(16)}::1`)
const { waiting, underWay } = fetchLimits

let key: KeyHolder
let foreign: KeyHolder
before(async () => {
  key = await newKey('one')
  foreign = await newKey('one')
})

interface Scene {
  stage: Stage
  server: DocumentServer
  /** Posts a form from an address. */
  from(address: string): (path: string, form: Record<string, string>, authorization?: string) => Promise<Answer>
  /** Opens a page from an address. */
  visit(address: string, path: string, cookie?: string): Promise<Answer>
  /** Registers from an address. */
  register(address: string, metadata: object): Promise<Answer>
}

const secret = newSecret()
const signs = { token_endpoint_auth_method: 'private_key_jwt' } as const

async function scene(t: TestContext, config: ConfigInput = {}, options: StageOptions = {}): Promise<Scene> {
  const server = await openDocumentServer(t)
  const stage = await openStage(t, {
    ...options,
    config: {
      limits: { inFlight },
      proxy: { trust: ['127.0.0.0/8', '::1'] },
      // Nothing times out by itself while the test runs.
      notifications: { timeout: 60 },
      ...config,
      clients: [
        pollClient('slow', { ...signs, jwks_uri: server.byName, grant_types: [CIBA, 'refresh_token'] }),
        pollClient('local', { ...signs, jwks: { keys: [key.publicJwk] } }),
        pollClient('signing', {
          client_secret: secret,
          jwks_uri: server.byName,
          backchannel_authentication_request_signing_alg: 'ES256',
        }),
        { client_id: 'slow-service', ...signs, jwks_uri: server.byName, backchannel_device_service: true },
        ...(config.clients ?? []),
      ],
    },
  })
  // Before the stage closes: it would wait for the hanging calls.
  t.after(server.drop)
  // Enough for all that wait; the others come one after the other, or the machine would be busy with connections.
  const agent = new Agent({ keepAlive: true, maxSockets: waiting.eachUrl + 24 })
  t.after(() => agent.destroy())
  const send = (address: string, path: string, type: string, body: string, authorization?: string) =>
    call(agent, stage.url + path, body, {
      'content-type': type,
      'x-forwarded-for': address,
      ...(authorization && { authorization }),
    })
  return {
    stage,
    server,
    from: (address) => (path, form, authorization) =>
      send(address, path, 'application/x-www-form-urlencoded', String(new URLSearchParams(form)), authorization),
    visit: (address, path, cookie) =>
      call(agent, stage.url + path, undefined, { 'x-forwarded-for': address, ...(cookie && { cookie }) }),
    register: (address, metadata) => send(address, '/oauth/register', 'application/json', JSON.stringify(metadata)),
  }
}

function call(agent: Agent, url: string, body: string | undefined, headers: Record<string, string>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? 'GET' : 'POST'
    const sent = request(url, { method, agent, headers }, async (response) => {
      const text = (await response.toArray()).join('')
      resolve({
        status: response.statusCode!,
        headers: new Headers(response.headers as Record<string, string>),
        text,
        body: text.startsWith('{') ? JSON.parse(text) : {},
      })
    })
    sent.on('error', reject).end(body)
  })
}

/**
 * All places where a client proves itself with an assertion: our own endpoints and those that forward to oidc-provider.
 */
const doors = [
  ...cibaEndpoints,
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'x' } },
  { path: '/oauth/introspect', form: { token: 'x' } },
  { path: '/oauth/revoke', form: { token: 'x' } },
  { path: '/backchannel/clientconfig', form: {} },
]

/** Calls that claim to be the client, with assertions that another key has signed. */
async function unverifiable({ stage, from }: Scene, count: number, addressOf: (n: number) => string, as = 'slow') {
  const assertion = await assertionOf(stage, as, { key: foreign.privateKey })
  const ways = as === 'slow' ? doors : [{ path: '/backchannel/authinfo', form: { login_hint: 'ana' } }]
  return gather(
    Array.from({ length: count }, (_, n) => {
      const { path, form } = ways[n % ways.length]!
      return from(addressOf(n))(path, { ...form, ...asserted(assertion) })
    }),
  )
}

/** Other clients are served: by secret and by key, polls and requests, from the attacker's network and from others. */
async function assertOthersAreServed({ stage, from }: Scene): Promise<void> {
  const kiosk = basic('kiosk', secrets.kiosk)
  for (const address of [`${attackers}.250`, '203.0.113.9', '2001:db8::9']) {
    const poll = await from(address)('/oauth/token', { grant_type: CIBA, auth_req_id: 'unknown' }, kiosk)
    assert.equal(poll.body.error, 'invalid_grant', `${address}: ${poll.text}`)
    assert.equal((await from(address)('/oauth/introspect', { token: 'x' }, kiosk)).status, 200, address)
    for (const { path, form } of cibaEndpoints) {
      const assertion = await assertionOf(stage, 'local', { key: key.privateKey })
      const answer = await from(address)(path, { ...form, ...asserted(assertion) })
      assert.ok(isBelieved(answer), `${address} ${path}: ${answer.text}`)
    }
    assert.equal((await from(address)('/backchannel/authinfo', { login_hint: 'ana' }, service)).status, 200, address)
  }
}

const service = basic('phone-service', secrets.phoneService)

describe('the key set of a client hangs, and attackers claim to be that client', () => {
  for (const engine of engines) {
    test(`hundreds of calls at every endpoint: few wait, without a place, and other clients are served, on ${engine.name}`, async (t) => {
      const it = await scene(t, {}, { engine })
      const calls = await unverifiable(it, 1000, (n) => `${attackers}.${n % 200}`)
      await calls.allBut(waiting.eachNetworkAndUrl)
      assert.equal(it.server.asked(), 1, 'one fetch, shared')
      assert.deepEqual(calls.statuses(), [503], 'no other answer yet')
      assert.equal(calls.answers[0]!.headers.get('retry-after'), '1')
      await assertOthersAreServed(it)
      assert.ok(calls.answers.length < 1000 - inFlight, 'more wait than there are places')

      it.server.drop()
      await calls.all()
      assert.deepEqual(calls.statuses(), [503], 'nobody can tell whether the assertions are valid')
      assert.equal(it.server.asked(), 1)
    })

    test(`ten thousand calls from as many networks: the limit for one key set holds, on ${engine.name}`, async (t) => {
      const it = await scene(t, {}, { engine })
      const calls = await unverifiable(it, 10_000, manyNetworks)
      await calls.allBut(waiting.eachUrl)
      assert.equal(it.server.asked(), 1)
      await assertOthersAreServed(it)
      it.server.drop()
      await calls.all()
    })

    test(`as a device service: the places of users stay free, on ${engine.name}`, async (t) => {
      const it = await scene(t, {}, { engine })
      const calls = await unverifiable(it, 200, () => `${attackers}.1`, 'slow-service')
      await calls.allBut(waiting.eachNetworkAndUrl)
      await assertOthersAreServed(it)
      assert.equal((await it.stage.get('/', { accept: 'text/html' })).status, 303, 'the page of a user')
      it.server.drop()
      await calls.all()
      assert.deepEqual(calls.statuses(), [503], 'nobody can tell whether the assertions are valid')
    })
  }

  test('in a form that only oidc-provider can read: it is refused, and nothing is fetched', async (t) => {
    const it = await scene(t)
    const assertion = await assertionOf(it.stage, 'slow', { key: foreign.privateKey })
    const body = String(new URLSearchParams({ token: 'x', ...asserted(assertion) }))
    const type = 'application/x-www-form-urlencoded'
    for (const [contentType, text] of [
      [type, `${body}&a=1&a=2`],
      [`${type};charset=latin1`, body],
      [`${type.toUpperCase()} ; charset=utf-16`, body],
    ] as const) {
      for (const path of ['/oauth/introspect', '/oauth/revoke']) {
        const headers = { 'content-type': contentType }
        const answer = await fetch(it.stage.url + path, { method: 'POST', headers, body: text })
        assert.equal(answer.status, 400, `${contentType} ${path}`)
      }
    }
    assert.equal(it.server.asked(), 0)
  })

  test('the key set is not fetched for a while after it failed, and used again soon after it works again', async (t) => {
    const it = await scene(t, { limits: { inFlight: 1000 } })
    const once = async (holder: KeyHolder) => {
      const assertion = await assertionOf(it.stage, 'slow', { key: holder.privateKey })
      const { path, form } = cibaEndpoints[1]
      const answer = it.from(`${attackers}.1`)(path, { ...form, ...asserted(assertion) })
      const before = it.server.asked()
      await Promise.race([answer, until(() => it.server.hanging() > 0)])
      it.server.drop()
      return { believed: isBelieved(await answer), fetched: it.server.asked() - before }
    }
    assert.deepEqual(await once(foreign), { believed: false, fetched: 1 })
    for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      it.stage.clock.advance(pause - 1)
      assert.deepEqual(await once(key), { believed: false, fetched: 0 }, `within ${pause} ms`)
      it.stage.clock.advance(1)
      assert.deepEqual(await once(key), { believed: false, fetched: 1 }, `after ${pause} ms`)
    }
    it.server.publish({ keys: [key.publicJwk] })
    it.stage.clock.advance(30_000)
    assert.deepEqual(await once(key), { believed: true, fetched: 1 })
    assert.deepEqual(await once(foreign), { believed: false, fetched: 0 })
  })

  test('meanwhile the client itself is served with the known keys', async (t) => {
    const it = await scene(t)
    it.server.publish({ keys: [key.publicJwk] })
    const own = async (path: string, form: Record<string, string>) => {
      const assertion = await assertionOf(it.stage, 'slow', { key: key.privateKey, header: { kid: 'one' } })
      return it.from('203.0.113.9')(path, { ...form, ...asserted(assertion) })
    }
    const { path, form } = cibaEndpoints[1]
    assert.ok(isBelieved(await own(path, form)))
    it.stage.clock.advance(60_000)
    it.server.hang()
    const assertion = await assertionOf(it.stage, 'slow', { key: foreign.privateKey, header: { kid: 'made-up' } })
    const calls = gather(
      Array.from({ length: 100 }, (_, n) => it.from(`${attackers}.${n}`)(path, { ...form, ...asserted(assertion) })),
    )
    await until(() => it.server.hanging() === 1)
    assert.ok(isBelieved(await own(path, form)))
    assert.equal((await own('/oauth/introspect', { token: 'x' })).status, 200)
    it.server.drop()
    await calls.all()
    assert.ok(isBelieved(await own(path, form)), 'after a failed fetch, the known keys stay usable')
  })
})

describe('an authenticated client makes us fetch what hangs', () => {
  test("keys of a signed request or of an issuer of hints: the call holds neither a place nor the client's share", async (t) => {
    const issuer = 'https://finder.example'
    const hints = await openDocumentServer(t)
    const it = await scene(t, { hints: { tokenIssuers: [{ issuer, jwksUri: hints.byName }] } })
    const kiosk = basic('kiosk', secrets.kiosk)
    const jwt = new SignJWT({ iss: issuer, aud: it.stage.url, sub: 'ana' }).setProtectedHeader({ alg: 'ES256' })
    const login_hint_token = await jwt.sign(foreign.privateKey)
    const calls = gather(
      Array.from({ length: 100 }, (_, n) =>
        n % 2
          ? it.from(`${attackers}.1`)('/backchannel/authorize', { request: login_hint_token }, basic('signing', secret))
          : it.from(`${attackers}.1`)('/backchannel/authorize', { scope: 'openid', login_hint_token }, kiosk),
      ),
    )
    await calls.allBut(2 * waiting.eachNetworkAndUrl)
    assert.deepEqual([it.server.asked(), hints.asked()], [1, 1])
    await assertOthersAreServed(it)
    it.server.drop()
    hints.drop()
    await calls.all()
    assert.deepEqual(calls.statuses(), [503])
  })
})

describe('the provider for sign-ins hangs', () => {
  test('hundreds of sign-ins hold no place, neither at the start nor on the way back', async (t) => {
    const bank = await openDocumentServer(t)
    const issuer = new URL(bank.byName).origin
    const it = await scene(t, { login: { issuer, client_id: 'house', client_secret: newSecret() } })
    const calls = gather(
      Array.from({ length: 300 }, (_, n) => it.visit(`${attackers}.${n % 200}`, '/session/start?to=%2F')),
    )
    await calls.allBut(waitLimits.eachNetwork)
    assert.equal(bank.asked(), 1)
    assert.deepEqual(calls.statuses(), [503])
    await assertOthersAreServed(it)
    bank.publish({
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      jwks_uri: `${issuer}/jwks`,
    })
    bank.drop()
    await calls.all()

    const started = await it.visit('203.0.113.9', '/session/start?to=%2F')
    assert.equal(started.status, 303, started.text)
    const cookie = started.headers.get('set-cookie')!.split(';')[0]!
    const state = new URL(started.headers.get('location')!).searchParams.get('state')
    bank.hang()
    const back = gather(
      Array.from({ length: 300 }, (_, n) =>
        it.visit(`${attackers}.${n % 200}`, `/session/callback?code=x&state=${state}`, cookie),
      ),
    )
    await back.allBut(waitLimits.eachNetwork)
    assert.deepEqual(back.statuses(), [503])
    await assertOthersAreServed(it)
    bank.drop()
    await back.all()
  })
})

describe('registration is open, and the list of a sector hangs', () => {
  const open = { registration: { mode: 'open', perHour: 1000 } } satisfies ConfigInput
  const metadata = { redirect_uris: ['https://a.example/cb'], grant_types: ['authorization_code'] }

  for (const engine of engines) {
    test(`hundreds of attempts, each with another address: few fetches, and others are served, on ${engine.name}`, async (t) => {
      const it = await scene(t, open, { engine })
      const calls = gather(
        Array.from({ length: 1000 }, (_, n) =>
          it.register(`${attackers}.${n % 200}`, { ...metadata, sector_identifier_uri: `${it.server.byName}?n=${n}` }),
        ),
      )
      await calls.allBut(underWay.eachNetwork)
      await until(() => it.server.asked() === underWay.eachNetwork)
      assert.deepEqual(calls.statuses(), [503])
      await assertOthersAreServed(it)
      // Another receiver and another network: its list is fetched at once.
      const list = await openDocumentServer(t)
      list.publish(metadata.redirect_uris)
      const other = await it.register('203.0.113.9', { ...metadata, sector_identifier_uri: list.byAddress })
      assert.equal(other.status, 201, other.text)
      it.server.drop()
      await calls.all()
      assert.deepEqual(calls.statuses(), [400, 503])
      assert.equal(it.server.asked(), underWay.eachNetwork)
    })

    // Ten thousand would cost eight seconds of CPU on each engine; `fetches.test.ts` has as many callers.
    test(`a thousand attempts from as many networks at one receiver: the limit of fetches for one receiver holds, on ${engine.name}`, async (t) => {
      const it = await scene(t, open, { engine })
      const calls = gather(
        Array.from({ length: 1000 }, (_, n) =>
          it.register(manyNetworks(n), { ...metadata, sector_identifier_uri: `${it.server.byName}?n=${n}` }),
        ),
      )
      await calls.allBut(underWay.eachReceiver)
      await assertOthersAreServed(it)
      assert.ok(it.server.asked() <= underWay.eachReceiver)
      it.server.drop()
      await calls.all()
    })

    test(`attempts of a network are limited to ten for each client that it may register, on ${engine.name}`, async (t) => {
      const it = await scene(t, { registration: { mode: 'open', perHour: 2 }, limits: { inFlight: 1000 } }, { engine })
      const wrong = { ...metadata, redirect_uris: ['nonsense'] }
      const tries = async (count: number, addressOf: (n: number) => string) => {
        const answers = await Promise.all(
          Array.from({ length: count }, (_, n) => it.register(addressOf(n), wrong).then(({ status }) => status)),
        )
        return [400, 429].map((status) => answers.filter((each) => each === status).length)
      }
      assert.deepEqual(await tries(30, (n) => `${attackers}.${n}`), [20, 10])
      assert.equal((await it.register(`${attackers}.77`, metadata)).headers.get('retry-after'), '3600')
      assert.equal((await it.register('203.0.113.9', metadata)).status, 201, 'another network')
      assert.deepEqual(await tries(40, (n) => `2001:db8:1:${n}::1`), [20, 20], 'one /48')
      assert.deepEqual(await tries(1, () => '2001:db8:2::1'), [1, 0])
      it.stage.clock.advance(3600_000)
      assert.deepEqual(await tries(1, () => `${attackers}.1`), [1, 0])
      await until(async () => {
        // The sweep removes expired counts, a minute after its last run.
        it.stage.clock.advance(60_000)
        return (await rowsOf(it.stage, 'select attempts from registration_attempts')).length === 1
      })
    })
  }
})
