/**
 * Provider metadata: each feature that it announces works, and it is the same for every caller (MD-1, MD-2, MD-5, M46).
 */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { newKey } from '../support/assertions.ts'
import { certify } from '../support/certificates.ts'
import { engines } from '../support/engines.ts'
import { openStage, type Stage } from '../support/stage.ts'
import { openVisitor } from '../support/visitor.ts'

const documents = ['/.well-known/openid-configuration', '/.well-known/oauth-authorization-server']
const production = {
  config: { development: false, issuer: 'https://id.example.com' },
  northbank: 'https://n.example/n',
  till: 'https://t.example/n',
}

describe('the metadata (M46)', () => {
  test('are exactly these, in both documents', async (t) => {
    const stage = await openStage(t, production)
    for (const path of documents) {
      const { status, body, headers } = await stage.get(path)
      assert.equal(status, 200)
      assert.match(String(headers.get('content-type')), /^application\/json/)
      assert.deepEqual(body, expected('https://id.example.com'), path)
    }
  })

  test('name addresses that answer', async (t) => {
    const stage = await openStage(t)
    const { body } = await stage.get(documents[0]!)
    for (const [name, address] of Object.entries(body)) {
      if (!name.endsWith('_endpoint') && name !== 'jwks_uri') continue
      const { status } = await fetch(String(address), { redirect: 'manual' })
      assert.notEqual(status, 404, name)
    }
  })

  test('do not follow the Host header, nor forwarded ones', async (t) => {
    const stage = await openStage(t)
    const spoofed = await new Promise<string>((resolve, reject) => {
      const headers = {
        host: 'evil.example',
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'https',
        forwarded: 'host=evil.example',
      }
      const call = request(`${stage.url}${documents[0]}`, { headers }, async (response) => {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk as Buffer)
        resolve(Buffer.concat(chunks).toString())
      })
      call.once('error', reject)
      call.end()
    })
    assert.ok(!spoofed.includes('evil'))
    assert.deepEqual(JSON.parse(spoofed), (await stage.get(documents[0]!)).body)
  })

  test('publish public keys only', async (t) => {
    const stage = await openStage(t)
    const { body } = await stage.get('/oauth/jwks')
    const keys = body.keys as Record<string, unknown>[]
    assert.deepEqual(keys.map(({ kty }) => kty).sort(), ['EC', 'RSA'])
    for (const key of keys) for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) assert.ok(!(member in key))
  })
})

describe('client authentication methods (MD-5, FI-1, RFC 8414 §2)', () => {
  const certificates = { proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'X-Client-Cert' } }
  const settings: [string, ConfigInput][] = [
    ['core', {}],
    ['core, with client certificates', certificates],
    ['core, outside development', production.config],
    ['fapi-ciba', { ...production.config, ...certificates, profile: 'fapi-ciba' }],
    [
      'fapi-ciba, with other audiences',
      { ...production.config, ...certificates, profile: 'fapi-ciba', strictAssertionAudience: false },
    ],
  ]
  for (const engine of engines) {
    test(`a client can be registered for a method if and only if the metadata list the method, on ${engine.name}`, async (t) => {
      const { publicJwk } = await newKey('one')
      const { x5c } = await certify({ subject: 'CN=till' })
      const metadataFor: Record<string, object> = {
        client_secret_basic: {},
        client_secret_post: {},
        client_secret_jwt: {},
        private_key_jwt: { jwks: { keys: [publicJwk] } },
        none: {},
        tls_client_auth: { tls_client_auth_subject_dn: 'CN=till' },
        self_signed_tls_client_auth: { jwks: { keys: [{ ...publicJwk, x5c: [x5c] }] } },
      }
      for (const [name, config] of settings) {
        const stage = await openStage(t, {
          engine,
          cast: false,
          config: { ...config, registration: { mode: 'open', perHour: 1000 } },
        })
        const { body } = await stage.get(documents[0]!)
        const usable: string[] = []
        for (const [method, metadata] of Object.entries(metadataFor)) {
          const { status, body } = await register(stage, {
            redirect_uris: ['https://till.example/callback'],
            token_endpoint_auth_method: method,
            ...metadata,
          })
          if (status === 201) usable.push(method)
          else assert.equal(body.error, 'invalid_client_metadata', `${name}: ${method}`)
        }
        for (const endpoint of ['token', 'revocation']) {
          assert.deepEqual(body[`${endpoint}_endpoint_auth_methods_supported`], usable, `${name}: ${endpoint}`)
        }
        const confidential = usable.filter((method) => method !== 'none')
        assert.deepEqual(body.introspection_endpoint_auth_methods_supported, confidential, name)
      }
    })
  }

  test('in fapi-ciba the whole documents are those of core, except for what the profile forbids', async (t) => {
    const config = { ...production.config, ...certificates, profile: 'fapi-ciba' as const }
    const stage = await openStage(t, { cast: false, config })
    for (const path of documents) {
      assert.deepEqual((await stage.get(path)).body, {
        ...expected('https://id.example.com'),
        ...ofFapiCiba,
        tls_client_certificate_bound_access_tokens: true,
      })
    }
  })

  test("an operator's own members of the document stay, and replace ours", async (t) => {
    const discovery = { service_documentation: 'https://id.example.com/docs', claims_supported: ['sub'] }
    const stage = await openStage(t, { config: { oidc: { discovery } } })
    const { body } = await stage.get(documents[0]!)
    assert.partialDeepStrictEqual(body, discovery)
    assert.equal(body.backchannel_authentication_endpoint, `${stage.url}/backchannel/authorize`)
  })

  test('nothing is said about endpoints that an operator has switched off', async (t) => {
    const features = { introspection: { enabled: false }, revocation: { enabled: false } }
    const stage = await openStage(t, { config: { oidc: { features } } })
    const { body } = await stage.get(documents[0]!)
    assert.deepEqual(
      Object.keys(body).filter((name) => /^(introspection|revocation)_/.test(name)),
      [],
    )
  })
})

