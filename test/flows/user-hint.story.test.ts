/** Hints: which ones a client may send, and the errors if they lead to no user (VL-4, VL-5, AE-4, SC-3 to SC-8). */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { base64url, type CryptoKey, importJWK, SignJWT } from 'jose'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { OAuthError } from '../../src/platform/oauth-error.ts'
import type { UserHint } from '../../src/user/user.ts'
import { type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, ben, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const disabled = { id: 'user-dora', username: 'dora', email: 'dora@example.com', disabled: true }

let stage: Stage
let close = () => {}
let ours: { key: CryptoKey; kid: string }

before(async () => {
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: { users: [ana, ben, disabled] },
  })
  ours = await ourSigningKey(stage)
})
after(() => close())

describe('a login_hint leads to its user by id or by any identifier (M26)', () => {
  for (const [hint, user] of [
    ['user-ana', ana],
    ['ana', ana],
    ['ana@example.com', ana],
    ['ANA@Example.COM', ana],
    ['+34600000001', ana],
    ['user-ben', ben],
    ['Ben@example.com', ben],
  ] as const) {
    test(hint, async () => {
      assert.equal((await stage.ring('kiosk', { login_hint: hint })).status, 200)
      const newest = await stage.doorbell.requests.list(user.id, { only: 'open' })
      assert.equal(newest[0]!.createdAt, stage.clock.now())
    })
  }

  for (const hint of [
    'zoe',
    'an',
    'ana ',
    'dora',
    'DORA@example.com',
    "ana' or '1'='1",
    '__proto__',
    'constructor',
    '%',
  ]) {
    test(`"${hint}" leads to no user who can be asked: unknown_user_id`, async () => {
      assertRefused(await stage.ring('kiosk', { login_hint: hint }), 'unknown_user_id')
    })
  }
})

describe('an id_token_hint', () => {
  const day = 24 * 3600
  const hinted = (id_token_hint: string, as: 'kiosk' | 'northbank' = 'kiosk') =>
    stage.ring(as, { login_hint: '', id_token_hint })

  test('issued to this client leads to its user, even long after its exp (SC-3, SC-8)', async () => {
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    const idToken = String((await stage.poll('kiosk', auth_req_id)).body.id_token)
    assert.equal((await hinted(idToken)).status, 200)
    assert.equal((await hinted(await idTokenOf({ iat: ago(100 * day), exp: ago(99 * day) }))).status, 200)
    assert.equal((await hinted(await idTokenOf({ iat: ago(180 * day - 60) }))).status, 200)
    assert.equal((await hinted(await idTokenOf({}, { typ: 'JWT' }))).status, 200)
    assertRefused(await hinted(idToken, 'northbank'), 'invalid_request')
  })

  const wrong: [string, () => Promise<string> | string][] = [
    ['too old', () => idTokenOf({ iat: ago(180 * day + 60) })],
    ['for another client (SC-5)', () => idTokenOf({ aud: 'northbank' })],
    ['of another issuer (SC-4)', () => idTokenOf({ iss: 'https://elsewhere.example' })],
    ['without sub', () => idTokenOf({ sub: undefined })],
    ['without iat', () => idTokenOf({ iat: undefined })],
    ['that is an access token by its type', () => idTokenOf({}, { typ: 'at+jwt' })],
    ['that is a logout token by its type', () => idTokenOf({}, { typ: 'logout+jwt' })],
    ['with alg none', () => `${base64url.encode('{"alg":"none"}')}.${base64url.encode(JSON.stringify(claimsOf({})))}.`],
    ["signed with another issuer's key (SC-6)", foreignlySigned],
    ['with HS256, keyed with our public key', hmacSigned],
    ['that is not a JWT', () => 'ana'],
  ]
  for (const [name, make] of wrong) {
    test(`${name}: invalid_request`, async () => assertRefused(await hinted(await make()), 'invalid_request'))
  }

  test('about a user who is removed or disabled: unknown_user_id', async () => {
    for (const sub of ['nobody', 'user-dora', '__proto__']) {
      assertRefused(await hinted(await idTokenOf({ sub })), 'unknown_user_id')
    }
  })
})

