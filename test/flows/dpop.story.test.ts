/**
 * Clients that prove with each call that they hold a key (DPoP, RFC 9449), and tokens that cannot be used without this
 * key.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { checkConfig } from '../../src/config/check.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { asserted, assertionOf, pollClient } from '../support/assertions.ts'
import { certify } from '../support/certificates.ts'
import { createStageClock } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { discover } from '../support/foreign-client.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { freePort } from '../support/ports.ts'
import { callWith, newProofKey, type ProofKey, pollWith, proofOf } from '../support/proofs.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, CIBA, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import {
  approved,
  assertRefused,
  asWallet,
  ath,
  catchUp,
  grant_types,
  openDpopStage,
  secret,
  sendRequest,
} from './dpop-clients.ts'

for (const engine of engines) {
  describe(`an independent client library with its own DPoP, on ${engine.name}`, () => {
    for (const requireNonce of [false, true]) {
      test(`sends a request, polls, gets bound tokens, uses and refreshes them${requireNonce ? ', with nonces (DP-8)' : ''} (DP-1, DP-4, DP-5, DP-10)`, async (t) => {
        const stage = await openDpopStage(t, { engine, config: { dpop: { requireNonce } } })
        const wallet = await discover(stage, 'wallet', openid.ClientSecretBasic(secret))
        const DPoP = openid.getDPoPHandle(wallet, await openid.randomDPoPKeyPair('ES256'))
        const jkt = await DPoP.calculateThumbprint()
        const response = await openid.initiateBackchannelAuthentication(wallet, {
          scope: 'openid offline_access',
          login_hint: 'ana',
        })
        await stage.decide(await stage.newestRequest(), 'approved')
        catchUp(stage)
        const tokens = await openid.pollBackchannelAuthenticationGrant(
          wallet,
          { ...response, interval: 0 },
          undefined,
          {
            DPoP,
            signal: AbortSignal.timeout(5000),
          },
        )
        assert.equal(tokens.token_type, 'dpop')
        assert.equal((await openid.fetchUserInfo(wallet, tokens.access_token, ana.id, { DPoP })).sub, ana.id)

        const seen = await openid.tokenIntrospection(wallet, tokens.access_token)
        assert.deepEqual([seen.active, seen.token_type, seen.cnf], [true, 'DPoP', { jkt }])

        catchUp(stage)
        const fresh = await openid.refreshTokenGrant(wallet, tokens.refresh_token!, undefined, { DPoP })
        assert.equal(fresh.token_type, 'dpop')
        assert.equal((await openid.fetchUserInfo(wallet, fresh.access_token, ana.id, { DPoP })).sub, ana.id)

        // A confidential client's refresh token is bound to the client and not to the key. So the client may use
        // another key now.
        const other = openid.getDPoPHandle(wallet, await openid.randomDPoPKeyPair('ES256'))
        catchUp(stage)
        const moved = await openid.refreshTokenGrant(wallet, fresh.refresh_token!, undefined, { DPoP: other })
        assert.equal((await openid.fetchUserInfo(wallet, moved.access_token, ana.id, { DPoP: other })).sub, ana.id)
        const withTheOld = openid.fetchUserInfo(wallet, moved.access_token, ana.id, { DPoP })
        await assert.rejects(withTheOld, 'the new tokens are bound to the new key')
      })
    }
  })

  describe(`a proof is accepted once, on ${engine.name} (DP-9)`, () => {
    test('of ten uses at once one is accepted, and the proof stays used after a restart', async (t) => {
      const stage = await openDpopStage(t, { engine })
      const authReqId = await sendRequest(stage)
      const proof = await proofOf(stage, await newProofKey())
      const send = () => pollWith(stage, proof, authReqId, asWallet)
      const answers = await Promise.all(Array.from({ length: 10 }, send))
      assert.deepEqual(answers.map(({ body }) => body.error).sort(), [
        'authorization_pending',
        ...Array(9).fill('invalid_dpop_proof'),
      ])
      await stage.restart()
      assertRefused(await send(), 'invalid_dpop_proof')
    })

    test('also of ten refreshes at once, and of ten calls of userinfo', async (t) => {
      const stage = await openDpopStage(t, { engine })
      const key = await newProofKey()
      const { body } = await pollWith(stage, await proofOf(stage, key), await approved(stage), asWallet)
      const proof = await proofOf(stage, key)
      const form = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
      const refresh = () => callWith(stage, 'POST', '/oauth/token', { dpop: proof, authorization: asWallet }, form)
      const refreshed = await Promise.all(Array.from({ length: 10 }, refresh))
      assert.deepEqual(refreshed.map(({ status }) => status).sort(), [200, ...Array(9).fill(400)])
      assertRefused(await refresh(), 'invalid_dpop_proof')
      assertRefused(await pollWith(stage, proof, 'unknown', asWallet), 'invalid_dpop_proof')

      const claims = { htm: 'GET', htu: `${stage.url}/oauth/userinfo`, ath: ath(body.access_token) }
      const headers = { dpop: await proofOf(stage, key, { claims }), authorization: `DPoP ${body.access_token}` }
      const look = () => callWith(stage, 'GET', '/oauth/userinfo', headers)
      const seen = await Promise.all(Array.from({ length: 10 }, look))
      assert.deepEqual(seen.map(({ status }) => status).sort(), [200, ...Array(9).fill(401)])
    })

    test('a proof is forgotten an hour after it has become too old to be accepted', async (t) => {
      const stage = await openDpopStage(t, { engine })
      const used = async () =>
        (await rowsOf(stage, "select 1 as x from used_assertions where client_id like 'dpop %'")).length
      await pollWith(stage, await proofOf(stage, await newProofKey()), 'unknown', asWallet)
      assert.equal(await used(), 1)
      stage.clock.advance(301_000 + 3600_000)
      await stage.doorbell.prune()
      assert.equal(await used(), 0)
    })
  })

  describe(`pushed tokens, on ${engine.name}`, () => {
    test('are bound to the key that was proven at the authentication request; without a proof the request is refused (M33, ML-14, DP-13)', async (t) => {
      const endpoint = await openNotificationEndpoint(t)
      const signing = await newProofKey()
      const stage = await openDpopStage(t, {
        engine,
        config: {
          dpop: { requireNonce: true },
          clients: [
            {
              client_id: 'pushed',
              client_secret: secret,
              backchannel_token_delivery_mode: 'push',
              backchannel_client_notification_endpoint: endpoint.url,
              backchannel_authentication_request_signing_alg: 'ES256',
              jwks: { keys: [signing.jwk as never] },
              dpop_bound_access_tokens: true,
            },
          ],
        },
      })
      const key = await newProofKey()
      const request = await signedRequest(stage, 'pushed', {
        key: signing.privateKey,
        claims: { client_notification_token: newSecret(24) },
      })
      const authorization = basic('pushed', secret)
      const send = (dpop: string | undefined) =>
        callWith(stage, 'POST', '/backchannel/authorize', { dpop, authorization }, { request })
      const claims = { htu: `${stage.url}/backchannel/authorize` }
      const proof = (more = {}) => proofOf(stage, key, { claims: { ...claims, ...more } })

      assertRefused(await send(undefined), 'invalid_dpop_proof')
      assertRefused(await send(await proofOf(stage, key)), 'invalid_dpop_proof')
      const asked = await send(await proof())
      assertRefused(asked, 'use_dpop_nonce')
      assert.deepEqual(await stage.waiting(), [], 'the user was not notified')
      // The signed request was not marked as used, so the client sends it again.
      const nonce = asked.headers.get('dpop-nonce')
      const response = await send(await proof({ nonce }))
      assert.equal(response.status, 200, response.text)

      await stage.decide(await stage.newestRequest(), 'approved')
      const [heard] = await endpoint.hears(1)
      const { access_token, token_type } = heard!.body
      assert.equal(token_type, 'DPoP')
      const look = async (with_: ProofKey) =>
        callWith(stage, 'GET', '/oauth/userinfo', {
          authorization: `DPoP ${access_token}`,
          dpop: await proofOf(stage, with_, {
            claims: { htm: 'GET', htu: `${stage.url}/oauth/userinfo`, ath: ath(access_token), nonce },
          }),
        })
      assert.equal((await look(key)).status, 200)
      assert.equal((await look(await newProofKey())).status, 401)
      assert.equal((await stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })).status, 401)
    })
  })
}

describe('one token, one key (DP-14)', () => {
  const bank = {
    client_secret: secret,
    grant_types,
    tls_client_certificate_bound_access_tokens: true,
  }

  test('a client registers for tokens bound to its certificate or by DPoP, not both', () => {
    const { problems } = checkConfig({
      development: true,
      proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'X-C' },
      clients: [pollClient('bank', { ...bank, dpop_bound_access_tokens: true })],
    }) as { problems: string[] }
    assert.match(problems.join('\n'), /^clients\[0\]\.dpop_bound_access_tokens and tls_.* must not both be true/)
  })

  test('a client with certificate-bound tokens sends no proof', async (t) => {
    const ours = await openTlsStage(t, { config: { clients: [pollClient('bank', bank)] } })
    const certified = ours.as(await certify({ subject: 'CN=bank' }))
    const key = await newProofKey()
    const headers = { authorization: basic('bank', secret), dpop: await proofOf(ours, key) }
    const form = { grant_type: CIBA, auth_req_id: 'unknown' }
    assertRefused(await certified.post('/oauth/token', form, headers), 'invalid_request')
    const { dpop: _, ...without } = headers
    assertRefused(await certified.post('/oauth/token', form, without), 'invalid_grant')
  })

  test('fapi-ciba accepts DPoP instead of a certificate, with ES256 or PS256 (FI-2, FC-15, FC-42)', async (t) => {
    const [signing, key, rsa] = [await newProofKey(), await newProofKey(), await newProofKey('RS256')]
    const client = (id: string, more = {}) =>
      pollClient(id, {
        token_endpoint_auth_method: 'private_key_jwt',
        backchannel_authentication_request_signing_alg: 'ES256',
        jwks: { keys: [signing.jwk as never] },
        grant_types,
        ...more,
      })
    const ours = await openFapiStage(t, [
      client('wallet', { dpop_bound_access_tokens: true, tls_client_certificate_bound_access_tokens: false }),
      client('bank'),
    ])
    const { body: metadata } = await ours.get('/.well-known/openid-configuration')
    assert.deepEqual(metadata.dpop_signing_alg_values_supported, ['ES256', 'PS256'])

    const post = async (id: string, form: Record<string, string>, dpop?: string) => {
      const own = asserted(await assertionOf(ours, id, { key: signing.privateKey, claims: { aud: ours.issuer } }))
      const headers = { ...(dpop !== undefined && { dpop }) }
      return callWith(ours, 'POST', '/oauth/token', headers, { ...form, ...own })
    }
    const ciba = { grant_type: CIBA, auth_req_id: 'unknown' }
    const refresh = { grant_type: 'refresh_token', refresh_token: 'unknown' }
    const claims = { htu: `${ours.issuer}/oauth/token` }
    for (const form of [ciba, refresh]) {
      assertRefused(await post('wallet', form, await proofOf(ours, key, { claims })), 'invalid_grant')
      const byRsa = await proofOf(ours, rsa, { claims, header: { alg: 'RS256' } })
      assertRefused(await post('wallet', form, byRsa), 'invalid_dpop_proof')
      assertRefused(await post('wallet', form), 'invalid_dpop_proof')
    }
    assertRefused(await post('bank', ciba), 'invalid_request')
    assertRefused(await post('bank', ciba, await proofOf(ours, key, { claims })), 'invalid_request')
  })
})

/**
 * Opens a stage behind a proxy, because the profile requires https. The usual test clients are left out, because the
 * profile forbids their secrets.
 */
async function openFapiStage(t: TestContext, clients: NonNullable<ConfigInput['clients']>) {
  const issuer = 'https://id.example.com'
  const port = await freePort()
  const clock = createStageClock()
  const proxy = { trust: ['127.0.0.1'], clientCertificateHeader: 'X-Client-Cert' }
  const overrides = { issuer, port, database: 'sqlite::memory:', secret, profile: 'fapi-ciba', proxy, clients } as const
  const config = await loadConfig({ env: {}, overrides })
  const doorbell = await createDoorbell(config, { clock, log: createLog('silent') })
  t.after(() => doorbell.close())
  await doorbell.listen()
  const url = `http://127.0.0.1:${port}`
  const get = async (path: string) => callWith({ url }, 'GET', path, {})
  return { issuer, url, clock, get } as unknown as Stage & { issuer: string }
}