async function register(stage: Stage, metadata: object) {
  const response = await fetch(`${stage.url}/oauth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(metadata),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe('a provider without a way to notify users (M50)', () => {
  test('logs a warning when it starts', async (t) => {
    const { logLines } = await openStage(t, production)
    assert.match(logLines.join(''), /"event":"device.no_channel".*\/backchannel\/authinfo/)
  })
})

describe('users of an application that has no verifyPassword', () => {
  const warning = /"event":"users.no_password_check".*verifyPassword/
  const found = { find: async () => null, findByHint: async () => null }
  const logOf = async (t: TestContext, config: ConfigInput) =>
    (await openStage(t, { cast: false, config })).logLines.filter((line) => warning.test(line)).length

  for (const engine of engines) {
    test(`see a sign-in page that asks for a passkey only, on ${engine.name}`, async (t) => {
      for (const [users, asksForPassword] of [
        [found, false],
        [{ ...found, verifyPassword: async () => false }, true],
      ] as const) {
        const visitor = openVisitor((await openStage(t, { engine, cast: false, config: { users } })).url)
        const { text } = await visitor.follow(await visitor.get('/'))
        assert.match(text, /data-passkey="get"/)
        assert.equal(text.includes('type="password"'), asksForPassword)
      }
    })

    test(`are warned of once at every start, on ${engine.name}`, async (t) => {
      const stage = await openStage(t, { engine, cast: false, config: { users: found } })
      const warnings = () => stage.logLines.filter((line) => warning.test(line)).length
      assert.equal(warnings(), 1)
      await stage.restart()
      assert.equal(warnings(), 2)
    })
  }

  test('there is no warning if passwords can be checked, or users sign in elsewhere', async (t) => {
    const login = { issuer: 'https://bank.example', client_id: 'house', client_secret: newSecret() }
    assert.equal(await logOf(t, { users: { ...found, verifyPassword: async () => false } }), 0)
    assert.equal(await logOf(t, { users: found, login }), 0)
    assert.equal(await logOf(t, { users: [] }), 0)
  })
})

test('an address where there is nothing: a page for browsers, in their language, and JSON for programs', async (t) => {
  const stage = await openStage(t, production)
  const page = await stage.get('/nowhere', { accept: 'text/html', 'accept-language': 'de' })
  assert.equal(page.status, 404)
  assert.match(
    page.text,
    /<html lang="de">[\s\S]*<h1>Seite nicht gefunden<\/h1>[\s\S]*<a class="button" href="\/">Zu Ihren Anfragen<\/a>/,
  )
  assert.match(String(page.headers.get('content-security-policy')), /default-src 'none'/)
  assert.deepEqual([(await stage.get('/nowhere')).status, (await stage.get('/nowhere')).body.error], [404, 'not_found'])
})

describe('features for development (M12)', () => {
  const routes: [string, string][] = [
    ['POST', '/dev/decide?auth_req_id=x&action=allow'],
    ['GET', '/dev/mailbox'],
    ['GET', '/dev/mailbox/x'],
    ['POST', '/dev/callback/x'],
    ['GET', '/dev/callback/x'],
    ['GET', '/demo'],
  ]
  test('are absent outside development', async (t) => {
    const stage = await openStage(t, production)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    const decision = { auth_req_id: String(auth_req_id), action: 'allow' }
    for (const [method, path] of [...routes, ['POST', `/dev/decide?${new URLSearchParams(decision)}`] as const]) {
      const response = await fetch(`${stage.url}${path}`, { method })
      assert.equal(response.status, 404, `${method} ${path}`)
    }
    assert.equal((await stage.post('/dev/decide', decision)).status, 404)
    for (const path of ['/', '/approve/x', '/activity']) assert.equal((await stage.get(path)).status, 303, path)
    assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
  })

  test('work in development: decide, callbacks, mailbox', async (t) => {
    const stage = await openStage(t)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.doorbell.idle()
    const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
    assert.equal((body.mails as unknown[]).length, 1)
    const decide = (action: string) => stage.post('/dev/decide', { auth_req_id: String(auth_req_id), action })
    assert.equal((await decide('perhaps')).status, 400)
    assert.equal((await decide('allow')).status, 200)
    assert.equal((await decide('deny')).status, 409)
    assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200)
  })
})

function expected(issuer: string): Record<string, unknown> {
  return {
    issuer,
    authorization_endpoint: `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    userinfo_endpoint: `${issuer}/oauth/userinfo`,
    introspection_endpoint: `${issuer}/oauth/introspect`,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    end_session_endpoint: `${issuer}/oauth/logout`,
    jwks_uri: `${issuer}/oauth/jwks`,
    backchannel_authentication_endpoint: `${issuer}/backchannel/authorize`,
    backchannel_authentication_request_signing_alg_values_supported: [
      ...['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512', 'Ed25519', 'EdDSA'],
    ],
    backchannel_token_delivery_modes_supported: ['poll', 'ping', 'push'],
    backchannel_user_code_parameter_supported: true,
    dpop_signing_alg_values_supported: [
      ...['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512', 'Ed25519', 'EdDSA'],
    ],
    grant_types_supported: ['authorization_code', 'refresh_token', 'urn:openid:params:grant-type:ciba'],
    response_types_supported: ['code'],
    response_modes_supported: ['form_post', 'fragment', 'query'],
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
    request_uri_parameter_supported: false,
    scopes_supported: ['openid', 'profile', 'email', 'phone', 'offline_access', 'ciba:decide'],
    acr_values_supported: ['phr'],
    claims_parameter_supported: false,
    claim_types_supported: ['normal'],
    claims_supported: [
      ...['sub', 'acr', 'amr', 'auth_time', 'name', 'preferred_username', 'locale', 'email', 'email_verified'],
      ...['phone_number', 'phone_number_verified', 'iss'],
    ],
    subject_types_supported: ['public', 'pairwise'],
    id_token_signing_alg_values_supported: ['ES256', 'PS256', 'RS256'],
    token_endpoint_auth_methods_supported: [
      ...['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
    ],
    token_endpoint_auth_signing_alg_values_supported: assertionAlgs,
    introspection_endpoint_auth_methods_supported: [
      ...['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt'],
    ],
    introspection_endpoint_auth_signing_alg_values_supported: assertionAlgs,
    revocation_endpoint_auth_methods_supported: [
      ...['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
    ],
    revocation_endpoint_auth_signing_alg_values_supported: assertionAlgs,
  }
}

const assertionAlgs = [
  ...['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512', 'Ed25519', 'EdDSA'],
  ...['HS256', 'HS384', 'HS512'],
]

/** The members by which the profile `fapi-ciba` differs. */
const ofFapiCiba = {
  backchannel_authentication_request_signing_alg_values_supported: ['ES256', 'PS256'],
  backchannel_token_delivery_modes_supported: ['poll', 'ping'],
  dpop_signing_alg_values_supported: ['ES256', 'PS256'],
  id_token_signing_alg_values_supported: ['ES256', 'PS256'],
  ...Object.fromEntries(
    ['token', 'introspection', 'revocation'].flatMap((endpoint) => [
      [
        `${endpoint}_endpoint_auth_methods_supported`,
        ['private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
      ],
      [`${endpoint}_endpoint_auth_signing_alg_values_supported`, ['ES256', 'PS256']],
    ]),
  ),
}
