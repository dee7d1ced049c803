/** Signed authentication requests (CIBA Core §7.1.1): the parameters in the JWT count, and no others. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { base64url, type CryptoKey, exportJWK, FlattenedSign, importJWK, SignJWT } from 'jose'
import { createSignedRequestStore } from '../../src/ciba/backchannel-authentication/signed-request-store.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { type SignedRequestOptions, signedRequest } from '../support/signed-requests.ts'
import { type Answer, basic, credentials, newNotificationToken, openStage, type Stage } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'

const secret = newSecret()
let key: KeyHolder
let foreign: KeyHolder
let rsa: KeyHolder
let stage: Stage
let close = () => {}

const signing = (id: string, alg: string, holders: KeyHolder[], more = {}) =>
  pollClient(id, {
    client_secret: secret,
    backchannel_authentication_request_signing_alg: alg,
    jwks: { keys: holders.map(({ publicJwk }) => publicJwk) },
    ...more,
  })

before(async () => {
  key = await newKey('one')
  foreign = await newKey('one')
  rsa = await newKey('rsa', 'PS256')
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: {
      clients: [
        signing('bank', 'ES256', [key]),
        signing('other', 'ES256', [foreign]),
        signing('pss', 'PS256', [rsa]),
        signing('many', 'ES256', [key, { ...foreign, publicJwk: { ...foreign.publicJwk, kid: 'two' } }]),
        signing('twins', 'ES256', [{ ...rsa, publicJwk: { ...rsa.publicJwk, kid: 'one' } }, key]),
        signing('pinged', 'ES256', [key], {
          backchannel_token_delivery_mode: 'ping',
          backchannel_client_notification_endpoint: 'http://localhost:9/n',
        }),
        pollClient('unregistered', { client_secret: secret, jwks: { keys: [key.publicJwk] } }),
      ],
    },
  })
})
after(() => close())

const post = (request: string, as = 'bank', beside: Record<string, string> = {}): Promise<Answer> =>
  stage.post('/backchannel/authorize', { request, ...beside }, basic(as, secret))

const sign = (claims: Record<string, unknown> = {}, options: Partial<SignedRequestOptions> = {}, as = 'bank') =>
  signedRequest(stage, as, { key: key.privateKey, claims, ...options })

const inSeconds = (seconds: number) => Math.floor(stage.clock.now() / 1000) + seconds

const shown = async () => {
  const [newest] = await stage.waiting()
  return newest!
}

describe('a signed request is accepted, and means the same as the form', () => {
  const good: [string, () => Promise<string>, { as?: string; expires_in?: number }?][] = [
    ['as it is', () => sign()],
    ['requested_expiry as a string (SR-2)', () => sign({ requested_expiry: '30' }), { expires_in: 30 }],
    ['requested_expiry as a number (SR-2)', () => sign({ requested_expiry: 10 }), { expires_in: 10 }],
    ['aud as a list (SR-6)', () => sign({ aud: ['https://elsewhere.example', stage.url] })],
    ['typ JWT (SR-15)', () => sign({}, { header: { typ: 'JWT' } })],
    ['typ in mixed case', () => sign({}, { header: { typ: 'OautH-auThZ-REQ+jWt' } })],
    ['typ with application/', () => sign({}, { header: { typ: 'application/oauth-authz-req+jwt' } })],
    ['a sub that is not the client', () => sign({ sub: 'somebody' })],
    ['request_context as an object (FC-12)', () => sign({ request_context: { geo: [1, 2], depth: { er: true } } })],
    ['unknown claims (VL-7)', () => sign({ client_id: 'bank', foo: { bar: 1 }, nonce: 5 })],
    ['an empty parameter, which is an absent one', () => sign({ acr_values: '' })],
    ['a null, which is an absent parameter', () => sign({ acr_values: null })],
    ['times within ten seconds of clocks that differ (SR-8)', () => sign({ nbf: inSeconds(9), iat: inSeconds(9) })],
    ['a life of exactly 60 minutes (FC-10)', () => sign({ exp: inSeconds(3600) })],
    ['PS256', () => sign({}, { key: rsa.privateKey, header: { alg: 'PS256' } }, 'pss'), { as: 'pss' }],
    ['two kinds of keys with one kid (FI-17)', () => sign({}, { header: { kid: 'one' } }, 'twins'), { as: 'twins' }],
    ['one of two keys, named by kid (SR-3)', () => sign({}, { header: { kid: 'one' } }, 'many'), { as: 'many' }],
    ['one of two keys, without kid', () => sign({}, {}, 'many'), { as: 'many' }],
  ]
  for (const [name, make, { as = 'bank', expires_in = 600 } = {}] of good) {
    test(name, async () => {
      stage.clock.advance(1)
      const { status, body, text } = await post(await make(), as)
      assert.equal(status, 200, text)
      assert.equal(body.expires_in, expires_in)
      const { binding_message, scope, client } = await shown()
      assert.deepEqual([binding_message, scope], ['1234', 'openid'])
      assert.equal((client as { client_id: string }).client_id, as)
    })
  }

  test('a ping client sends its notification token in it', async () => {
    const token = newNotificationToken()
    assert.equal((await post(await sign({ client_notification_token: token }, {}, 'pinged'), 'pinged')).status, 200)
    const without = await post(await sign({}, {}, 'pinged'), 'pinged')
    assert.deepEqual([without.status, without.body.error], [400, 'invalid_request'])
  })

  test('every rule for the parameters applies as for a form', async () => {
    for (const [error, claims] of [
      ['invalid_scope', { scope: 'email' }],
      ['invalid_request', { scope: undefined }],
      ['invalid_request', { login_hint: undefined }],
      ['invalid_request', { id_token_hint: 'x.y.z' }],
      ['invalid_binding_message', { binding_message: 'a\nb' }],
      ['invalid_request', { requested_expiry: 0 }],
      ['invalid_request', { requested_expiry: 1.5 }],
      ['invalid_request', { requested_expiry: -1 }],
      ['unknown_user_id', { login_hint: 'nobody' }],
    ] as const) {
      const { status, body } = await post(await sign(claims))
      assert.deepEqual([status, body.error], [400, error], JSON.stringify(claims))
    }
  })
})

describe('a refused signed request is an invalid_request, and nothing of it is stored: with (SR-17)', () => {
  const wrong: [string, () => Promise<string> | string, as?: string][] = [
    ...['aud', 'iss', 'exp', 'iat', 'nbf', 'jti'].map((claim): [string, () => Promise<string>] => [
      `no ${claim} (SR-5)`,
      () => sign({ [claim]: undefined }),
    ]),
    ['another audience', () => sign({ aud: 'https://www.other1.example.com/' })],
    ['the endpoint as its audience (SR-6)', () => sign({ aud: `${stage.url}/backchannel/authorize` })],
    ['the issuer and a slash', () => sign({ aud: `${stage.url}/` })],
    ['another issuer (SR-7)', () => sign({ iss: 'other' })],
    ['an exp that has passed (SR-8)', () => sign({ exp: inSeconds(-11) })],
    ['an exp an hour ago', () => sign({ exp: inSeconds(-3600) })],
    ['an exp 70 minutes ahead (FC-10)', () => sign({ exp: inSeconds(4200) })],
    ['an nbf 10 minutes ahead', () => sign({ nbf: inSeconds(600), exp: inSeconds(900) })],
    ['an nbf 70 minutes ago (FC-11)', () => sign({ nbf: inSeconds(-4200), exp: inSeconds(60) })],
    ['an iat in the future', () => sign({ iat: inSeconds(11) })],
    ['times that are not numbers', () => sign({ exp: String(inSeconds(60)) })],
    ['a jti that is a number', () => sign({ jti: 5 })],
    ['an empty jti', () => sign({ jti: '' })],
    ['a key of another client', () => sign({}, { key: foreign.privateKey })],
    ['another algorithm than the registered', () => sign({}, { key: rsa.privateKey, header: { alg: 'PS256' } })],
    ['RS256 where PS256 is registered', async () => sign({}, await asRs256(), 'pss'), 'pss'],
    ['a shared secret (SR-3)', () => sign({}, { key: new TextEncoder().encode(secret), header: { alg: 'HS256' } })],
    ['a kid that is not registered', () => sign({}, { header: { kid: 'three' } })],
    ['alg none', async () => unsigned(await sign())],
    ['a signature that was changed', async () => withOtherSignature(await sign())],
    ['five parts (SR-14)', () => 'a.b.c.d.e'],
    ['not a JWT', () => 'x'],
    ['one that is too long (JO-4)', () => sign({ padding: 'x'.repeat(17_000) })],
    ...['dpop+jwt', 'at+jwt', 'client-authentication+jwt', 'logout+jwt', ''].map(
      (typ): [string, () => Promise<string>] => [`typ "${typ}" (SR-15)`, () => sign({}, { header: { typ } })],
    ),
    ['an unknown crit (JO-1)', () => critical()],
    ['a payload that is not encoded (RFC 7797)', () => plainPayload()],
    ['a request in it (SR-16)', () => sign({ request: 'x.y.z' })],
    ['a request_uri in it', () => sign({ request_uri: 'https://x.example' })],
    ['the subject of a client assertion (SR-16)', () => sign({ sub: 'bank' })],
    ['a scope that is a list (SR-18)', () => sign({ scope: ['openid'] })],
    ['a hint that is a number (SR-18)', () => sign({ login_hint: 5 })],
    ['a binding message that is an object', () => sign({ binding_message: { text: 'x' } })],
    ['a NUL', () => sign({ binding_message: 'a\0b' })],
    ['a client that never registered to sign (RG-7)', () => sign({}, {}, 'unregistered'), 'unregistered'],
  ]
  for (const [name, make, as = 'bank'] of wrong) {
    test(name, async () => {
      const before = (await countRows(stage)).backchannel_auth_requests
      const { status, body, text } = await post(await make(), as)
      assert.deepEqual([status, body.error], [400, 'invalid_request'], text)
      assert.deepEqual(
        Object.keys(body).filter((name) => !['error', 'error_description', 'error_uri'].includes(name)),
        [],
      )
      assert.match(String(body.error_description), /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/)
      assert.equal((await countRows(stage)).backchannel_auth_requests, before)
    })
  }

  test('a key or a key set address in its header is ignored, and nothing is fetched (JO-3)', async (t) => {
    let fetched = 0
    const keys = createServer((_request, response) => {
      fetched++
      response.end(JSON.stringify({ keys: [foreign.publicJwk] }))
    })
    await new Promise<void>((resolve) => keys.listen(0, '127.0.0.1', resolve))
    t.after(() => keys.close())
    const at = `http://127.0.0.1:${(keys.address() as AddressInfo).port}/`
    for (const header of [{ jku: at }, { x5u: at }, { jwk: foreign.publicJwk }, { kid: `one`, jku: at }] as object[]) {
      const { status, body } = await post(await sign({}, { key: foreign.privateKey, header }))
      assert.deepEqual([status, body.error], [400, 'invalid_request'], JSON.stringify(header))
      assert.equal((await post(await sign({}, { header }))).status, 200, 'ignored beside the right key')
    }
    assert.equal(fetched, 0)
  })

  test('no parameter of the request may stand beside it (SR-11, SR-12)', async () => {
    for (const beside of [
      { scope: 'openid' },
      { login_hint: 'ana' },
      { binding_message: '1234' },
      { requested_expiry: '10' },
      { client_notification_token: 'x' },
      { acr_values: 'x' },
      { user_code: 'x' },
      { authorization_details: '[]' },
      { resource: 'https://api.example' },
    ] as Record<string, string>[]) {
      const { status, body } = await post(await sign(), 'bank', beside)
      assert.deepEqual([status, body.error], [400, 'invalid_request'], JSON.stringify(beside))
    }
    assert.equal(
      (await post(await sign(), 'bank', { client_id: 'bank', foo: 'bar' })).status,
      200,
      'others may be there',
    )
  })

  test("another client's id beside it", async () => {
    const { status, body } = await post(await sign(), 'bank', { client_id: 'other' })
    assert.deepEqual([status, body.error], [401, 'invalid_client'])
  })

  test('the form alone, from a client that registered to sign (RG-7)', async () => {
    const form = { scope: 'openid', login_hint: 'ana' }
    const { status, body } = await stage.post('/backchannel/authorize', form, basic('bank', secret))
    assert.deepEqual([status, body.error], [400, 'invalid_request'])
  })

  test('a client that is not registered for CIBA is refused before its request is read (VL-9)', async () => {
    for (const request of [
      await sign({}, {}, 'phone-service'),
      await sign({ exp: 1 }, {}, 'phone-service'),
      await sign({}, { key: foreign.privateKey }, 'phone-service'),
      await sign(),
      'x',
    ]) {
      const { status, body } = await stage.post('/backchannel/authorize', { request }, credentials.phoneService)
      assert.deepEqual([status, body.error], [400, 'unauthorized_client'], request)
    }
    const { body } = await stage.post('/backchannel/authorize', { request: 'x' }, basic('phone-service', 'wrong'))
    assert.equal(body.error, 'invalid_client', 'first it has to authenticate itself (VL-1)')
  })
})

describe('a signed request is accepted once (SR-9)', () => {
  for (const engine of engines) {
    test(`of ten at once one is accepted, and it stays used after a restart, on ${engine.name}`, async (t) => {
      const ours = await openStage(t, { engine, config: { clients: [signing('bank', 'ES256', [key])] } })
      const jwt = await signedRequest(ours, 'bank', { key: key.privateKey })
      const send = () => ours.post('/backchannel/authorize', { request: jwt }, basic('bank', secret))
      const answers = await Promise.all(Array.from({ length: 10 }, send))
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(9).fill(400)])
      await ours.restart()
      assert.equal((await send()).body.error, 'invalid_request')
    })

    test(`it is stored as received, encrypted, as later evidence, on ${engine.name} (FC-14)`, async (t) => {
      const ours = await openStage(t, { engine, config: { clients: [signing('bank', 'ES256', [key])] } })
      const jwt = await signedRequest(ours, 'bank', { key: key.privateKey })
      await ours.post('/backchannel/authorize', { request: jwt }, basic('bank', secret))
      const database = await openDatabase(ours.database, { log: createLog('silent'), clock: ours.clock })
      t.after(() => database.close())
      const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
      const kept = createSignedRequestStore(database, vault)
      assert.equal(await kept.find(await ours.newestRequest()), jwt)
      assert.equal(await kept.find('nobody'), undefined)
      const [row] = await database.read<{ sealed: string }>('select sealed from signed_requests')
      assert.ok(!row!.sealed.includes(jwt.split('.')[1]!))
    })
  }

  test('two clients may use the same jti, and an assertion’s jti is independent of it', async () => {
    assert.equal((await post(await sign({ jti: 'chosen' }))).status, 200)
    assert.equal((await post(await sign({ jti: 'chosen' }, { key: foreign.privateKey }, 'other'), 'other')).status, 200)
    assert.equal((await post(await sign({ jti: 'chosen' }))).status, 400)
  })

  test('a key set that the client serves itself is fetched, and again for a new key', async (t) => {
    let keys = [key.publicJwk]
    const served = createServer((_request, response) => response.end(JSON.stringify({ keys })))
    await new Promise<void>((resolve) => served.listen(0, '127.0.0.1', resolve))
    t.after(() => served.close())
    const uri = `http://127.0.0.1:${(served.address() as AddressInfo).port}/jwks`
    const client = signing('remote', 'ES256', [], { jwks: undefined, jwks_uri: uri })
    const ours = await openStage(t, { config: { clients: [client] } })
    const send = async (options: SignedRequestOptions) =>
      ours.post(
        '/backchannel/authorize',
        { request: await signedRequest(ours, 'remote', options) },
        basic('remote', secret),
      )
    assert.equal((await send({ key: key.privateKey, header: { kid: 'one' } })).status, 200)
    keys = [{ ...foreign.publicJwk, kid: 'new' }]
    ours.clock.advance(60_000)
    assert.equal((await send({ key: foreign.privateKey, header: { kid: 'new' } })).status, 200)
  })
})

test('a signed request with any change is refused', async () => {
  const jwt = await sign()
  await fc.assert(
    fc.asyncProperty(fc.nat(jwt.length - 1), fc.constantFrom(0, 1), letters, async (at, cut, letter) => {
      const mutated = jwt.slice(0, at) + letter + jwt.slice(at + cut)
      fc.pre(mutated !== jwt)
      const { status, body } = await post(mutated)
      assert.deepEqual([status, body.error], [400, 'invalid_request'])
    }),
    { numRuns: Number(process.env.DOORBELL_TEST_RUNS ?? 500) },
  )
  assert.equal((await post(jwt)).status, 200, 'none of this has used it up')
})

/** Characters, of which lenient parsers ignore some. */
const letters = fc.constantFrom('', ...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', ...'.=+/ \n')

function critical(): Promise<string> {
  const now = inSeconds(0)
  const times = { iat: now, nbf: now, exp: now + 60, jti: newSecret() }
  return new SignJWT({ iss: 'bank', aud: stage.url, scope: 'openid', login_hint: 'ana', ...times })
    .setProtectedHeader({ alg: 'ES256', crit: ['urn:x'], 'urn:x': true })
    .sign(key.privateKey, { crit: { 'urn:x': true } })
}

/** Returns a request that is correctly signed over its unencoded payload. This payload needs no encoding. */
async function plainPayload(): Promise<string> {
  const [, payload = ''] = (await sign()).split('.')
  const header = { alg: 'ES256', b64: false, crit: ['b64'] }
  const { signature, protected: head } = await new FlattenedSign(Buffer.from(payload))
    .setProtectedHeader(header)
    .sign(key.privateKey)
  return `${head}.${payload}.${signature}`
}

function unsigned(jwt: string): string {
  return `${base64url.encode(JSON.stringify({ alg: 'none' }))}.${jwt.split('.')[1]}.`
}

function withOtherSignature(jwt: string): string {
  const [header, payload, signature = ''] = jwt.split('.')
  const bytes = Buffer.from(signature, 'base64url')
  bytes[5]! ^= 0x5a
  return `${header}.${payload}.${bytes.toString('base64url')}`
}

/** Returns options with the same RSA key for RS256, which uses the older padding. */
async function asRs256(): Promise<Partial<SignedRequestOptions>> {
  const jwk = await exportJWK(rsa.privateKey)
  return { key: (await importJWK(jwk, 'RS256')) as CryptoKey, header: { alg: 'RS256' } }
}