describe("a login_hint_token, and an application's own users", () => {
  test('is refused by the built-in directory', async () => {
    assertRefused(await stage.ring('kiosk', { login_hint: '', login_hint_token: 'ana' }), 'unknown_user_id')
  })

  test('goes to the hook, which returns a user, no user, or its own error', async (t) => {
    const heard: UserHint[] = []
    const own = await openStage(t, {
      config: {
        users: {
          find: async (id) => (id === 'user-ana' ? ana : null),
          async findByHint(hint) {
            heard.push(hint)
            if (hint.value === 'expired') throw new OAuthError('expired_login_hint_token', 'the token has expired')
            if (hint.value === 'broken') throw new Error('the directory is down: ldap://secret')
            return hint.value === 'good' ? ana : null
          },
        },
      },
    })
    const sendRequest = (login_hint_token: string) => own.ring('kiosk', { login_hint: '', login_hint_token })
    assert.equal((await sendRequest('good')).status, 200)
    assert.deepEqual(heard, [{ kind: 'login_hint_token', value: 'good' }])
    assertRefused(await sendRequest('nobody'), 'unknown_user_id')
    assertRefused(await sendRequest('expired'), 'expired_login_hint_token')
    const broken = await sendRequest('broken')
    assert.deepEqual([broken.status, broken.body.error], [500, 'server_error'])
    assert.ok(!broken.text.includes('ldap'), 'internal errors are not revealed')
  })
})

