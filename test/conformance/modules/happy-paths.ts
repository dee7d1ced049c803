/** Discovery, and successful flows (fapi-ciba.md §3.2, §7). */
import assert from 'node:assert/strict'
import { decodeJwt } from 'jose'
import { newSecret } from '../../../src/platform/crypto.ts'
import type { Answer } from '../../support/stage.ts'
import { assertBackchannelError, assertError, assertPending } from '../checks.ts'
import type { Modules } from '../plan.ts'
import { mtlsAddress, type Suite, type SuiteClient } from '../suite.ts'
import { assertTlsOf } from '../tls-probe.ts'

const includesSome = (list: unknown, ...values: string[]) =>
  assert.ok(Array.isArray(list) && values.some((value) => list.includes(value)), `${list} holds none of ${values}`)

export const happyPaths: Modules = {
  'fapi-ciba-id1-discovery-end-point-verification': async ({ stage, variant }) => {
    const answer = await stage.as().get('/.well-known/openid-configuration')
    assert.equal(answer.status, 200)
    assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
    const metadata = answer.body
    const list = (name: string) => metadata[name] as string[]
    const issuer = new URL(String(metadata.issuer))
    assert.equal(metadata.issuer, stage.url)
    assert.deepEqual([issuer.protocol, issuer.search, issuer.hash, issuer.username], ['https:', '', '', ''])
    assert.equal(metadata.tls_client_certificate_bound_access_tokens, true)
    includesSome(metadata.id_token_signing_alg_values_supported, 'PS256', 'ES256')
    includesSome(metadata.token_endpoint_auth_methods_supported, 'private_key_jwt', 'tls_client_auth')
    includesSome(
      metadata.token_endpoint_auth_methods_supported,
      ...(variant.clientAuthType === 'mtls' ? ['tls_client_auth', 'self_signed_tls_client_auth'] : ['private_key_jwt']),
    )
    includesSome(metadata.token_endpoint_auth_signing_alg_values_supported, 'PS256', 'ES256')
    if ('userinfo_signing_alg_values_supported' in metadata) {
      includesSome(metadata.userinfo_signing_alg_values_supported, 'PS256', 'ES256')
    }
    const endpoints = ['token_endpoint', 'jwks_uri', 'backchannel_authentication_endpoint', 'authorization_endpoint']
    if (variant.clientRegistration === 'dynamic_client') endpoints.push('registration_endpoint')
    for (const name of endpoints) assert.equal(new URL(String(metadata[name])).protocol, 'https:', name)
    for (const scope of list('scopes_supported')) assert.match(scope, /^[\x21\x23-\x5b\x5d-\x7e]+$/)
    includesSome(metadata.backchannel_token_delivery_modes_supported, variant.cibaMode)
    assert.equal(list('backchannel_token_delivery_modes_supported').includes('push'), false, 'FC-4')
    includesSome(metadata.grant_types_supported, 'urn:openid:params:grant-type:ciba')
    includesSome(metadata.backchannel_authentication_request_signing_alg_values_supported, 'PS256', 'ES256')
    assert.equal(typeof metadata.backchannel_user_code_parameter_supported, 'boolean')
    const aliases = Object.entries((metadata.mtls_endpoint_aliases ?? {}) as object)
    for (const [name, address] of aliases) {
      assert.match(name, /_endpoint$/)
      assert.notEqual(name, 'authorization_endpoint')
      assert.ok(name in metadata, name)
      assert.equal(new URL(String(address)).protocol, 'https:')
    }
  },

  'fapi-ciba-id1': async (suite) => {
    await fullFlow(suite, suite.first)
    await assertTlsOf(suite, 'userinfo_endpoint')
    const claims = {
      requested_expiry: 300,
      ...(suite.variant.cibaMode === 'ping' && { client_notification_token: `${newSecret(768).slice(0, 1023)}=` }),
      acr_values: (suite.metadata.acr_values_supported as string[])[0],
    }
    const { flow, tokens } = await fullFlow(suite, suite.second, claims)
    assert.equal(decodeJwt(tokens.id_token).acr, claims.acr_values, 'FC-9, AH-4')

    const { access_token: token } = tokens
    const userinfo = mtlsAddress(suite.metadata, 'userinfo_endpoint')
    const inQuery = await suite.stage
      .as(suite.second.certified)
      .send('GET', `${userinfo}?${new URLSearchParams({ access_token: token })}`)
    assert.ok([400, 401, 414].includes(inQuery.status), 'RS-2')
    const foreign = await suite.resource({ ...suite.second, certified: suite.first.certified }, token)
    assert.equal(Math.floor(foreign.status / 100), 4, 'RS-3')
    assertError(await suite.poll(suite.second, flow.authReqId), [400, 'invalid_grant'])
  },

  'fapi-ciba-id1-user-rejects-authentication': async (suite) => {
    const flow = await suite.start(suite.first)
    assert.equal(Math.floor((await suite.decide(flow.authReqId, 'deny')).status / 100), 2)
    await suite.pinged(flow)
    suite.waitSeconds(flow.interval)
    assertError(await suite.poll(suite.first, flow.authReqId), [400, 'access_denied'])
  },

  'fapi-ciba-id1-multiple-call-to-token-endpoint': async (suite) => {
    const flow = await suite.start(suite.first)
    for (let call = 0; call < 20; call++) assertPending(await suite.poll(suite.first, flow.authReqId))
    await suite.finish(flow)
  },

  'fapi-ciba-id1-auth-req-id-expired': async (suite) => {
    const flow = await suite.start(suite.first, { claims: { requested_expiry: 10 } })
    assert.equal(flow.expiresIn, 10)
    suite.waitSeconds(flow.expiresIn + 5)
    assertError(await suite.poll(suite.first, flow.authReqId), [400, 'expired_token'])
    // A ping about it is optional, and Doorbell sends none: the client knows the deadline.
    await suite.stage.doorbell.sweep()
    await suite.stage.doorbell.idle()
    assert.deepEqual(suite.endpoint.heard, [])
  },

  'fapi-ciba-id1-ensure-authorization-request-with-binding-message-succeeds': async (suite) => {
    await fullFlow(suite, suite.first, { binding_message: '1234' })
  },

  'fapi-ciba-id1-ensure-other-scope-order-succeeds': async (suite) => {
    await fullFlow(suite, suite.first, { scope: 'offline_access openid' })
  },

  'fapi-ciba-id1-ensure-requested-expiry-as-string-succeeds': async (suite) => {
    const { flow } = await fullFlow(suite, suite.first, { requested_expiry: '30' })
    assert.equal(flow.expiresIn, 30)
  },

  'fapi-ciba-id1-ensure-authorization-request-with-potentially-bad-binding-message': async (suite) => {
    const binding_message = '1234 \u{1f600}\u{1f6d2} 金融取引の確認 '.repeat(20).slice(0, 460)
    const request = await suite.requestObject(suite.first, { claims: { ...callBack(suite), binding_message } })
    assertBackchannelError(await suite.ring(suite.first, { request }), [400, 'invalid_binding_message'])
  },

  'fapi-ciba-id1-refresh-token': async (suite) => {
    for (const client of [suite.first, suite.second]) {
      const { tokens } = await fullFlow(suite, client)
      const before = decodeJwt(tokens.id_token)
      suite.waitSeconds(1)
      const refreshed = await refresh(suite, client, tokens, client.first ? { scope: String(tokens.scope) } : {})
      const { access_token, id_token } = await suite.checkTokens(client, refreshed)
      assert.notEqual(access_token, tokens.access_token)
      const after = decodeJwt(id_token)
      for (const claim of ['iss', 'sub', 'aud', 'auth_time']) assert.deepEqual(after[claim], before[claim], claim)
      assert.ok(after.iat! > before.iat!)
      assert.equal((await suite.resource(client, access_token)).status, 200)
    }
    const { tokens } = await fullFlow(suite, suite.second)
    assertError(await refresh(suite, suite.first, tokens), [400, 'invalid_grant'])
  },
}

