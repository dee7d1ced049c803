/** The keys of clients at an address that does not answer. */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import {
  type AssertionOptions,
  asserted,
  assertionOf,
  cibaEndpoints,
  isBelieved,
  newKey,
  pollClient,
} from '../support/assertions.ts'
import { type Certified, certify } from '../support/certificates.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, basic, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { openForSuite } from '../support/teardown.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { jwkOf } from './certified-clients.ts'
import {
  answersTo,
  assertBelievedEverywhere,
  assertRefusedEverywhere,
  everywhere,
  hintToken,
  type KeyServer,
  openKeyServer,
  secret,
  signing,
  signs,
  unlimited,
} from './keyed-clients.ts'

type Outage = (served: KeyServer) => unknown
const responds =
  (fail: (response: ServerResponse) => void): Outage =>
  (served) =>
    served.fail(fail)

const outages: [name: string, begin: Outage][] = [
  ['the connection breaks', responds((response) => response.destroy())],
  ['it answers 503', responds((response) => response.writeHead(503).end())],
  ['it answers 404', responds((response) => response.writeHead(404).end('not found'))],
  ['it redirects to a page', responds((response) => response.writeHead(302, { location: '/maintenance' }).end())],
  [
    'a proxy answers with its own page',
    responds((response) => response.end('<!doctype html><title>Maintenance</title>')),
  ],
  ['it answers 429', responds((response) => response.writeHead(429, { 'retry-after': '120' }).end())],
  ['the JSON is cut off', responds((response) => response.end('{"keys":[{"kty":"EC","crv":"P-2'))],
  [
    'the connection breaks in the middle',
    responds((response) => response.writeHead(200, { 'content-length': 900 }).write('{') && response.destroy()),
  ],
  ['it answers with JSON that is no key set', responds((response) => response.end('{"error":"unavailable"}'))],
  ['it does not answer', responds(() => {})],
  ['connections are refused', (served) => served.refuse()],
]

for (const engine of engines) {
  describe(`the jwks_uri of a client cannot be fetched, on ${engine.name}`, () => {
    const it = openForSuite((t) => openWithClients(t, engine))

    for (const [index, [name, begin]] of outages.entries()) {
      test(`${name}: keys known before stay valid for a while, then the answer is 503`, async () => {
        const { key, foreign, stage, servers } = it()
        const client = `known-${index}`
        const served = servers.get(client)!
        const own = { key: key.privateKey, header: { kid: 'one' } }
        await assertBelievedEverywhere(stage, client, own)
        await begin(served)
        for (const seconds of [11 * 60, 48 * 60]) {
          stage.clock.advance(seconds * 1000)
          await assertBelievedEverywhere(stage, client, own)
        }
        await assertRefusedEverywhere(stage, client, { key: foreign.privateKey, header: { kid: 'one' } })
        stage.clock.advance(61_000)
        await assertUnavailableEverywhere(stage, own, client)

        await served.listen()
        served.publish({ keys: [key.publicJwk] })
        stage.clock.advance(30_000)
        await assertBelievedEverywhere(stage, client, own)
      })

      test(`${name}: before the first fetch the answer is 503, not invalid_client`, async () => {
        const { key, stage, servers } = it()
        const client = `new-${index}`
        await begin(servers.get(client)!)
        await assertUnavailableEverywhere(stage, { key: key.privateKey }, client)
      })
    }

    test('the name is not found: before the first fetch the answer is 503, not invalid_client', async () => {
      const { key, stage } = it()
      await assertUnavailableEverywhere(stage, { key: key.privateKey }, 'nowhere')
      assert.ok(stage.logLines.some((line) => line.includes('name_not_found')))
    })

    test('a client with a self-signed certificate: the same, with the certificate that it publishes', async (t) => {
      const own = await certify({ subject: 'CN=self' })
      const served = await openKeyServer(t)
      const method = { token_endpoint_auth_method: 'self_signed_tls_client_auth' } as const
      const clients = [pollClient('self', { ...signs, ...method, jwks_uri: served.url })]
      const stage = await openTlsStage(t, { engine, config: { clients } })
      const answers = async (certified: Certified) => {
        const found: Answer[] = []
        for (const { path, form } of everywhere) {
          found.push(await stage.as(certified).post(path, { ...form, client_id: 'self' }))
        }
        return found
      }
      for (const answer of await answers(own)) assertUnavailable(answer)
      served.publish({ keys: [await jwkOf(own)] })
      stage.clock.advance(30_000)
      for (const answer of await answers(own)) assert.ok(isBelieved(answer), answer.text)

      served.fail((response) => response.destroy())
      for (const seconds of [11 * 60, 48 * 60]) {
        stage.clock.advance(seconds * 1000)
        for (const answer of await answers(own)) assert.ok(isBelieved(answer), answer.text)
      }
      for (const { status } of await answers(await certify({ subject: 'CN=self' }))) assert.equal(status, 401)
      stage.clock.advance(61_000)
      for (const answer of await answers(own)) assertUnavailable(answer)
    })

    test('an approved request is collected although the jwks_uri fails, while the known keys are valid', async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t, engine)
      const call = async (path: string, form: Record<string, string>) =>
        stage.post(path, { ...form, ...asserted(await assertionOf(stage, 'fetched', { key: key.privateKey })) })
      const asked = await call('/backchannel/authorize', {
        scope: 'openid offline_access',
        login_hint: 'ana',
        requested_expiry: '3600',
      })
      assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
      served.fail((response) => response.destroy())
      stage.clock.advance(20 * 60_000)
      const tokens = await call('/oauth/token', { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) })
      assert.equal(tokens.status, 200, tokens.text)
      const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.body.refresh_token) }
      assert.equal((await call('/oauth/token', refresh)).status, 200)
    })

    test('an unknown kid during the outage gets 503: it is neither accepted nor refused', async (t) => {
      const { served, stage } = await sceneWithFetchedKeys(t, engine)
      const next = await newKey('next')
      await answersTo(stage, 'fetched', { key: next.privateKey })
      served.fail((response) => response.destroy())
      stage.clock.advance(31_000)
      await assertUnavailableEverywhere(stage, { key: next.privateKey, header: { kid: 'next' } })
    })

    test('signed requests and login_hint_tokens: 503 too, and accepted once the keys are there', async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t, engine)
      const requestOf = async () => {
        const request = await signedRequest(stage, 'signing', { key: key.privateKey })
        return stage.post('/backchannel/authorize', { request }, basic('signing', secret))
      }
      const hintOf = async () => {
        const login_hint_token = await hintToken(stage, finder, key)
        return stage.post('/backchannel/authorize', { scope: 'openid', login_hint_token }, credentials.kiosk)
      }
      served.fail((response) => response.destroy())
      for (const ask of [requestOf, hintOf]) assertUnavailable(await ask())
      served.publish({ keys: [key.publicJwk] })
      stage.clock.advance(30_000)
      for (const ask of [requestOf, hintOf]) assert.equal((await ask()).status, 200)
    })

    test('with fetchedKeys.keepInOutage 0, keys are valid for ten minutes after a fetch', async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t, engine, { fetchedKeys: { keepInOutage: 0 } })
      await assertBelievedEverywhere(stage, 'fetched', { key: key.privateKey })
      served.fail((response) => response.destroy())
      stage.clock.advance(9 * 60_000)
      await assertBelievedEverywhere(stage, 'fetched', { key: key.privateKey, header: { kid: 'one' } })
      stage.clock.advance(61_000)
      await assertUnavailableEverywhere(stage, { key: key.privateKey, header: { kid: 'one' } })
    })

    test('Retry-After says when the keys are fetched again, and the log says why they are missing', async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t, engine)
      served.fail((response) => response.writeHead(500).end())
      const { path, form } = cibaEndpoints[1]
      for (const seconds of ['1', '2', '4', '8']) {
        const call = asserted(await assertionOf(stage, 'fetched', { key: key.privateKey }))
        const answer = await stage.post(path, { ...form, ...call })
        assert.equal(answer.headers.get('retry-after'), seconds)
        stage.clock.advance(Number(seconds) * 1000)
      }
      assert.ok(stage.logLines.some((line) => line.includes('jwks_uri answered 500')))
    })
  })
}

