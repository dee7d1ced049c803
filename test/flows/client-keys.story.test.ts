/**
 * The keys of clients as clients really publish them: several without `kid`, replaced without a new `kid`, and at an
 * address that does not answer.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { SignJWT } from 'jose'
import * as openid from 'openid-client'
import type { ClientMetadataInput, PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
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
import { discover } from '../support/foreign-client.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, basic, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'

const signs: Partial<ClientMetadataInput> = {
  token_endpoint_auth_method: 'private_key_jwt',
  grant_types: [CIBA, 'refresh_token'],
}
const secret = newSecret()

/** All places where a client proves itself with an assertion. Each is called for something that does not exist. */
const everywhere = [
  ...cibaEndpoints,
  { path: '/oauth/introspect', form: { token: 'unknown' } },
  { path: '/oauth/revoke', form: { token: 'unknown' } },
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'unknown' } },
] as const

async function answersTo(stage: Stage, client: string, options: AssertionOptions): Promise<Answer[]> {
  const answers: Answer[] = []
  for (const { path, form } of everywhere) {
    answers.push(await stage.post(path, { ...form, ...asserted(await assertionOf(stage, client, options)) }))
  }
  return answers
}

async function assertBelievedEverywhere(stage: Stage, client: string, options: AssertionOptions): Promise<void> {
  for (const answer of await answersTo(stage, client, options)) assert.ok(isBelieved(answer), answer.text)
}

async function assertRefusedEverywhere(stage: Stage, client: string, options: AssertionOptions): Promise<void> {
  for (const { status, body } of await answersTo(stage, client, options)) {
    assert.deepEqual([status, body.error], [401, 'invalid_client'])
  }
}

/** A key whose public part is published with these members, and with no others. */
async function publishedWith(alg: string, members: Record<string, unknown> = {}) {
  const { privateKey, publicJwk } = await newKey('none', alg)
  const { kid, alg: _, ...material } = publicJwk
  return { alg, privateKey, publicJwk: { ...material, ...members } as PublicJwk }
}

