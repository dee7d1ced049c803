import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noteOutcomes } from '../../../test/support/rule-outcomes.ts'
import { CIBA_GRANT } from './client-metadata.ts'
import { rules } from './metadata-rules.ts'
import { readClientMetadata, type ValidationContext } from './read-client-metadata.ts'

const jwks = { keys: [{ kty: 'EC', crv: 'P-256', x: 'eA', y: 'eQ' }] }
const jwks_uri = 'https://till.example/jwks'
const backchannel_client_notification_endpoint = 'https://till.example/cb'

const confidential = { client_id: 'till', client_secret: 'a-till-secret' }
const web = { ...confidential, redirect_uris: ['https://a.example/cb'] }
const poll = { ...confidential, backchannel_token_delivery_mode: 'poll' }
const ping = { ...poll, backchannel_token_delivery_mode: 'ping', backchannel_client_notification_endpoint }
const deviceService = { ...confidential, backchannel_device_service: true }
const byKey = { ...poll, token_endpoint_auth_method: 'private_key_jwt' }
const bySecretJwt = { ...poll, token_endpoint_auth_method: 'client_secret_jwt' }
const byCertificate = {
  ...poll,
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_san_dns: 'till.example',
}
const byOwnCertificate = { ...poll, token_endpoint_auth_method: 'self_signed_tls_client_auth' }

type Metadata = Record<string, unknown>
const cases: [problem: RegExp, broken: Metadata, mended: Metadata, context?: Partial<ValidationContext>][] = [
  [/^client_id is missing/, { ...poll, client_id: undefined }, poll],
  [/^grant_types must contain/, { ...poll, grant_types: [] }, { ...poll, grant_types: [CIBA_GRANT] }],
  [/_mode is missing/, { ...confidential, grant_types: [CIBA_GRANT] }, { ...poll, grant_types: [CIBA_GRANT] }],
  [/_endpoint is missing/, { ...ping, backchannel_client_notification_endpoint: undefined }, ping],
  [/_endpoint must be left out, because/, { ...poll, backchannel_client_notification_endpoint }, poll],
  [/_endpoint must be left out, or/, { ...web, backchannel_client_notification_endpoint }, web],
  [/device service does not send/, { ...poll, backchannel_device_service: true }, deviceService],
  [
    /a client that sends authentication requests must authenticate/,
    { ...poll, token_endpoint_auth_method: 'none' },
    poll,
  ],
  [/a device service must authenticate/, { ...deviceService, token_endpoint_auth_method: 'none' }, deviceService],
  [/never decides/, { ...poll, scope: 'openid ciba:decide' }, { ...poll, scope: 'openid' }],
  [/^client_secret is missing/, { ...poll, client_secret: undefined }, poll],
  [
    /^client_secret must be at least 32 bytes/,
    { ...bySecretJwt, client_secret: 'x'.repeat(31) },
    { ...bySecretJwt, client_secret: 'x'.repeat(32) },
  ],
  [/private_key_jwt needs one of them/, byKey, { ...byKey, jwks }],
  [
    /request_signing_alg needs one of them/,
    { ...poll, backchannel_authentication_request_signing_alg: 'ES256' },
    { ...poll, backchannel_authentication_request_signing_alg: 'ES256', jwks },
  ],
  [
    /subject_type pairwise needs one of them/,
    { ...byKey, subject_type: 'pairwise', jwks },
    { ...byKey, subject_type: 'pairwise', jwks_uri },
  ],
  [
    /subject_type pairwise needs signed requests/,
    { ...poll, subject_type: 'pairwise', jwks_uri },
    { ...byKey, subject_type: 'pairwise', jwks_uri },
  ],
  [
    /^redirect_uris must all have the host/,
    { ...web, subject_type: 'pairwise', redirect_uris: ['https://a.example/cb', 'https://b.example/cb'] },
    { ...web, subject_type: 'pairwise', redirect_uris: ['https://a.example/cb', 'https://a.example/more'] },
  ],
  [/tls_client_auth needs tls or proxy/, byCertificate, poll, { seesCertificates: false }],
  [
    /^tls_client_certificate_bound_access_tokens needs tls or proxy/,
    { ...poll, tls_client_certificate_bound_access_tokens: true },
    { ...poll, tls_client_certificate_bound_access_tokens: false },
    { seesCertificates: false },
  ],
  [
    /must not both be true/,
    { ...poll, dpop_bound_access_tokens: true, tls_client_certificate_bound_access_tokens: true },
    { ...poll, dpop_bound_access_tokens: true },
  ],
  [/^exactly one of tls_client_auth/, { ...byCertificate, tls_client_auth_subject_dn: 'CN=till' }, byCertificate],
  [
    /certificate in x5c/,
    { ...byOwnCertificate, jwks },
    { ...byOwnCertificate, jwks: { keys: [{ ...jwks.keys[0], x5c: ['AA=='] }] } },
  ],
  [/must not both be set/, { ...byKey, jwks, jwks_uri }, { ...byKey, jwks }],
  [
    /signing_alg does not fit/,
    { ...byKey, jwks, token_endpoint_auth_signing_alg: 'HS256' },
    { ...byKey, jwks, token_endpoint_auth_signing_alg: 'ES256' },
  ],
  [/^redirect_uris is missing/, confidential, web],
  [/^response_types must contain/, { ...web, response_types: [] }, web],
  [
    /does not support/,
    { ...poll, authorization_details_types: ['tea', 'coffee'] },
    { ...poll, authorization_details_types: ['tea'] },
    { detailTypes: ['tea'] },
  ],
  [/^redirect_uris must be https/, { ...web, redirect_uris: ['http://127.0.0.1/cb'] }, web],
]

const notSeenBothWays = noteOutcomes(rules)
for (const [problem, broken, mended, context] of cases) {
  test(`${problem.source}, and not once it is corrected`, () => {
    const found = problemsIn(broken, context)
    assert.equal(found.length, 1, found.join('\n'))
    assert.match(found[0]!, problem)
    assert.deepEqual(problemsIn(mended, context), [])
  })
}

test('the cases above break and keep each rule', () => {
  assert.equal(cases.length, rules.length)
  assert.deepEqual(notSeenBothWays(), [])
})

function problemsIn(input: Metadata, context: Partial<ValidationContext> = {}): string[] {
  const read = readClientMetadata(input, { development: false, ...context })
  return 'client' in read ? [] : read.problems
}
