/**
 * Clients that authenticate with an assertion: which claims the assertion must have, and that it is accepted only once
 * (EP-6, CA-9).
 */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, type TestContext, test } from 'node:test'
import { base64url, exportSPKI, importJWK } from 'jose'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import {
  type AssertionOptions,
  asserted,
  assertionOf,
  cibaEndpoints,
  isBelieved,
  type KeyHolder,
  newKey,
  pollClient,
} from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { type Answer, castConfig, openStage, type Stage } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'

const secret = newSecret()
let key: KeyHolder
let foreign: KeyHolder
let stage: Stage
let close = () => {}

before(async () => {
  key = await newKey('one')
  foreign = await newKey('one')
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: {
      clients: [
        pollClient('key', {
          token_endpoint_auth_method: 'private_key_jwt',
          jwks: { keys: [key.publicJwk] },
          grant_types: ['urn:openid:params:grant-type:ciba', 'refresh_token'],
        }),
        pollClient('other', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [foreign.publicJwk] } }),
        pollClient('strict', {
          token_endpoint_auth_method: 'private_key_jwt',
          token_endpoint_auth_signing_alg: 'RS256',
          jwks: { keys: [key.publicJwk] },
        }),
        pollClient('hmac', { client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt' }),
      ],
    },
  })
})
after(() => close())

const inSeconds = (seconds: number) => Math.floor(stage.clock.now() / 1000) + seconds

async function tell(assertion: string, { path, form } = cibaEndpoints[0] as (typeof cibaEndpoints)[number], more = {}) {
  return stage.post(path, { ...form, ...asserted(assertion), ...more })
}

describe('the audience may be (EP-6)', () => {
  const audiences: [string, (url: string) => unknown][] = [
    ['the issuer', (url) => url],
    ['the token endpoint', (url) => `${url}/oauth/token`],
    ['the backchannel authentication endpoint', (url) => `${url}/backchannel/authorize`],
    ['a list with the issuer in it', (url) => [url]],
    ['all of them', (url) => [url, `${url}/oauth/token`, `${url}/backchannel/authorize`]],
    ['a list with the token endpoint', (url) => [`${url}/oauth/token`]],
    ['a list with the backchannel authentication endpoint', (url) => [`${url}/backchannel/authorize`]],
  ]
  for (const [name, aud] of audiences) {
    test(name, async () => {
      for (const endpoint of cibaEndpoints) {
        const assertion = await assertionOf(stage, 'key', { key: key.privateKey, claims: { aud: aud(stage.url) } })
        assert.ok(isBelieved(await tell(assertion, endpoint)), endpoint.path)
      }
    })
  }
})

describe('a refused assertion changes nothing: with', () => {
  const good = (): AssertionOptions => ({ key: key.privateKey })
  const hs = new TextEncoder().encode(secret)
  const wrong: [string, () => Promise<string> | string][] = [
    ['another audience', () => sign({ aud: 'https://elsewhere.example' })],
    ['the issuer and a slash', () => sign({ aud: `${stage.url}/` })],
    ['the jwks address as its audience', () => sign({ aud: `${stage.url}/oauth/jwks` })],
    ['no audience', () => sign({ aud: undefined })],
    ['another issuer', () => sign({ iss: 'other' })],
    ['no issuer', () => sign({ iss: undefined })],
    ['no subject', () => sign({ sub: undefined })],
    ['another subject than the owner of the key', () => sign({ sub: 'other', iss: 'other' })],
    ['an unknown subject', () => sign({ sub: 'nobody', iss: 'nobody' })],
    ['an exp that has passed', () => sign({ iat: inSeconds(-100), exp: inSeconds(-11) })],
    ['no exp', () => sign({ exp: undefined })],
    ['an exp that is text', () => sign({ exp: String(inSeconds(60)) })],
    ['a lifetime of more than an hour', () => sign({ exp: inSeconds(3612) })],
    ['an iat in the future', () => sign({ iat: inSeconds(12) })],
    ['an nbf in the future', () => sign({ nbf: inSeconds(12) })],
    ['no jti', () => sign({ jti: undefined })],
    ['alg none', () => unsigned('key')],
    ['the key of another client', () => assertionOf(stage, 'key', { key: foreign.privateKey })],
    ['an unknown kid', () => assertionOf(stage, 'key', { ...good(), header: { kid: 'two' } })],
    ['an unknown critical header', () => broken()],
    ['HS256 keyed with the public key as JSON', () => hmacWith(JSON.stringify(key.publicJwk))],
    ['HS256 keyed with the public key as PEM', async () => hmacWith(await exportSPKI((await publicKey()) as never))],
    [
      'HS256, though registered for private_key_jwt',
      () => assertionOf(stage, 'key', { key: hs, header: { alg: 'HS256' } }),
    ],
    ['another algorithm than registered', () => assertionOf(stage, 'strict', good())],
    ['signed with a key, though registered for client_secret_jwt', () => assertionOf(stage, 'hmac', good())],
    [
      'a wrong shared secret',
      () => assertionOf(stage, 'hmac', { key: new TextEncoder().encode(newSecret()), header: { alg: 'HS256' } }),
    ],
    ['a signature that was changed', async () => `${(await sign({})).slice(0, -8)}AAAAAAAA`],
  ]
  for (const [name, make] of wrong) {
    test(name, async () => {
      const before = await countRows(stage)
      for (const endpoint of cibaEndpoints) {
        const answer = await tell(await make(), endpoint)
        assertInvalidClient(answer)
        assert.equal(answer.headers.get('www-authenticate'), null, 'AE-3')
      }
      assert.deepEqual(await countRows(stage), before)
    })
  }

  test('a client_id beside it that differs (RQ-10)', async () => {
    assertInvalidClient(await tell(await sign({}), cibaEndpoints[0], { client_id: 'other' }))
    assert.ok(isBelieved(await tell(await sign({}), cibaEndpoints[0], { client_id: 'key' })))
  })
})

