import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { accepted, problemsIn, production } from '../../test/support/configurations.ts'

describe('the profile fapi-ciba', () => {
  const proxied = { proxy: { trust: ['10.0.0.1'], clientCertificateHeader: 'x-client-cert' } }
  const bank = {
    client_id: 'bank',
    grant_types: ['urn:openid:params:grant-type:ciba'],
    backchannel_token_delivery_mode: 'poll',
    backchannel_authentication_request_signing_alg: 'PS256',
    token_endpoint_auth_method: 'private_key_jwt',
    jwks_uri: 'https://bank.example/jwks',
  }
  const cases: [name: string, input: Record<string, unknown>, expected: RegExp][] = [
    ['a server that receives no client certificates', { proxy: {} }, /^profile "fapi-ciba" needs tls or proxy.*FI-2/],
    [
      'tokens that are not sender-constrained',
      { clients: [{ ...bank, tls_client_certificate_bound_access_tokens: false }] },
      /^clients\[0\].tls_client_certificate_bound_access_tokens or dpop_bound_access_tokens must be true.*FI-2/,
    ],
    ['an http issuer', { issuer: 'http://localhost:4000', development: true }, /^issuer must start with https/],
    ['ID tokens by RS256', { tokens: { idTokenAlg: 'RS256' } }, /^tokens.idTokenAlg must be ES256 or PS256.*FC-15/],
    ['unsigned requests', { requests: { requireSigned: false } }, /^requests.requireSigned must not be false.*FC-7/],
    ['direct settings of oidc-provider', { oidc: { pkce: {} } }, /^oidc must be empty/],
    [
      'push',
      {
        clients: [
          {
            ...bank,
            backchannel_token_delivery_mode: 'push',
            backchannel_client_notification_endpoint: 'https://bank.example/n',
          },
        ],
      },
      /^clients\[0\].backchannel_token_delivery_mode must be poll or ping.*FC-4/,
    ],
    [
      'a client secret',
      { clients: [{ ...bank, client_secret: 'x', token_endpoint_auth_method: 'client_secret_basic' }] },
      /^clients\[0\].token_endpoint_auth_method must be private_key_jwt, tls.*FI-1/,
    ],
    [
      'a public client',
      { clients: [{ client_id: 'app', token_endpoint_auth_method: 'none', redirect_uris: ['https://a.example'] }] },
      /^clients\[0\].token_endpoint_auth_method must be .*FI-1/,
    ],
    [
      'a client that does not sign',
      { clients: [{ ...bank, backchannel_authentication_request_signing_alg: undefined }] },
      /^clients\[0\].backchannel_authentication_request_signing_alg is missing.*FC-7/,
    ],
    [
      'requests signed by RS256',
      { clients: [{ ...bank, backchannel_authentication_request_signing_alg: 'RS256' }] },
      /^clients\[0\].backchannel_authentication_request_signing_alg must be/,
    ],
    [
      'assertions by RS256',
      { clients: [{ ...bank, token_endpoint_auth_signing_alg: 'RS256' }] },
      /^clients\[0\].token_endpoint_auth_signing_alg must be ES256 or PS256.*FC-15/,
    ],
    [
      'ID tokens by RS256 for one client',
      { clients: [{ ...bank, id_token_signed_response_alg: 'RS256' }] },
      /^clients\[0\].id_token_signed_response_alg must be ES256 or PS256.*FC-15/,
    ],
  ]
  for (const [name, input, expected] of cases) {
    test(`refuses ${name}`, () => {
      const problems = problemsIn({ ...production, ...proxied, profile: 'fapi-ciba', ...input })
      assert.equal(problems.length, 1, problems.join('\n'))
      assert.match(problems[0]!, expected)
    })
  }

  test('accepts a configuration that conforms to it', () => {
    const { requests, clients } = accepted({ ...production, ...proxied, profile: 'fapi-ciba', clients: [bank] })
    assert.deepEqual([requests.requireSigned, clients.length], [true, 1])
  })
})