describe('a login_hint_token of an issuer that the operator trusts (M27, SC-1)', () => {
  const finder = 'https://finder.example'
  const post = 'https://post.example'
  let trusting: Stage
  let closeTrusting = () => {}
  let keys: { finder: KeyHolder; post: KeyHolder }

  before(async () => {
    keys = { finder: await newKey('finder'), post: await newKey('post', 'PS256') }
    trusting = await openStage({ after: (fn: () => void) => (closeTrusting = fn) } as never, {
      config: {
        users: [ana, ben, disabled, { id: 'user-eve', username: 'ana@example.org' }],
        hints: {
          tokenIssuers: [
            { issuer: finder, jwks: { keys: [keys.finder.publicJwk] } },
            {
              issuer: post,
              jwks: { keys: [keys.post.publicJwk] },
              subject: 'email',
              audience: 'doorbell',
              algorithms: ['PS256'],
            },
          ],
        },
      },
    })
  })
  after(() => closeTrusting())

  const now = () => Math.floor(trusting.clock.now() / 1000)
  const token = (claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}, key = keys.finder) =>
    new SignJWT({ iss: finder, aud: trusting.url, sub: 'user-ana', iat: now(), exp: now() + 60, ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'finder', ...header })
      .sign(key.privateKey)
  const byPost = (claims: Record<string, unknown>, header = {}) =>
    token({ iss: post, aud: 'doorbell', ...claims }, { alg: 'PS256', kid: 'post', ...header }, keys.post)
  const sendRequest = (login_hint_token: string) => trusting.ring('kiosk', { login_hint: '', login_hint_token })

  test('leads to its user', async () => {
    for (const good of [
      token(),
      token({ aud: ['https://elsewhere.example', trusting.url] }),
      token({}, { typ: 'JWT' }),
      token({}, { typ: 'application/login-hint+jwt' }),
      token({ iat: now() + 9, nbf: now() + 9 }),
      byPost({ email: 'Ana@Example.com' }),
      byPost({ email: 'ana@example.com', email_verified: true, sub: 'user-ben' }),
    ]) {
      const { status, text } = await sendRequest(await good)
      assert.equal(status, 200, text)
      const [newest] = await trusting.doorbell.requests.list('user-ana', { only: 'open' })
      assert.equal(newest!.createdAt, trusting.clock.now())
    }
  })

  test('that has expired gets expired_login_hint_token, if it is valid otherwise (AE-4)', async () => {
    assertRefused(await sendRequest(await token({ iat: now() - 100, exp: now() - 11 })), 'expired_login_hint_token')
    const { privateKey, publicJwk } = await newKey('finder')
    const forged = await token({ exp: now() - 11 }, {}, { privateKey, publicJwk })
    for (const worse of [forged, await token({ exp: now() - 11, aud: 'elsewhere' })]) {
      assertRefused(await sendRequest(worse), 'invalid_request')
    }
  })

  const wrong: [string, () => Promise<string> | string][] = [
    ['of an issuer that is not trusted', () => token({ iss: 'https://other.example' })],
    ['without an issuer', () => token({ iss: undefined })],
    ['with the key of another issuer', () => token({}, { kid: 'post', alg: 'PS256' }, keys.post)],
    ['with an unknown key', async () => token({}, {}, await newKey('finder'))],
    [
      'that brings its own key',
      async () => {
        const own = await newKey('finder')
        return token({}, { jwk: own.publicJwk }, own)
      },
    ],
    [
      'with alg none',
      () =>
        `${base64url.encode('{"alg":"none"}')}.${base64url.encode(JSON.stringify({ iss: finder, sub: 'user-ana' }))}.`,
    ],
    [
      'with HS256, keyed with the public key',
      () =>
        new SignJWT({ iss: finder, aud: trusting.url, sub: 'user-ana', iat: now(), exp: now() + 60 })
          .setProtectedHeader({ alg: 'HS256' })
          .sign(new TextEncoder().encode(JSON.stringify(keys.finder.publicJwk))),
    ],
    ['for another audience', () => token({ aud: 'https://elsewhere.example' })],
    ['without an audience', () => token({ aud: undefined })],
    ['for our issuer, where another audience was agreed', () => byPost({ email: ana.email, aud: trusting.url })],
    ['without exp', () => token({ exp: undefined })],
    ['without iat', () => token({ iat: undefined })],
    ['issued in the future', () => token({ iat: now() + 60 })],
    ['not good yet', () => token({ nbf: now() + 60 })],
    ['without the claim that names the user', () => token({ sub: undefined })],
    ['without the configured claim', () => byPost({})],
    ['that is an access token by its type', () => token({}, { typ: 'at+jwt' })],
    ['that is a DPoP proof by its type', () => token({}, { typ: 'dpop+jwt' })],
    ['that is not a JWT', () => 'ana'],
    ['that is encrypted', () => 'a.b.c.d.e'],
    ['that is too long', () => 'a.'.repeat(10_000)],
  ]
  for (const [name, make] of wrong) {
    test(`${name}: invalid_request`, async () => assertRefused(await sendRequest(await make()), 'invalid_request'))
  }

  const unknown: [string, () => Promise<string>][] = [
    ['an unknown user', () => token({ sub: 'nobody' })],
    ['a disabled user', () => token({ sub: 'user-dora' })],
    ['a name that is not the id', () => token({ sub: 'ana@example.com' })],
    ['not a string', () => token({ sub: '' })],
    ['an object', () => byPost({ email: { ana: true } })],
    ['an address that is not verified', () => byPost({ email: ana.email, email_verified: false })],
    ['an address that is not verified, as a text', () => byPost({ email: ana.email, email_verified: 'false' })],
    ["an address that is another user's username", () => byPost({ email: 'ana@example.org' })],
    ['an id where an address was agreed', () => byPost({ email: 'user-ana' })],
  ]
  for (const [name, make] of unknown) {
    test(`${name}: unknown_user_id`, async () => assertRefused(await sendRequest(await make()), 'unknown_user_id'))
  }

  test("its keys may be at an address: fetched once, and again for a new key; an issuer's mistake is an invalid_request, not a 5xx", async (t) => {
    const [first, second] = [await newKey('first'), await newKey('second')]
    let set = [first.publicJwk]
    let fetches = 0
    const server = createServer((_request, response) => {
      fetches += 1
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: set }))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.after(() => server.close())
    const jwksUri = `http://localhost:${(server.address() as AddressInfo).port}/keys`
    const own = await openStage(t, { config: { hints: { tokenIssuers: [{ issuer: finder, jwksUri }] } } })
    const ringWith = async (kid: string, key: KeyHolder) =>
      own.ring('kiosk', { login_hint: '', login_hint_token: await token({ aud: own.url }, { kid }, key) })

    for (let each = 0; each < 3; each++) assert.equal((await ringWith('first', first)).status, 200)
    assert.equal(fetches, 1)
    set = [second.publicJwk]
    assertRefused(await ringWith('second', second), 'invalid_request')
    own.clock.advance(31_000)
    assert.equal((await ringWith('second', second)).status, 200)
    assertRefused(await ringWith('first', first), 'invalid_request')
    assert.equal(fetches, 2)
  })

  test('for a hook it is verified first, and the hook gets its claims', async (t) => {
    const heard: UserHint[] = []
    const own = await openStage(t, {
      config: {
        hints: { tokenIssuers: [{ issuer: finder, jwks: { keys: [keys.finder.publicJwk] }, subject: 'email' }] },
        users: { find: async () => ana, findByHint: async (hint) => (heard.push(hint) > 0 ? ana : null) },
      },
    })
    const claims = { aud: own.url, email: 'ana@example.com', branch: 7 }
    const value = await token(claims)
    const ringOwn = (login_hint_token: string) => own.ring('kiosk', { login_hint: '', login_hint_token })
    assert.equal((await ringOwn(value)).status, 200)
    assertRefused(await ringOwn(await token({ ...claims, iss: 'https://other.example' })), 'invalid_request')
    assertRefused(await ringOwn(await token({ ...claims, email_verified: false })), 'unknown_user_id')
    assert.equal(heard.length, 1)
    const [{ kind, value: asSent, claims: checked, subject }] = heard as [UserHint]
    assert.deepEqual([kind, asSent, subject], ['login_hint_token', value, { claim: 'email', value: 'ana@example.com' }])
    assert.deepEqual([checked!.iss, checked!.branch], [finder, 7])
  })
})