describe('clocks may differ by ten seconds', () => {
  for (const [name, claims] of [
    ['exp just passed', () => ({ exp: inSeconds(-9) })],
    ['iat and nbf ahead', () => ({ iat: inSeconds(9), nbf: inSeconds(9) })],
    ['a lifetime of an hour', () => ({ exp: inSeconds(3600) })],
  ] as [string, () => Record<string, number>][]) {
    test(name, async () => assert.ok(isBelieved(await tell(await sign(claims())))))
  }
})

describe('an assertion is accepted once (CA-9)', () => {
  for (const who of ['key', 'hmac'] as const) {
    test(`${who}: a replay is refused at either endpoint for as long as the assertion is valid`, async () => {
      const options =
        who === 'key' ? { key: key.privateKey } : { key: new TextEncoder().encode(secret), header: { alg: 'HS256' } }
      const assertion = await assertionOf(stage, who, options)
      assert.ok(isBelieved(await tell(assertion)))
      for (const endpoint of cibaEndpoints) assertInvalidClient(await tell(assertion, endpoint))
      stage.clock.advance(69_000)
      await stage.doorbell.sweep()
      assertInvalidClient(await tell(assertion))
    })
  }

  /**
   * Our own endpoints, and endpoints that forward to oidc-provider. Each form names a request or a token that does not
   * exist.
   */
  const everywhere = [
    ...cibaEndpoints,
    { path: '/oauth/introspect', form: { token: 'unknown' } },
    { path: '/oauth/revoke', form: { token: 'unknown' } },
    { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'unknown' } },
  ] as const
  const passed = ({ status, body }: Answer) => status === 200 || body.error === 'invalid_grant'

  test('after its first use it is refused at every other endpoint', async () => {
    for (const first of everywhere) {
      const assertion = await sign({})
      const show = ({ path, form }: (typeof everywhere)[number]) =>
        stage.post(path, { ...form, ...asserted(assertion) })
      const shown = await show(first)
      assert.ok(passed(shown), `${first.path}: ${shown.text}`)
      for (const second of everywhere) {
        const { status, body } = await show(second)
        assert.deepEqual([status, body.error], [401, 'invalid_client'], `${first.path}, then ${second.path}`)
      }
    }
  })

  test('of simultaneous uses at all endpoints, one is accepted', async () => {
    const assertion = await sign({})
    const answers = await Promise.all(
      [...everywhere, ...everywhere].map(({ path, form }) => stage.post(path, { ...form, ...asserted(assertion) })),
    )
    assert.equal(answers.filter(passed).length, 1)
  })

  test('a lifetime that is too long is refused by every endpoint (CA-10)', async () => {
    for (const { path, form } of everywhere) {
      const { body } = await stage.post(path, { ...form, ...asserted(await sign({ exp: inSeconds(3620) })) })
      assert.equal(body.error, 'invalid_client', path)
    }
  })

  test('one that is valid at another server too is refused by every endpoint', async () => {
    const others: ((url: string) => unknown)[] = [
      (url) => [url, 'https://elsewhere.example'],
      (url) => ['https://elsewhere.example/token', `${url}/oauth/token`],
      (url) => [`${url}/backchannel/authorize`, url, `${url}/`],
      (url) => [url, ''],
      () => [],
    ]
    for (const endpoint of everywhere) {
      for (const aud of others) {
        const assertion = await sign({ aud: aud(stage.url) })
        const { body } = await stage.post(endpoint.path, { ...endpoint.form, ...asserted(assertion) })
        assert.equal(body.error, 'invalid_client', `${endpoint.path}: ${aud(stage.url)}`)
      }
    }
  })

  test('one whose typ names another kind of JWT is refused by every endpoint', async () => {
    const show = async ({ path, form }: (typeof everywhere)[number], typ: string) => {
      const assertion = await assertionOf(stage, 'key', { key: key.privateKey, header: { typ } })
      return stage.post(path, { ...form, ...asserted(assertion) })
    }
    const own = ['JWT', 'jwt', 'client-authentication+jwt', 'application/client-authentication+jwt']
    const foreign = [
      'oauth-authz-req+jwt',
      'dpop+jwt',
      'at+jwt',
      'application/at+jwt',
      'logout+jwt',
      'secevent+jwt',
      '',
    ]
    for (const endpoint of everywhere) {
      for (const typ of own) assert.ok(passed(await show(endpoint, typ)), `${endpoint.path}: ${typ}`)
      for (const typ of foreign) {
        assert.equal((await show(endpoint, typ)).body.error, 'invalid_client', `${endpoint.path}: ${typ}`)
      }
    }
  })

  test('with strictAssertionAudience every endpoint accepts the issuer alone as audience (CA-14)', async (t) => {
    const client = { token_endpoint_auth_method: 'private_key_jwt' as const, jwks: { keys: [key.publicJwk] } }
    const grant_types = ['urn:openid:params:grant-type:ciba', 'refresh_token']
    const strict = await openStage(t, {
      config: { strictAssertionAudience: true, clients: [pollClient('key', { ...client, grant_types })] },
    })
    const show = async ({ path, form }: (typeof everywhere)[number], aud: unknown) => {
      const assertion = await assertionOf(strict, 'key', { key: key.privateKey, claims: { aud } })
      return strict.post(path, { ...form, ...asserted(assertion) })
    }
    for (const endpoint of everywhere) {
      assert.ok(passed(await show(endpoint, strict.url)), endpoint.path)
      for (const aud of [`${strict.url}/oauth/token`, [strict.url], `${strict.url}/backchannel/authorize`]) {
        assert.equal((await show(endpoint, aud)).body.error, 'invalid_client', `${endpoint.path}: ${aud}`)
      }
    }
  })

  test('the same jti from another client is another assertion', async () => {
    const claims = { jti: newSecret(12) }
    assert.ok(isBelieved(await tell(await sign(claims))))
    assert.ok(isBelieved(await tell(await assertionOf(stage, 'other', { key: foreign.privateKey, claims }))))
  })

  test('of ten at once exactly one passes', async () => {
    const assertion = await sign({})
    const answers = await Promise.all(Array.from({ length: 10 }, () => tell(assertion)))
    assert.equal(answers.filter(isBelieved).length, 1)
    assert.equal(answers.filter(({ status }) => status === 401).length, 9)
  })

  test('also on two nodes that share one Postgres', async (t) => {
    const clients = [
      pollClient('key', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [key.publicJwk] } }),
    ]
    const postgres = engines.find(({ name }) => name === 'postgres')!
    const one = await openStage(t, { engine: postgres, config: { clients } })
    const second = await secondNode(t, one, clients)
    const assertion = await assertionOf(one, 'key', { key: key.privateKey })
    const body = new URLSearchParams({ ...cibaEndpoints[0].form, ...asserted(assertion) })
    const calls = [one.url, second, one.url, second, second, one.url].map((url) =>
      fetch(`${url}/backchannel/authorize`, { method: 'POST', body }).then(({ status }) => status),
    )
    assert.deepEqual((await Promise.all(calls)).sort(), [200, 401, 401, 401, 401, 401])
  })
})

