import assert from 'node:assert/strict'
import { test } from 'node:test'
import { profiles } from '../../platform/security-profile.ts'
import type { ClientMetadata } from './client-metadata.ts'
import { profileViolations } from './profile-violations.ts'
import { readClientMetadata } from './read-client-metadata.ts'

const bank = {
  client_id: 'bank',
  backchannel_token_delivery_mode: 'poll',
  backchannel_authentication_request_signing_alg: 'PS256',
  token_endpoint_auth_method: 'private_key_jwt',
  jwks_uri: 'https://bank.example/jwks',
}

const cases: [setting: keyof ClientMetadata, message: RegExp, metadata: Record<string, unknown>][] = [
  [
    'tls_client_certificate_bound_access_tokens',
    /or dpop_bound_access_tokens must be true/,
    { tls_client_certificate_bound_access_tokens: false },
  ],
  [
    'backchannel_token_delivery_mode',
    /must be poll or ping/,
    { backchannel_token_delivery_mode: 'push', backchannel_client_notification_endpoint: 'https://bank.example/n' },
  ],
  [
    'token_endpoint_auth_method',
    /must be private_key_jwt, /,
    { token_endpoint_auth_method: 'client_secret_basic', client_secret: 'x' },
  ],
  ['token_endpoint_auth_signing_alg', /must be ES256 or PS256/, { token_endpoint_auth_signing_alg: 'RS256' }],
  ['id_token_signed_response_alg', /must be ES256 or PS256/, { id_token_signed_response_alg: 'RS256' }],
  [
    'backchannel_authentication_request_signing_alg',
    /must be ES256 or PS256/,
    { backchannel_authentication_request_signing_alg: 'RS256' },
  ],
  [
    'backchannel_authentication_request_signing_alg',
    /is missing/,
    { backchannel_authentication_request_signing_alg: undefined },
  ],
]

for (const [setting, message, metadata] of cases) {
  test(`${setting} ${message.source}: in fapi-ciba, not in core`, () => {
    const client = registered({ ...bank, ...metadata })
    const violations = profileViolations(client, profiles['fapi-ciba'])
    assert.deepEqual(
      violations.map((violation) => violation.setting),
      [setting],
    )
    assert.match(violations[0]!.message, message)
    assert.deepEqual(profileViolations(client, profiles.core), [])
  })
}

test('metadata that keeps to the profile has no violations', () => {
  assert.deepEqual(profileViolations(registered(bank), profiles['fapi-ciba']), [])
  const dpop = { ...bank, tls_client_certificate_bound_access_tokens: false, dpop_bound_access_tokens: true }
  assert.deepEqual(profileViolations(registered(dpop), profiles['fapi-ciba']), [])
})

function registered(metadata: Record<string, unknown>): ClientMetadata {
  const read = readClientMetadata(metadata, { development: false })
  return 'client' in read ? read.client : assert.fail(read.problems.join('\n'))
}
