/** Requests with the wrong client authentication or from the wrong client (fapi-ciba.md §3.2). */
import assert from 'node:assert/strict'
import { CIBA } from '../../support/stage.ts'
import { assertBackchannelError, assertError, assertPending } from '../checks.ts'
import type { Modules } from '../plan.ts'
import { assertTlsOf } from '../tls-probe.ts'
import { callBack } from './happy-paths.ts'
import { asRs256 } from './request-object.ts'

const ciba = (auth_req_id: string) => ({ grant_type: CIBA, auth_req_id })

export const tokenEndpointNegatives: Modules = {
  'fapi-ciba-id1-ensure-wrong-auth-req-id-in-token-endpoint-request': async (suite) => {
    const flow = await suite.start(suite.first)
    assertError(await suite.poll(suite.second, flow.authReqId), [400, 'invalid_grant'])
    await suite.finish(flow)
  },

  'fapi-ciba-id1-ensure-mtls-holder-of-key-required': async (suite) => {
    const published = ['authorization_endpoint', 'token_endpoint', 'userinfo_endpoint', 'registration_endpoint']
    for (const name of published) if (name in suite.metadata) await assertTlsOf(suite, name)

    const flow = await suite.start(suite.first)
    await suite.decide(flow.authReqId, 'allow')
    await suite.pinged(flow)
    const form = { ...ciba(flow.authReqId), ...(await suite.credentials(suite.first, suite.tokenEndpoint)) }
    const answer = await suite.tokenBare(form)
    if (suite.variant.clientAuthType === 'mtls') {
      assertError(answer, [400, 'invalid_client'], [401, 'invalid_client'], [400, 'invalid_request'])
    } else {
      const allowed = ['invalid_request', 'invalid_grant', 'invalid_client'] as const
      assertError(answer, [401, 'invalid_client'], ...allowed.map((error): [number, string] => [400, error]))
    }
    // The request is still valid (CT-7).
    await suite.checkTokens(suite.first, await suite.poll(suite.first, flow.authReqId))
  },
}

export const mtlsOnly: Modules = {
  'fapi-ciba-id1-ensure-different-client-id-and-issuer-in-backchannel-authorization-request': async (suite) => {
    const request = await suite.requestObject(suite.first, { claims: callBack(suite) })
    const answer = await suite.ringBare({ request, client_id: suite.second.id }, suite.first.certified)
    assertBackchannelError(answer, [401, 'invalid_client'])
  },

  'fapi-ciba-id1-ensure-wrong-client-id-in-backchannel-authorization-request': async (suite) => {
    const claims = { ...callBack(suite), iss: suite.second.id }
    const request = await suite.requestObject(suite.first, { claims })
    const answer = await suite.ringBare({ request, client_id: suite.second.id }, suite.first.certified)
    assertBackchannelError(
      answer,
      [401, 'invalid_client'],
      [400, 'invalid_client'],
      [400, 'invalid_request'],
      [403, 'access_denied'],
    )
  },

  'fapi-ciba-id1-ensure-wrong-client-id-in-token-endpoint-request': async (suite) => {
    const flow = await suite.start(suite.first)
    const form = { ...ciba(flow.authReqId), client_id: suite.second.id }
    const answer = await suite.tokenBare(form, suite.first.certified)
    assertError(answer, [400, 'invalid_client'], [401, 'invalid_client'])
    await suite.finish(flow)
  },
}

const notAuthenticated = [
  [401, 'invalid_client'],
  [400, 'invalid_client'],
  [400, 'invalid_request'],
  [403, 'access_denied'],
] as [number, string][]

export const privateKeyJwtOnly: Modules = {
  'fapi-ciba-id1-ensure-without-client-assertion-in-token-endpoint-request': async (suite) => {
    const flow = await suite.start(suite.first)
    const answer = await suite.tokenBare({ ...ciba(flow.authReqId), client_id: suite.first.id }, suite.first.certified)
    assertError(answer, [401, 'invalid_client'], [400, 'invalid_client'], [400, 'invalid_request'])
    await suite.finish(flow)
  },

  'fapi-ciba-id1-ensure-without-client-assertion-in-backchannel-authorization-request': async (suite) => {
    const request = await suite.requestObject(suite.first, { claims: callBack(suite) })
    assertBackchannelError(await suite.ringBare({ request, client_id: suite.first.id }), ...notAuthenticated)
  },

  'fapi-ciba-id1-ensure-client-assertion-signature-algorithm-in-backchannel-authorization-request-is-RS256-fails':
    async (suite) => {
      const request = await suite.requestObject(suite.first, { claims: callBack(suite) })
      const key = await asRs256(suite.first.key)
      const who = await suite.credentials(suite.first, String(suite.metadata.issuer), { alg: 'RS256', key })
      assertBackchannelError(await suite.ringBare({ request, ...who }), ...notAuthenticated)
    },

  'fapi-ciba-id1-ensure-client-assertion-signature-algorithm-in-token-endpoint-request-is-RS256-fails': async (
    suite,
  ) => {
    const flow = await suite.start(suite.first)
    const key = await asRs256(suite.first.key)
    const who = await suite.credentials(suite.first, suite.tokenEndpoint, { alg: 'RS256', key })
    const answer = await suite.tokenBare({ ...ciba(flow.authReqId), ...who }, suite.first.certified)
    assertError(answer, [401, 'invalid_client'], [400, 'invalid_client'])
    await suite.finish(flow)
  },

  'fapi-ciba-id1-ensure-client-assertion-with-iss-aud-to-token-endpoint-succeeds': async (suite) => {
    const flow = await suite.start(suite.first)
    suite.waitSeconds(flow.interval)
    const who = await suite.credentials(suite.first, String(suite.metadata.issuer))
    assertPending(await suite.tokenBare({ ...ciba(flow.authReqId), ...who }, suite.first.certified))
    assert.ok(await suite.finish(flow))
  },
}