describe('jwks_uri', () => {
  test('is fetched once, and again for an unknown kid, but not as often as callers like (CA-7)', async (t) => {
    const old = await newKey('old')
    const next = await newKey('next')
    const server = await serveKeys(t, [old.publicJwk])
    const clients = [pollClient('remote', { token_endpoint_auth_method: 'private_key_jwt', jwks_uri: server.url })]
    const own = await openStage(t, { config: { clients } })
    const sendRequest = async (holder: KeyHolder, kid: string) => {
      const assertion = await assertionOf(own, 'remote', { key: holder.privateKey, header: { kid } })
      return own.post('/backchannel/authorize', { ...cibaEndpoints[0].form, ...asserted(assertion) })
    }
    assert.deepEqual(
      (await Promise.all([1, 2, 3, 4].map(() => sendRequest(old, 'old')))).map(({ status }) => status),
      [200, 200, 200, 200],
    )
    assert.equal(server.fetched(), 1, 'all waiting calls share one fetch (JO-5)')

    server.publish([next.publicJwk])
    own.clock.advance(31_000)
    assert.equal((await sendRequest(next, 'next')).status, 200)
    assert.equal(server.fetched(), 2)
    for (let i = 0; i < 3; i++) assertInvalidClient(await sendRequest(old, `made-up-${i}`))
    assert.equal(server.fetched(), 2)
    assertInvalidClient(await sendRequest(old, 'old'))

    server.publish('not JSON')
    own.clock.advance(11 * 60_000)
    assert.equal((await sendRequest(next, 'next')).status, 200, 'known keys stay valid for a while')
    server.publish([next.publicJwk])
    const before = server.fetched()
    assert.equal((await sendRequest(next, 'next')).status, 200)
    assert.equal(server.fetched(), before, 'a failed fetch is remembered for a second')
    own.clock.advance(1000)
    assert.equal((await sendRequest(next, 'next')).status, 200)
    assert.equal(server.fetched(), before + 1)
  })
})