describe('a client that may use some hints only (M30)', () => {
  const secret = newSecret()

  test('is refused before any user is looked up, signed or not', async (t) => {
    const looked: string[] = []
    const find = async () => ana
    const findByHint = async ({ kind }: UserHint) => {
      looked.push(kind)
      return ana
    }
    const key = await newKey('one')
    const own = await openStage(t, {
      config: {
        users: { find, findByHint },
        clients: [
          pollClient('careful', {
            client_secret: secret,
            backchannel_allowed_hints: ['id_token_hint', 'login_hint_token'],
          }),
          pollClient('signing', {
            client_secret: secret,
            backchannel_allowed_hints: ['login_hint_token'],
            backchannel_authentication_request_signing_alg: 'ES256',
            jwks: { keys: [key.publicJwk] },
          }),
        ],
      },
    })
    const sendRequest = (form: Record<string, string>, as = 'careful') =>
      own.post('/backchannel/authorize', { scope: 'openid', ...form }, basic(as, secret))
    assertRefused(await sendRequest({ login_hint: 'ana' }), 'invalid_request')
    const sign = (claims: Record<string, unknown>) =>
      signedRequest(own, 'signing', { key: key.privateKey, header: { kid: 'one' }, claims })
    const signed = async (claims: Record<string, unknown>) =>
      own.post('/backchannel/authorize', { request: await sign(claims) }, basic('signing', secret))
    assertRefused(await signed({}), 'invalid_request')
    assert.deepEqual(looked, [])
    assert.equal((await sendRequest({ login_hint_token: 'x' })).status, 200)
    assert.equal((await signed({ login_hint: undefined, login_hint_token: 'x' })).status, 200)
    assert.equal((await own.ring('kiosk')).status, 200)
    assert.deepEqual(looked, ['login_hint_token', 'login_hint_token', 'login_hint'])
  })
})

describe('a user is checked again at every step (M15)', () => {
  for (const as of ['kiosk', 'till'] as const) {
    test(`disabled after the decision, ${as} gets no tokens`, async (t) => {
      let locked = false
      const find = async () => ({ ...ana, disabled: locked })
      const own = await openStage(t, { config: { users: { find, findByHint: find } } })
      const { auth_req_id } = (await own.ring(as)).body
      const requestId = await own.newestRequest()
      locked = true
      assert.equal((await own.decide(requestId, 'approved')).status, 400)
      locked = false
      assert.equal((await own.decide(requestId, 'approved')).status, 200)
      locked = true
      if (as === 'kiosk') assert.equal((await own.poll(as, auth_req_id)).body.error, 'access_denied')
      await own.doorbell.idle()
      assert.deepEqual(await rowsOf(own, 'select * from oidc_models'), [])
    })
  }
})

function assertRefused(
  { status, body, text }: { status: number; body: Record<string, unknown>; text: string },
  error: string,
) {
  assert.deepEqual([status, body.error], [400, error], text)
}

const ago = (seconds: number) => Math.floor(stage.clock.now() / 1000) - seconds

function claimsOf(claims: Record<string, unknown>) {
  return { iss: stage.url, aud: 'kiosk', sub: 'user-ana', iat: ago(10), exp: ago(-3600), ...claims }
}

function idTokenOf(claims: Record<string, unknown>, header: Record<string, string> = {}): Promise<string> {
  return new SignJWT(claimsOf(claims)).setProtectedHeader({ alg: 'ES256', kid: ours.kid, ...header }).sign(ours.key)
}

async function foreignlySigned(): Promise<string> {
  const { privateKey } = await newKey(ours.kid)
  return new SignJWT(claimsOf({})).setProtectedHeader({ alg: 'ES256', kid: ours.kid }).sign(privateKey)
}

async function hmacSigned(): Promise<string> {
  const jwks = await stage.get('/oauth/jwks')
  return new SignJWT(claimsOf({})).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(jwks.text))
}

/** Resolves to the signing key of the server. The test decrypts the key in the table with the configured secret. */
async function ourSigningKey(of: Stage) {
  const [row] = await rowsOf(of, "select * from signing_keys where algorithm = 'ES256'")
  const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
  const jwk = JSON.parse(vault.open(String(row!.private_sealed), `signing_keys/${row!.kid}`))
  return { key: (await importJWK(jwk, 'ES256')) as CryptoKey, kid: String(row!.kid) }
}
