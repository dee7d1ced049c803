/**
 * A switch for another feature must not break CIBA (M49). Each switch is set alone. Every kind of client then sends a
 * request and gets its tokens, or the error that the switch is for.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt, SignJWT } from 'jose'
import { checkConfig } from '../../src/config/check.ts'
import { type ConfigInput, freeze } from '../../src/config/config.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { certify } from '../support/certificates.ts'
import { createStageClock } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { freePort } from '../support/ports.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, ana, basic, CIBA, openStage, type Stage } from '../support/stage.ts'

const secret = newSecret()

interface Switch {
  config: ConfigInput
  /** The error of an unsigned request. */
  unsigned?: string
  /** The error of a request about an unknown user. */
  aboutNobody?: string | undefined
}

const nobodyKnows = { aboutNobody: 'unknown_user_id' }
const keySet = { keys: [{ kty: 'EC', crv: 'P-256', kid: 'x', x: 'f'.repeat(43), y: 'f'.repeat(43) }] }
const par = { pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true } }

const switches: Record<string, Switch> = {
  'none of them': { config: {} },
  'requests.requireSigned': { config: { requests: { requireSigned: true } }, unsigned: 'invalid_request' },
  'requests.numberMatching': { config: { requests: { numberMatching: true } } },
  'requests.unknownUsers: pretend': { config: { requests: { unknownUsers: 'pretend' } }, aboutNobody: undefined },
  'requests.maxOpenPerUser': { config: { requests: { maxOpenPerUser: 1 } } },
  'requests.interval and expiry': { config: { requests: { interval: 1, defaultExpiry: 30, maxExpiry: 30 } } },
  'hints.tokenIssuers': { config: { hints: { tokenIssuers: [{ issuer: 'x', jwks: keySet }] } } },
  userCodes: { config: { userCodes: { maxTries: 1, maxTriesPerClient: 1, lockSeconds: 1 } } },
  'registration: open': { config: { registration: { mode: 'open' } } },
  'registration: token': { config: { registration: { mode: 'token' } } },
  'tokens.idTokenAlg: RS256': { config: { tokens: { idTokenAlg: 'RS256' } } },
  'tokens.idTokenAlg: PS256': { config: { tokens: { idTokenAlg: 'PS256' } } },
  'tokens.scopes': { config: { tokens: { scopes: ['openid'] } } },
  email: { config: { email: { smtp: 'smtp://localhost:1', from: 'a@example.com' } } },
  webPush: { config: { webPush: { subject: 'mailto:ops@example.com' } } },
  deviceWebhook: { config: { deviceWebhook: { url: 'http://localhost:9/x', secret: newSecret() } } },
  'login elsewhere': { config: { login: { issuer: 'https://login.example', client_id: 'x', client_secret: 'x' } } },
  'a proxy that shows certificates, and an address of their own': {
    config: {
      proxy: { trust: ['127.0.0.0/8', '::1'], clientCertificateHeader: 'x-client-cert' },
      mutualTls: { issuer: 'https://mtls.example' },
    },
  },
  'oidc: pushed authorization requests required': { config: { oidc: { features: par } } },
  'oidc: PKCE required, no refresh tokens': {
    config: { oidc: { pkce: { required: () => true }, issueRefreshToken: () => false } },
  },
  'users are hooks': {
    config: {
      users: {
        find: async (id) => (id === ana.id ? ana : null),
        findByHint: async ({ value }) => ([ana.username, ana.email].includes(value) ? ana : null),
      },
    },
  },
}