/** Steps 1 to 10 of §3.1. */
export async function fullFlow(suite: Suite, client: SuiteClient, claims: Record<string, unknown> = {}) {
  const flow = await suite.start(client, { claims })
  const tokens = await suite.finish(flow)
  await callResource(suite, client, tokens.access_token)
  return { flow, tokens }
}

/** The calls of the protected resource (§4.5, RS-1 to RS-6). */
async function callResource(suite: Suite, client: SuiteClient, token: string): Promise<void> {
  const interaction = '8c2a51f6-0f4b-4a0e-9f19-0f7f9d2b6f11'
  const first = await suite.resource(client, token, {
    'x-fapi-auth-date': 'Tue, 11 Sep 2012 19:43:31 GMT',
    ...(client.first && { 'x-fapi-interaction-id': interaction }),
  })
  assertResource(first)
  const answered = first.headers.get('x-fapi-interaction-id') ?? ''
  if (client.first) assert.equal(answered, interaction)
  else assert.match(answered, /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/)
  for (const headers of [
    { 'x-fapi-customer-ip-address': '2001:DB8::1893:25c8:1946' },
    { 'x-fapi-customer-ip-address': '198.51.100.119' },
    { accept: 'application/json;charset=UTF-8' },
    { accept: 'application/json, application/*+json, */*;q=0.5' },
  ]) {
    assertResource(await suite.resource(client, token, headers as Record<string, string>))
  }
}

function assertResource(answer: Answer): void {
  assert.equal(answer.status, 200, answer.text)
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json(; *charset=utf-8)?$/i)
  assert.ok(answer.headers.get('date'))
  assert.equal(typeof answer.body.sub, 'string')
}

function refresh(suite: Suite, client: SuiteClient, tokens: Record<string, unknown>, more = {}) {
  return suite.token(client, { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token), ...more })
}

/** Returns the parameters that a ping client must always send. */
export function callBack({ variant }: Suite): Record<string, string> {
  return variant.cibaMode === 'ping' ? { client_notification_token: newSecret(24) } : {}
}