function sign(claims: Record<string, unknown>): Promise<string> {
  return assertionOf(stage, 'key', { key: key.privateKey, claims })
}

function hmacWith(text: string): Promise<string> {
  return assertionOf(stage, 'key', { key: new TextEncoder().encode(text), header: { alg: 'HS256' } })
}

const publicKey = () => importJWK(key.publicJwk as never, 'ES256', { extractable: true })

function unsigned(clientId: string): string {
  const claims = { iss: clientId, sub: clientId, aud: stage.url, jti: newSecret(), exp: inSeconds(60) }
  return `${[{ alg: 'none' }, claims].map((part) => base64url.encode(JSON.stringify(part))).join('.')}.`
}

async function broken(): Promise<string> {
  const [, payload, signature] = (await sign({})).split('.')
  return `${base64url.encode('{"alg":"ES256","crit":["x"],"x":1}')}.${payload}.${signature}`
}

function assertInvalidClient({ status, body }: Answer): void {
  assert.deepEqual([status, body.error], [401, 'invalid_client'])
  // In development, the description ends with the reason.
  assert.match(String(body.error_description), /^client authentication failed/)
}

/** Another Doorbell on the stage's database, with the same issuer. Returns its address. */
async function secondNode(t: TestContext, of: Stage, clients: ReturnType<typeof pollClient>[]): Promise<string> {
  const config = castConfig(Number(new URL(of.url).port), of.database, { config: { clients, issuer: of.url } })
  const node = await createDoorbell(await loadConfig({ env: {}, overrides: config }), {
    clock: of.clock,
    log: createLog('silent'),
  })
  t.after(() => node.close())
  const port = await freePort()
  await node.listen({ port })
  return `http://localhost:${port}`
}

async function serveKeys(t: TestContext, first: unknown[]) {
  let keys: unknown = first
  let fetched = 0
  const server = createServer((_request, response) => {
    fetched++
    response.setHeader('content-type', 'application/json')
    response.end(typeof keys === 'string' ? keys : JSON.stringify({ keys }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/jwks`,
    fetched: () => fetched,
    publish: (next: unknown) => {
      keys = next
    },
  }
}