describe('of several keys that match the header of a signature, all are tried', () => {
  const sets: [string, () => Promise<Awaited<ReturnType<typeof publishedWith>>[]>, Record<string, string>?][] = [
    ['two keys without kid', () => keys('ES256', {}, {})],
    ['three RSA keys without kid', () => keys('PS256', {}, {}, {})],
    ['keys without kid, one with alg', () => keys('ES256', { alg: 'ES256' }, {})],
    ['keys without kid, one with use', () => keys('RS256', {}, { use: 'sig' })],
    ['Ed25519 keys without kid', () => keys('Ed25519', {}, {})],
    ['two keys with one kid', () => keys('ES256', { kid: 'same' }, { kid: 'same' }), { kid: 'same' }],
    ['keys with and without kid', () => keys('ES256', { kid: 'one' }, {})],
  ]
  const keys = (alg: string, ...members: Record<string, unknown>[]) =>
    Promise.all(members.map((each) => publishedWith(alg, each)))

  for (const [name, make, header] of sets) {
    test(`${name}: at every endpoint`, async (t) => {
      const holders = await make()
      const jwks = { keys: holders.map(({ publicJwk }) => publicJwk) }
      const served = await openKeyServer(t)
      served.publish(jwks)
      const stage = await openStage(t, {
        config: {
          clients: [
            pollClient('inline', { ...signs, jwks }),
            pollClient('fetched', { ...signs, jwks_uri: served.url }),
          ],
        },
      })
      const foreign = await publishedWith(holders[0]!.alg)
      for (const client of ['inline', 'fetched']) {
        for (const { alg, privateKey } of holders) {
          await assertBelievedEverywhere(stage, client, { key: privateKey, header: { alg, ...header } })
        }
        await assertRefusedEverywhere(stage, client, {
          key: foreign.privateKey,
          header: { alg: foreign.alg, ...header },
        })
      }
    })
  }

  test('also next to keys that cannot be used: too short, for encryption, of another kind', async (t) => {
    const [key] = await keys('RS256', {})
    const short = { kty: 'RSA', n: Buffer.alloc(128, 0xc5).toString('base64url'), e: 'AQAB' }
    const served = await openKeyServer(t)
    const unusable = [
      short,
      { ...key!.publicJwk, use: 'enc' },
      { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AAAA' },
      { kty: 'EC', crv: 'P-256', x: 'AA' },
      { ...key!.publicJwk, kid: 7 },
      { ...key!.publicJwk, n: undefined },
      { kty: 'oct', k: 'AAAA' },
      {},
      null,
    ]
    served.publish({ keys: [...unusable, key!.publicJwk] })
    const stage = await openStage(t, {
      config: { clients: [pollClient('fetched', { ...signs, jwks_uri: served.url })] },
    })
    await assertBelievedEverywhere(stage, 'fetched', { key: key!.privateKey, header: { alg: 'RS256' } })
  })

  test('for the assertions of openid-client, which has been given keys without kid', async (t) => {
    const [one, two] = await keys('ES256', {}, {})
    const jwks = { keys: [one!.publicJwk, two!.publicJwk] }
    const stage = await openStage(t, { config: { clients: [pollClient('inline', { ...signs, jwks })] } })
    stage.clock.advance(Date.now() - stage.clock.now())
    for (const { privateKey } of [one!, two!]) {
      const client = await discover(stage, 'inline', openid.PrivateKeyJwt(privateKey))
      const { auth_req_id } = await openid.initiateBackchannelAuthentication(client, {
        scope: 'openid',
        login_hint: 'ana@example.com',
      })
      assert.ok(auth_req_id)
      assert.deepEqual(await openid.tokenIntrospection(client, 'unknown'), { active: false })
    }
  })

  test('for signed requests and login_hint_tokens', async (t) => {
    const [one, two] = await keys('ES256', {}, {})
    const foreign = await publishedWith('ES256')
    const jwks = { keys: [one!.publicJwk, two!.publicJwk] }
    const issuer = 'https://finder.example'
    const stage = await openStage(t, {
      config: { clients: [signing({ jwks })], hints: { tokenIssuers: [{ issuer, jwks }] } },
    })
    const requestOf = async ({ privateKey }: KeyHolder) => {
      const request = await signedRequest(stage, 'signing', { key: privateKey })
      return (await stage.post('/backchannel/authorize', { request }, basic('signing', secret))).status
    }
    const hintOf = async (holder: KeyHolder) => {
      const login_hint_token = await hintToken(stage, issuer, holder)
      const form = { scope: 'openid', login_hint_token }
      return (await stage.post('/backchannel/authorize', form, credentials.kiosk)).status
    }
    for (const ask of [requestOf, hintOf]) {
      assert.deepEqual([await ask(one!), await ask(two!), await ask(foreign)], [200, 200, 400])
    }
  })

  test('a key that was replaced without a new kid: the set is fetched again, but not at each call', async (t) => {
    const [old, next] = await keys('ES256', {}, {})
    const served = await openKeyServer(t)
    served.publish({ keys: [old!.publicJwk] })
    const stage = await openStage(t, {
      config: { clients: [pollClient('fetched', { ...signs, jwks_uri: served.url })] },
    })
    const [first] = everywhere
    const ask = async ({ privateKey }: KeyHolder) =>
      (
        await stage.post(first.path, {
          ...first.form,
          ...asserted(await assertionOf(stage, 'fetched', { key: privateKey })),
        })
      ).status
    assert.equal(await ask(old!), 200)
    served.publish({ keys: [next!.publicJwk] })
    assert.deepEqual([await ask(next!), served.asked()], [401, 1])
    stage.clock.advance(30_001)
    await assertBelievedEverywhere(stage, 'fetched', { key: next!.privateKey })
    assert.deepEqual([await ask(old!), await ask(old!), served.asked()], [401, 401, 2])
  })
})

describe('the jwks_uri of a client cannot be fetched', () => {
  const outages: [string, (response: ServerResponse) => void][] = [
    ['the connection breaks', (response) => response.destroy()],
    ['it answers 503', (response) => response.writeHead(503).end()],
    ['it answers 404', (response) => response.writeHead(404).end('not found')],
    ['it redirects to a page', (response) => response.writeHead(302, { location: '/maintenance' }).end()],
    ['a proxy answers with its own page', (response) => response.end('<!doctype html><title>Maintenance</title>')],
    ['it answers with JSON that is no key set', (response) => response.end('{"error":"unavailable"}')],
  ]

  for (const [index, [name, fail]] of outages.entries()) {
    test(`${name}: keys known before stay valid for a while, then the answer is 503`, async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t, { engine: engines[index % engines.length]! })
      const own = { key: key.privateKey, header: { kid: 'one' } }
      await assertBelievedEverywhere(stage, 'fetched', own)
      served.fail(fail)
      for (const seconds of [11 * 60, 48 * 60]) {
        stage.clock.advance(seconds * 1000)
        await assertBelievedEverywhere(stage, 'fetched', own)
      }
      const foreign = await newKey('one')
      await assertRefusedEverywhere(stage, 'fetched', { key: foreign.privateKey, header: { kid: 'one' } })
      stage.clock.advance(61_000)
      await assertUnavailableEverywhere(stage, own)

      served.publish({ keys: [key.publicJwk] })
      stage.clock.advance(30_000)
      await assertBelievedEverywhere(stage, 'fetched', own)
    })

    test(`${name}: before the first fetch the answer is 503, not invalid_client`, async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t)
      served.fail(fail)
      await assertUnavailableEverywhere(stage, { key: key.privateKey })
    })
  }

  for (const engine of engines) {
    test(`an approved request is collected although the jwks_uri fails, while the known keys are valid, on ${engine.name}`, async (t) => {
      const { key, served, stage } = await sceneWithFetchedKeys(t, { engine })
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
  }

  test('an unknown kid during the outage gets 503: it is neither accepted nor refused', async (t) => {
    const { served, stage } = await sceneWithFetchedKeys(t)
    const next = await newKey('next')
    await answersTo(stage, 'fetched', { key: next.privateKey })
    served.fail((response) => response.destroy())
    stage.clock.advance(31_000)
    await assertUnavailableEverywhere(stage, { key: next.privateKey, header: { kid: 'next' } })
  })

  test('signed requests and login_hint_tokens: 503 too, and accepted once the keys are there', async (t) => {
    const { key, served, stage } = await sceneWithFetchedKeys(t)
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
    const { key, served, stage } = await sceneWithFetchedKeys(t, { config: { fetchedKeys: { keepInOutage: 0 } } })
    await assertBelievedEverywhere(stage, 'fetched', { key: key.privateKey })
    served.fail((response) => response.destroy())
    stage.clock.advance(9 * 60_000)
    await assertBelievedEverywhere(stage, 'fetched', { key: key.privateKey, header: { kid: 'one' } })
    stage.clock.advance(61_000)
    await assertUnavailableEverywhere(stage, { key: key.privateKey, header: { kid: 'one' } })
  })

  test('Retry-After says when the keys are fetched again, and the log says why they are missing', async (t) => {
    const { key, served, stage } = await sceneWithFetchedKeys(t)
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

const finder = 'https://finder.example'

async function sceneWithFetchedKeys(t: TestContext, { config, ...options }: Parameters<typeof openStage>[1] = {}) {
  const key = await newKey('one')
  const served = await openKeyServer(t)
  served.publish({ keys: [key.publicJwk] })
  const stage = await openStage(t, {
    ...options,
    config: {
      hints: { tokenIssuers: [{ issuer: finder, jwksUri: served.url }] },
      ...config,
      clients: [pollClient('fetched', { ...signs, jwks_uri: served.url }), signing({ jwks_uri: served.url })],
    },
  })
  return { key, served, stage }
}

function signing(keys: Pick<ClientMetadataInput, 'jwks' | 'jwks_uri'>): ClientMetadataInput {
  return pollClient('signing', {
    client_secret: secret,
    backchannel_authentication_request_signing_alg: 'ES256',
    ...keys,
  })
}

function hintToken(stage: Stage, issuer: string, { privateKey }: KeyHolder): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  return new SignJWT({ iss: issuer, aud: stage.url, sub: 'user-ana', iat: now, exp: now + 60 })
    .setProtectedHeader({ alg: 'ES256' })
    .sign(privateKey)
}

async function assertUnavailableEverywhere(stage: Stage, options: AssertionOptions): Promise<void> {
  for (const answer of await answersTo(stage, 'fetched', options)) assertUnavailable(answer)
}

function assertUnavailable({ status, headers, body, text }: Answer): void {
  assert.deepEqual([status, body.error], [503, 'temporarily_unavailable'], text)
  assert.match(headers.get('retry-after') ?? '', /^[1-9]\d?$/)
  assert.equal(headers.get('cache-control'), 'no-store')
}

async function openKeyServer(t: TestContext) {
  let answer: (response: ServerResponse) => void = (response) => response.destroy()
  let asked = 0
  const server = createServer((_request, response) => {
    asked += 1
    answer(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/keys`,
    asked: () => asked,
    publish(jwks: object) {
      answer = (response) => response.end(JSON.stringify(jwks))
    },
    fail(how: (response: ServerResponse) => void) {
      answer = how
    },
  }
}
