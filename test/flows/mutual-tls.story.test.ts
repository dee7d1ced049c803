/**
 * Clients that present a certificate (RFC 8705): authentication by certificate, and tokens that cannot be used without
 * it.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import * as openid from 'openid-client'
import { fetch as undiciFetch } from 'undici'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { type Certified, certify } from '../support/certificates.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { type Answer, ana, basic, CIBA, credentials } from '../support/stage.ts'
import { type Caller, openTlsStage, type TlsStage } from '../support/tls-stage.ts'
import { cert, form, jwkOf } from './certified-clients.ts'

const grant_types = [CIBA, 'refresh_token']

let stage: TlsStage
let close = () => {}
let till: Certified
let self: Certified
let unregistered: Certified
const wrong: Record<string, Certified> = {}

before(async () => {
  // The authority is made with the stage, and clients are registered by their subjects only.
  self = await certify({ subject: 'CN=self' })
  unregistered = await certify({ subject: 'CN=self' })
  const signed = await newKey('one')
  stage = await openTlsStage({ after: (fn: () => void) => chain(fn) } as never, {
    config: {
      clients: [
        pollClient('till-tls', {
          token_endpoint_auth_method: 'tls_client_auth',
          tls_client_auth_subject_dn: 'CN=till, O=Acme',
          grant_types,
          ...cert,
        }),
        pollClient('till-host', {
          token_endpoint_auth_method: 'tls_client_auth',
          tls_client_auth_san_dns: 'till.acme.example',
        }),
        pollClient('selfish', {
          token_endpoint_auth_method: 'self_signed_tls_client_auth',
          jwks: { keys: [await jwkOf(self)] },
        } as Partial<ClientMetadataInput>),
        pollClient('signing', {
          token_endpoint_auth_method: 'private_key_jwt',
          jwks: { keys: [signed.publicJwk] },
          grant_types,
          ...cert,
        }),
        pollClient('secretive', { client_secret: 'hush-hush', token_endpoint_auth_method: 'client_secret_basic' }),
      ],
    },
  })
  signingKey = signed.privateKey
  const by = stage.authority
  till = await certify({ subject: 'O=Acme, CN=till', by, names: [{ type: 'dns', value: 'till.acme.example' }] })
  const other = await certify({ subject: 'CN=Other authority', isAuthority: true })
  const leaf = await certify({ subject: 'CN=leaf', by })
  Object.assign(wrong, {
    'another subject': await certify({ subject: 'O=Acme, CN=till2', by }),
    'the same subject of another authority': await certify({ subject: 'O=Acme, CN=till', by: other }),
    'the same subject, self-signed': await certify({ subject: 'O=Acme, CN=till' }),
    'one that has expired': await certify({ subject: 'O=Acme, CN=till', by, from: -10, until: -1 }),
    'one that is not valid yet': await certify({ subject: 'O=Acme, CN=till', by, from: 1 }),
    'one issued by a certificate that is not an authority': await certify({ subject: 'O=Acme, CN=till', by: leaf }),
  })
})
const closings: (() => unknown)[] = []
const chain = (fn: () => void) => {
  closings.unshift(fn)
  close = async () => {
    for (const closing of closings) await closing()
  }
}
after(() => close())
let signingKey: KeyHolder['privateKey']

const sendRequest = (caller: Caller, clientId: string, more = {}) =>
  caller.post('/backchannel/authorize', { ...form(clientId), ...more })
const redeem = (caller: Caller, clientId: string, authReqId: unknown, more = {}) =>
  caller.post('/oauth/token', { grant_type: CIBA, auth_req_id: String(authReqId), client_id: clientId, ...more })

async function approve(): Promise<void> {
  const service = { authorization: credentials.phoneService }
  const caller = stage.as()
  const { body } = await caller.post('/backchannel/authinfo', { login_hint: 'ana', status: 'pending' }, service)
  const { request_id } = (body.requests as Record<string, string>[])[0]!
  const form = { login_hint: 'ana', request_id: request_id!, status: 'approved' }
  assert.equal((await caller.post('/backchannel/complete', form, service)).status, 200)
}

function assertInvalidClient({ status, body }: Answer): void {
  assert.deepEqual([status, body.error], [401, 'invalid_client'])
  // In development, the description ends with the reason.
  assert.match(String(body.error_description), /^client authentication failed/)
}

describe('tls_client_auth', () => {
  test('accepts a certificate of the trusted authority with the registered subject (ML-2, ML-3)', async () => {
    stage.clock.advance(1)
    assert.equal((await sendRequest(stage.as(till), 'till-tls')).status, 200)
    assert.equal((await sendRequest(stage.as(till), 'till-host')).status, 200)
  })

  test('requires client_id: the certificate does not select the client (ML-1, FI-18)', async () => {
    const { client_id, ...unnamed } = form('till-tls')
    assert.equal(client_id, 'till-tls')
    assertInvalidClient((await stage.as(till).post('/backchannel/authorize', unnamed)) as Answer & { body: never })
  })

  test('refuses any other certificate, always with the same answer (CA-16)', async () => {
    for (const [name, certified] of Object.entries(wrong)) {
      const answer = await sendRequest(stage.as(certified), 'till-tls')
      assert.deepEqual([answer.status, answer.body.error], [401, 'invalid_client'], name)
      assertInvalidClient(answer)
    }
    assertInvalidClient(await sendRequest(stage.as(self), 'till-tls'))
  })

  test('refuses a client without a certificate', async () => {
    assert.equal((await sendRequest(stage.as(), 'till-tls')).body.error, 'invalid_client')
  })

  test('a certificate does not replace another method (EP-5)', async () => {
    for (const id of ['secretive', 'signing']) assertInvalidClient(await sendRequest(stage.as(till), id))
  })
})

describe('self_signed_tls_client_auth', () => {
  test('accepts exactly the registered certificate (ML-5)', async () => {
    assert.equal((await sendRequest(stage.as(self), 'selfish')).status, 200)
  })
  test('refuses another one with the same subject', async () => {
    assertInvalidClient(await sendRequest(stage.as(unregistered), 'selfish'))
    assertInvalidClient(await sendRequest(stage.as(till), 'selfish'))
  })
})

describe('tokens bound to a certificate', () => {
  const bearer = (token: unknown) => ({ authorization: `Bearer ${token}` })

  test('in a whole flow: bound, shown as bound, refreshed, and refused with another certificate (ML-6 – ML-9, ML-13)', async () => {
    stage.clock.advance(1)
    const caller = stage.as(till)
    const { body: response } = await sendRequest(caller, 'till-tls')
    await approve()
    const { status, body: tokens, text } = await redeem(caller, 'till-tls', response.auth_req_id)
    assert.equal(status, 200, text)
    assert.equal(tokens.token_type, 'Bearer')

    assert.equal((await caller.get('/oauth/userinfo', bearer(tokens.access_token))).status, 200)
    for (const other of [stage.as(), stage.as(self), stage.as(wrong['another subject'])]) {
      const { status, body } = await other.get('/oauth/userinfo', bearer(tokens.access_token))
      assert.deepEqual([status, body.error], [401, 'invalid_token'])
    }

    const introspect = { client_id: 'till-tls', token: String(tokens.access_token) }
    const { body: seen } = await caller.post('/oauth/introspect', introspect)
    assert.deepEqual([seen.active, seen.cnf], [true, { 'x5t#S256': till.thumbprint }])

    const refresh = { client_id: 'till-tls', grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) }
    assert.ok((await stage.as().post('/oauth/token', refresh)).status >= 400, 'without a certificate')
    const { body: fresh } = await caller.post('/oauth/token', refresh)
    assert.equal((await caller.get('/oauth/userinfo', bearer(fresh.access_token))).status, 200)
    assert.equal((await stage.as().get('/oauth/userinfo', bearer(fresh.access_token))).status, 401)
  })

  test('a client that signs assertions needs the certificate too; without it nothing is used up (ML-10)', async () => {
    stage.clock.advance(1)
    const caller = stage.as(self)
    const proof = async () => asserted(await assertionOf(stage, 'signing', { key: signingKey }))
    const { body: response } = await sendRequest(stage.as(), 'signing', await proof())
    await approve()
    const without = await redeem(stage.as(), 'signing', response.auth_req_id, await proof())
    assert.deepEqual([without.status, without.body.error], [400, 'invalid_request'])
    const { status, body } = await redeem(caller, 'signing', response.auth_req_id, await proof())
    assert.equal(status, 200)
    assert.equal((await caller.get('/oauth/userinfo', bearer(body.access_token))).status, 200)
    assert.equal((await stage.as().get('/oauth/userinfo', bearer(body.access_token))).status, 401)
  })

  test('pushed tokens are bound to the certificate of the authentication request; without one it is refused (M33, ML-14)', async (t) => {
    const northbank = await openNotificationEndpoint(t)
    const ours = await openTlsStage(t, {
      config: {
        clients: [
          {
            client_id: 'pushed',
            client_secret: 'hush-hush-hush',
            backchannel_token_delivery_mode: 'push',
            backchannel_client_notification_endpoint: northbank.url,
            ...cert,
          },
        ],
      },
    })
    const headers = { authorization: basic('pushed', 'hush-hush-hush') }
    const asked = { scope: 'openid', login_hint: 'ana', client_notification_token: newSecret(24) }
    const refused = await ours.as().post('/backchannel/authorize', asked, headers)
    assert.deepEqual([refused.status, refused.body.error], [400, 'invalid_request'])
    assert.equal((await ours.as(self).post('/backchannel/authorize', asked, headers)).status, 200)
    const service = { authorization: credentials.phoneService }
    const { body } = await ours.as().post('/backchannel/authinfo', { login_hint: 'ana' }, service)
    const { request_id } = (body.requests as Record<string, string>[])[0]!
    await ours
      .as()
      .post('/backchannel/complete', { login_hint: 'ana', request_id: request_id!, status: 'approved' }, service)
    await ours.doorbell.idle()
    const [heard] = await northbank.hears(1)
    assert.equal((await ours.as(self).get('/oauth/userinfo', bearer(heard!.body.access_token))).status, 200)
    assert.equal((await ours.as().get('/oauth/userinfo', bearer(heard!.body.access_token))).status, 401)
  })
})

describe('separate endpoints for clients with certificates (ML-12)', () => {
  test('are published, without the authorization endpoint, and accepted as audience of an assertion (CT-5, EP-8)', async (t) => {
    const alias = 'https://mtls.example.com'
    const key = await newKey('one')
    const ours = await openTlsStage(t, {
      config: {
        mutualTls: { issuer: alias },
        clients: [
          pollClient('signing', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [key.publicJwk] } }),
        ],
      },
    })
    const { body } = await ours.as().get('/.well-known/openid-configuration')
    const aliases = body.mtls_endpoint_aliases as Record<string, string>
    assert.deepEqual(Object.keys(aliases).sort(), [
      'backchannel_authentication_endpoint',
      'introspection_endpoint',
      'revocation_endpoint',
      'token_endpoint',
      'userinfo_endpoint',
    ])
    for (const [name, address] of Object.entries(aliases)) {
      assert.equal(new URL(address).pathname, new URL(String(body[name])).pathname)
      assert.ok(address.startsWith(alias))
    }
    assert.equal(body.tls_client_certificate_bound_access_tokens, true)

    for (const [path, more] of [
      ['/backchannel/authorize', form('signing')],
      ['/oauth/token', { grant_type: CIBA, auth_req_id: 'unknown' }],
      ['/oauth/token', { grant_type: 'refresh_token', refresh_token: 'unknown' }],
      ['/oauth/introspect', { token: 'unknown' }],
    ] as [string, Record<string, string>][]) {
      const assertion = await assertionOf(ours, 'signing', { key: key.privateKey, claims: { aud: alias + path } })
      const { body } = await ours.as().post(path, { ...more, ...asserted(assertion) }, { host: 'mtls.example.com' })
      assert.notEqual(body.error, 'invalid_client', path)
    }
  })
})

describe('own TLS', () => {
  test('TLS 1.3 with clients that support it (TL-5)', async () => {
    assert.match(await stage.handshake({}), /^TLSv1.3 TLS_AES/)
  })

  test('TLS 1.2 with the two suites of FAPI that RFC 9325 recommends (FC-17, TL-3)', async () => {
    for (const [ours, theirs] of [
      ['ECDHE-RSA-AES128-GCM-SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'],
      ['ECDHE-RSA-AES256-GCM-SHA384', 'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384'],
    ] as const) {
      assert.equal(await stage.handshake({ maxVersion: 'TLSv1.2', ciphers: ours }), `TLSv1.2 ${theirs}`)
    }
  })

  test('no other cipher suite, and no older version (TL-4, TL-6)', async () => {
    for (const ciphers of [
      // FAPI allows these two cipher suites, but the conformance suite warns of them (RFC 9325 §4.2).
      'DHE-RSA-AES128-GCM-SHA256',
      'DHE-RSA-AES256-GCM-SHA384',
      'ECDHE-RSA-AES128-SHA256',
      'ECDHE-RSA-CHACHA20-POLY1305',
      'AES128-GCM-SHA256',
      'AES256-SHA',
    ]) {
      assert.match(
        await stage.handshake({ maxVersion: 'TLSv1.2', ciphers }),
        /^refused: .*HANDSHAKE_FAILURE|^refused: ECONNRESET/,
      )
    }
    for (const version of ['TLSv1', 'TLSv1.1'] as const) {
      const options = { minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0' }
      assert.match(
        await stage.handshake(options),
        /^refused: .*(PROTOCOL_VERSION|HANDSHAKE_FAILURE|UNSUPPORTED_PROTOCOL)/,
      )
    }
  })

  test('a certificate is optional: pages are served without one', async () => {
    assert.equal((await stage.as().get('/health/live')).status, 200)
  })
})

test('an independent client library works: openid-client with its TlsClientAuth', async () => {
  stage.clock.advance(1)
  const configuration = await openid.discovery(new URL(stage.url), 'till-tls', {}, openid.TlsClientAuth(), {
    [openid.customFetch]: ((url: string, options: object) =>
      undiciFetch(url, { ...options, dispatcher: stage.as(till).agent } as never)) as never,
  })
  const response = await openid.initiateBackchannelAuthentication(configuration, { scope: 'openid', login_hint: 'ana' })
  await approve()
  const tokens = await openid.pollBackchannelAuthenticationGrant(configuration, { ...response, interval: 0 })
  assert.equal(tokens.claims()!.sub, 'user-ana')
  const userinfo = await openid.fetchUserInfo(configuration, tokens.access_token, 'user-ana')
  assert.equal(userinfo.sub, 'user-ana')
})

test('sign-in cookies are set for this host only, and over TLS only', async () => {
  const caller = stage.as()
  const query = new URLSearchParams({
    client_id: 'phone-app',
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid ciba:decide',
    code_challenge: 'a'.repeat(43),
    code_challenge_method: 'S256',
  })
  const started = await caller.get(`/oauth/authorize?${query}`)
  assert.equal(started.status, 303, started.text)
  const cookies = started.headers.getSetCookie()
  for (const cookie of cookies) {
    assert.match(cookie, /^__(Host|Secure)-doorbell_/)
    assert.match(cookie, /; secure/i)
    assert.match(cookie, /; httponly/i)
    if (cookie.startsWith('__Host-')) assert.match(cookie, /; path=\/;/i)
  }
  const jar = cookies.map((cookie) => cookie.split(';')[0]).join('; ')
  const page = await caller.send('GET', started.headers.get('location')!, undefined, { cookie: jar })
  assert.equal(page.status, 200)
  const form = String(new URLSearchParams({ name: 'ana', password: ana.password }))
  const signedIn = await caller.send('POST', started.headers.get('location')!, form, {
    cookie: jar,
    'content-type': 'application/x-www-form-urlencoded',
  })
  const resumed = await caller.send('GET', signedIn.headers.get('location')!, undefined, { cookie: jar })
  const session = resumed.headers.getSetCookie().find((cookie) => cookie.startsWith('__Host-doorbell_session='))
  assert.match(session ?? '', /; path=\/;.*; secure/i)
})