const finder = 'https://finder.example'

async function sceneWithFetchedKeys(t: TestContext, engine: Engine, config: ConfigInput = {}) {
  const key = await newKey('one')
  const served = await openKeyServer(t)
  served.publish({ keys: [key.publicJwk] })
  const stage = await openStage(t, {
    engine,
    config: {
      hints: { tokenIssuers: [{ issuer: finder, jwksUri: served.url }] },
      ...config,
      clients: [pollClient('fetched', { ...signs, jwks_uri: served.url }), signing({ jwks_uri: served.url })],
    },
  })
  return { key, served, stage }
}

/**
 * Opens a server with two clients for each outage. The server has fetched the keys of one of them before the outage.
 */
async function openWithClients(t: TestContext, engine: Engine) {
  const [key, foreign] = [await newKey('one'), await newKey('one')]
  const servers = new Map<string, KeyServer>()
  for (const id of outages.flatMap((_, index) => [`known-${index}`, `new-${index}`])) {
    const served = await openKeyServer(t)
    served.publish({ keys: [key.publicJwk] })
    servers.set(id, served)
  }
  const clients = [...servers].map(([id, { url }]) => pollClient(id, { ...signs, jwks_uri: url }))
  // Names under `onion` do not exist in the DNS (RFC 7686), so no name server is asked for this name.
  clients.push(pollClient('nowhere', { ...signs, jwks_uri: 'https://keys.onion/keys' }))
  const config = { clients, limits: unlimited, notifications: { timeout: 1 } }
  const stage = await openStage(t, { engine, config })
  return { key, foreign, stage, servers }
}

async function assertUnavailableEverywhere(stage: Stage, options: AssertionOptions, client = 'fetched'): Promise<void> {
  for (const answer of await answersTo(stage, client, options)) assertUnavailable(answer)
}

function assertUnavailable({ status, headers, body, text }: Answer): void {
  assert.deepEqual([status, body.error], [503, 'temporarily_unavailable'], text)
  assert.match(headers.get('retry-after') ?? '', /^[1-9]\d?$/)
  assert.equal(headers.get('cache-control'), 'no-store')
}