describe('every switch, with a flow of every kind of client (M49)', () => {
  for (const [name, { config, unsigned, ...expected }] of Object.entries(switches)) {
    const { aboutNobody } = { ...nobodyKnows, ...expected }
    test(name, async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const key = await newKey('one')
      const signer = pollClient('signer', {
        client_secret: secret,
        backchannel_authentication_request_signing_alg: 'ES256',
        jwks: { keys: [key.publicJwk] },
      })
      const stage = await openStage(t, {
        northbank: endpoint.url,
        till: endpoint.url,
        config: { ...config, clients: [signer] },
      })
      const { body: metadata } = await stage.get('/.well-known/openid-configuration')
      for (const name of ['backchannel_authentication_endpoint', 'revocation_endpoint', 'introspection_endpoint']) {
        assert.ok(metadata[name], `${name} is still there`)
      }
      const errorOf = ({ body }: Answer) => body.error as string | undefined
      const approve = async (requestId: string) =>
        assert.equal((await stage.doorbell.requests.approve(requestId, ana.id)).kind, 'settled')

      const signed = await ringSigned(stage, key)
      assert.equal(errorOf(signed), undefined, signed.text)
      await approve(await newest(stage))
      const form = { grant_type: CIBA, auth_req_id: String(signed.body.auth_req_id) }
      assertTokens((await stage.post('/oauth/token', form, basic('signer', secret))).body)

      for (const as of ['kiosk', 'northbank', 'till'] as const) {
        const response = await stage.ring(as, { binding_message: '42' })
        assert.equal(errorOf(response), unsigned, `${as}: ${response.text}`)
        if (unsigned !== undefined) continue
        await approve(await newest(stage))
        await stage.doorbell.idle()
        const tokens =
          as === 'till' ? endpoint.heard.at(-1)!.body : (await stage.poll(as, response.body.auth_req_id)).body
        assertTokens(tokens)
      }
      assert.equal(errorOf(await ringSigned(stage, key, { login_hint: 'zoe' })), aboutNobody)
    })
  }

  test('development off', async (t) => {
    const issuer = 'https://id.example.com'
    const stage = await openStage(t, {
      config: { development: false, issuer },
      northbank: 'https://n.example/n',
      till: 'https://t.example/n',
    })
    for (const as of ['kiosk', 'northbank', 'till'] as const) assert.equal((await stage.ring(as)).status, 200, as)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    assertTokens((await stage.poll('kiosk', auth_req_id)).body)
  })

  test('profile fapi-ciba: a signed request by a client with a key, tokens bound to its certificate', async (t) => {
    const { url: database, drop } = await engines[0]!.fresh()
    const port = await freePort()
    const clock = createStageClock()
    const key = await newKey('one')
    const issuer = 'https://id.example.com'
    const own = newSecret()
    const checked = checkConfig({
      issuer,
      secret: own,
      port,
      database,
      profile: 'fapi-ciba',
      proxy: { trust: ['127.0.0.0/8', '::1'], clientCertificateHeader: 'x-client-cert' },
      clients: [
        {
          client_id: 'bank',
          token_endpoint_auth_method: 'private_key_jwt',
          jwks: { keys: [key.publicJwk] },
          grant_types: [CIBA],
          backchannel_token_delivery_mode: 'poll',
          backchannel_authentication_request_signing_alg: 'ES256',
        },
      ],
      users: [ana],
    })
    assert.ok('config' in checked, JSON.stringify(checked))
    const config = freeze({ ...checked.config, secret: own })
    const doorbell = await createDoorbell(config, { clock, log: createLog('silent') })
    t.after(async () => {
      await doorbell.close()
      await drop()
    })
    await doorbell.listen()
    const { x5c } = await certify({ subject: 'CN=bank' })
    const call = async (path: string, form: Record<string, string>) => {
      const now = Math.floor(clock.now() / 1000)
      const client_assertion = await new SignJWT({
        iss: 'bank',
        sub: 'bank',
        aud: issuer,
        jti: newSecret(),
        iat: now,
        exp: now + 60,
      })
        .setProtectedHeader({ alg: 'ES256', kid: 'one' })
        .sign(key.privateKey)
      const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
      const response = await fetch(`http://localhost:${port}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-client-cert': x5c },
        body: String(new URLSearchParams({ ...form, client_assertion, client_assertion_type })),
      })
      return (await response.json()) as Record<string, unknown>
    }
    const header = { kid: 'one' }
    const request = await signedRequest({ clock, url: issuer }, 'bank', { key: key.privateKey, header })
    const { auth_req_id } = await call('/backchannel/authorize', { request })
    const [waiting] = await doorbell.requests.list(ana.id, { only: 'open' })
    await doorbell.requests.approve(waiting!.requestId, ana.id)
    assertTokens(await call('/oauth/token', { grant_type: CIBA, auth_req_id: String(auth_req_id) }))
    assert.equal(
      (await call('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' })).error,
      'invalid_request',
    )
  })
})

async function ringSigned(stage: Stage, key: KeyHolder, claims: Record<string, unknown> = {}): Promise<Answer> {
  stage.clock.advance(1)
  const request = await signedRequest(stage, 'signer', { key: key.privateKey, header: { kid: 'one' }, claims })
  return stage.post('/backchannel/authorize', { request }, basic('signer', secret))
}

async function newest(stage: Stage): Promise<string> {
  const [waiting] = await stage.doorbell.requests.list(ana.id, { only: 'open' })
  return waiting!.requestId
}

function assertTokens(tokens: Record<string, unknown>): void {
  assert.ok(tokens.access_token, JSON.stringify(tokens))
  assert.equal(decodeJwt(String(tokens.id_token)).sub, ana.id)
}
