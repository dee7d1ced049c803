import assert from 'node:assert/strict'
import { test } from 'node:test'
import { profiles } from '../../platform/security-profile.ts'
import { registeredIdTokenAlg, valuesInForce } from './registered-values.ts'

const client = { client_id: 'a', redirect_uris: [], grant_types: [], response_types: [] }
const signing = { ...client, token_endpoint_auth_method: 'private_key_jwt' } as const

test('the default algorithm is RS256, unless the profile forbids it', () => {
  const at = (profile: keyof typeof profiles, idTokenAlg: 'ES256' | 'PS256') =>
    registeredIdTokenAlg({ validationContext: { development: false, profile: profiles[profile] }, idTokenAlg })
  assert.deepEqual(
    [at('core', 'ES256'), at('core', 'PS256'), at('fapi-ciba', 'ES256'), at('fapi-ciba', 'PS256')],
    ['RS256', 'RS256', 'ES256', 'PS256'],
  )
  assert.equal(registeredIdTokenAlg({ validationContext: { development: true }, idTokenAlg: 'ES256' }), 'RS256')
})

test('the values in force follow the profile and the types of authorization details', () => {
  const validationContext = { development: false, profile: profiles['fapi-ciba'], detailTypes: ['payment'] }
  const inForce = (more: object) => valuesInForce({ ...signing, ...more }, { validationContext, idTokenAlg: 'PS256' })
  assert.partialDeepStrictEqual(inForce({}), {
    tls_client_certificate_bound_access_tokens: true,
    id_token_signed_response_alg: 'PS256',
    authorization_details_types: ['payment'],
  })
  const dpop = inForce({ dpop_bound_access_tokens: true, authorization_details_types: [] })
  assert.equal(dpop.tls_client_certificate_bound_access_tokens, false)
  assert.deepEqual(dpop.authorization_details_types, [])
  assert.ok(!('client_secret' in inForce({ client_secret: 'hush' })))
})
