import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CIBA_GRANT } from './client-metadata.ts'
import { readClientMetadata } from './read-client-metadata.ts'

const poll = { client_id: 'till', client_secret: 'a-till-secret', backchannel_token_delivery_mode: 'poll' }
const ping = {
  ...poll,
  backchannel_token_delivery_mode: 'ping',
  backchannel_client_notification_endpoint: 'https://till.example/cb',
}
const key = { kty: 'EC', crv: 'P-256', x: 'eA', y: 'eQ' }

function accepted(input: unknown, development = false) {
  const read = readClientMetadata(input, { development })
  if ('problems' in read) assert.fail(read.problems.join('\n'))
  return read.client
}

function problemsIn(input: unknown, development = false) {
  const read = readClientMetadata(input, { development })
  return 'problems' in read ? read.problems : []
}

const weakKey = { kty: 'RSA', kid: 'weak', e: 'AQAB', n: Buffer.alloc(1024 / 8, 255).toString('base64url') }

describe('defaults', () => {
  const cases: [string, Record<string, unknown>, string[], string[]][] = [
    ['poll', poll, [CIBA_GRANT], []],
    ['ping', ping, [CIBA_GRANT], []],
    ['push', { ...ping, backchannel_token_delivery_mode: 'push' }, [], []],
    ['device service', { client_id: 'd', client_secret: 's', backchannel_device_service: true }, [], []],
    [
      'web app',
      { client_id: 'w', client_secret: 's', redirect_uris: ['https://w.example/cb'] },
      ['authorization_code'],
      ['code'],
    ],
  ]
  for (const [name, input, grants, responses] of cases) {
    test(`of a ${name} client`, () => {
      const client = accepted(input)
      assert.deepEqual(client.grant_types, grants)
      assert.deepEqual(client.response_types, responses)
      assert.equal(client.token_endpoint_auth_method, 'client_secret_basic')
    })
  }

  test('null counts as left out, and unknown members are dropped (RFC 7591 §2)', () => {
    const client = accepted({ ...poll, logo_uri: null, software_id: 'x' })
    assert.deepEqual(Object.keys(client).sort(), [
      'backchannel_token_delivery_mode',
      'client_id',
      'client_secret',
      'grant_types',
      'redirect_uris',
      'response_types',
      'token_endpoint_auth_method',
    ])
  })

  test('the delivery mode is accepted in any letter case, but not misspelt (CIBA §4)', () => {
    assert.equal(accepted({ ...poll, backchannel_token_delivery_mode: 'POLL' }).backchannel_token_delivery_mode, 'poll')
    assert.deepEqual(problemsIn({ ...poll, backchannel_token_delivery_mode: 'POOL' }), [
      'backchannel_token_delivery_mode must be "poll", "ping" or "push"; it is "pool"',
    ])
  })
})

describe('rejected input', () => {
  const jwt = { client_id: 'k', token_endpoint_auth_method: 'private_key_jwt', backchannel_token_delivery_mode: 'poll' }
  const app = { client_id: 'a', token_endpoint_auth_method: 'none', redirect_uris: ['https://a.example/cb'] }
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['no client_id', { ...poll, client_id: undefined }, /^client_id is missing/],
    ['an empty client_id', { ...poll, client_id: '' }, /^client_id must be 1 to 255/],
    ['a client_id with a space', { ...poll, client_id: 'a b' }, /^client_id must be/],
    ['a client_id of 256', { ...poll, client_id: 'a'.repeat(256) }, /^client_id must be .*256 characters long/],
    ['poll without the grant (RG-2)', { ...poll, grant_types: ['refresh_token'] }, /^grant_types must contain .*RG-2/],
    [
      'the grant without a mode (RG-1)',
      { client_id: 'x', client_secret: 's', grant_types: [CIBA_GRANT] },
      /^backchannel_token_delivery_mode is missing/,
    ],
    [
      'ping without an endpoint (RG-3)',
      { ...ping, backchannel_client_notification_endpoint: undefined },
      /^backchannel_client_notification_endpoint is missing/,
    ],
    [
      'poll with an endpoint (M7)',
      { ...ping, backchannel_token_delivery_mode: 'poll' },
      /^backchannel_client_notification_endpoint must be left out/,
    ],
    ['both key sources (DR-5)', { ...jwt, jwks: { keys: [key] }, jwks_uri: 'https://k.example/jwks' }, /DR-5/],
    ['private_key_jwt without keys (DR-9)', jwt, /^jwks or jwks_uri is missing/],
    ['a private key', { ...jwt, jwks: { keys: [{ ...key, d: 'hush' }] } }, /^jwks must contain public keys only.*"d"/],
    ['an RSA key of 1024 bits (FI-6)', { ...jwt, jwks: { keys: [weakKey] } }, /at least 2048 bits, but key 0/],
    [
      'a private ML-DSA key beside a public key',
      { ...jwt, jwks: { keys: [key, { kty: 'AKP', alg: 'ML-DSA-44', pub: 'eA', priv: 'hush' }] } },
      /^jwks must contain public keys only, but key 1 has the private member "priv"/,
    ],
    [
      'only keys of unknown types',
      { ...jwt, jwks: { keys: [{ kty: 'AKP', pub: 'eA' }] } },
      /^jwks must contain a key of/,
    ],
    ['a key that is not an object', { ...jwt, jwks: { keys: [key, 'key'] } }, /^jwks .* key 1 is not an object/],
    ['a symmetric key', { ...jwt, jwks: { keys: [{ kty: 'oct', k: 'hush' }] } }, /private member "k"/],
    ['an empty key set', { ...jwt, jwks: { keys: [] } }, /^jwks must contain a key of type EC, RSA or OKP/],
    ['no key set', { ...jwt, jwks: { keys: {} } }, /^jwks must be a JWK Set/],
    ['no secret', { ...poll, client_secret: undefined }, /^client_secret is missing/],
    [
      'a short HMAC secret',
      { ...poll, client_secret: 'x'.repeat(31), token_endpoint_auth_method: 'client_secret_jwt' },
      /32 bytes .* 31 bytes/,
    ],
    [
      'a secret too short for HS512',
      {
        ...poll,
        client_secret: 'x'.repeat(63),
        token_endpoint_auth_method: 'client_secret_jwt',
        token_endpoint_auth_signing_alg: 'HS512',
      },
      /64 bytes .* 63 bytes/,
    ],
    [
      'an alg of another method',
      { ...jwt, jwks: { keys: [key] }, token_endpoint_auth_signing_alg: 'HS256' },
      /signing_alg does not fit/,
    ],
    ['a public CIBA client (EP-11)', { ...poll, token_endpoint_auth_method: 'none' }, /EP-11/],
    [
      'a public device service',
      { client_id: 'd', token_endpoint_auth_method: 'none', backchannel_device_service: true },
      /device service must authenticate/,
    ],
    ['a device service with a mode', { ...poll, backchannel_device_service: true }, /device service does not send/],
    ['a CIBA client that decides', { ...poll, scope: 'openid ciba:decide' }, /never decides/],
    [
      'tls_client_auth without a subject (ML-3)',
      { ...poll, token_endpoint_auth_method: 'tls_client_auth' },
      /^exactly one of tls_client_auth_subject_dn/,
    ],
    [
      'tls_client_auth with two subjects (ML-3)',
      {
        ...poll,
        token_endpoint_auth_method: 'tls_client_auth',
        tls_client_auth_subject_dn: 'CN=a',
        tls_client_auth_san_dns: 'a.example',
      },
      /^exactly one of tls_client_auth_subject_dn/,
    ],
    ['a subject without its method', { ...poll, tls_client_auth_san_dns: 'a.example' }, /must be left out/],
    [
      'a subject that is not a name',
      { ...poll, token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'till' },
      /^tls_client_auth_subject_dn must be a distinguished name/,
    ],
    [
      'self_signed_tls_client_auth without a certificate (ML-5)',
      { ...poll, token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [{ kty: 'EC' }] } },
      /x5c/,
    ],
    [
      'signed requests without a key (DR-9)',
      { ...poll, backchannel_authentication_request_signing_alg: 'ES256' },
      /^jwks or jwks_uri is missing/,
    ],
    [
      'requests signed with a shared secret (SR-3)',
      { ...poll, backchannel_authentication_request_signing_alg: 'HS256', jwks_uri: 'https://c.example/jwks' },
      /^backchannel_authentication_request_signing_alg must be one of ES256/,
    ],
    [
      'a hint of an unknown kind (M30)',
      { ...poll, backchannel_allowed_hints: ['phone'] },
      /^backchannel_allowed_hints\[0\] must be one of login_hint, id_token_hint, login_hint_token/,
    ],
    [
      'no hint at all',
      { ...poll, backchannel_allowed_hints: [] },
      /^backchannel_allowed_hints must contain at least one/,
    ],
    [
      'another answer about unknown users',
      { ...poll, backchannel_unknown_users: 'lie' },
      /^backchannel_unknown_users must be "error" or "pretend"/,
    ],
    ['an unknown subject type', { ...poll, subject_type: 'private' }, /^subject_type must be "public" or "pairwise"/],
    [
      'pairwise subjects without a sector (RG-8)',
      { ...jwt, subject_type: 'pairwise', jwks: { keys: [key] } },
      /^jwks_uri or sector_identifier_uri is missing/,
    ],
    [
      'pairwise subjects without proof of its keys (RG-12)',
      { ...poll, subject_type: 'pairwise', jwks_uri: 'https://till.example/jwks' },
      /^subject_type pairwise needs signed requests/,
    ],
    ['unsigned ID tokens', { ...poll, id_token_signed_response_alg: 'none' }, /^id_token_signed_response_alg must be/],
    ['a foreign grant', { ...poll, grant_types: [CIBA_GRANT, 'password'] }, /^grant_types\[1\] must be .*"password"/],
    ['no redirect_uris', { client_id: 'w', client_secret: 's' }, /^redirect_uris is missing/],
    ['an http redirect', { ...app, redirect_uris: ['http://127.0.0.1/cb'] }, /^redirect_uris must be https/],
    [
      'a redirect scheme without a dot',
      { ...app, application_type: 'native', redirect_uris: ['app:/cb'] },
      /^redirect_uris must be/,
    ],
    ['a script as redirect', { ...app, redirect_uris: ['javascript:alert(1)'] }, /^redirect_uris\[0\] must be/],
    ['a script as logo', { ...poll, logo_uri: 'javascript:alert(1)' }, /^logo_uri must be/],
    [
      'code without its grant',
      { ...app, grant_types: ['refresh_token'], response_types: ['code'] },
      /^response_types must contain/,
    ],
    [
      'a response type of another flow',
      { ...poll, response_types: ['id_token'] },
      /^response_types\[0\] must be "code"/,
    ],
    ['a name that reverses letters', { ...poll, client_name: 'Bank\u202e' }, /^client_name must be/],
    ...[
      'Ba\u200bnk',
      'Bank\u061c',
      'Bank\u2060',
      'Ba\u00adnk',
      'Bank\u{e0041}',
      'Bank\ud800',
      'Bank\u2028',
      '\ufeff',
    ].map((client_name): [string, Record<string, unknown>, RegExp] => [
      `a name with invisible characters: ${JSON.stringify(client_name)}`,
      { ...poll, client_name },
      /^client_name must be/,
    ]),
    [
      'a wildcard host name',
      { ...poll, token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: '.bank.example' },
      /^tls_client_auth_san_dns must be/,
    ],
    ['two spaces in scope', { ...poll, scope: 'openid  email' }, /^scope must be/],
    ['a negative age', { ...poll, default_max_age: -1 }, /^default_max_age must be a whole number of seconds/],
  ]
  for (const [name, input, expected] of cases) {
    test(name, () => {
      const problems = problemsIn(input)
      assert.equal(problems.length, 1, problems.join('\n'))
      assert.match(problems[0]!, expected)
    })
  }

  test('anything that is not an object', () => {
    for (const input of [null, 'x', [], 3]) assert.equal(problemsIn(input).length, 1)
  })

  test('all problems are reported at once, without a secret', () => {
    const problems = problemsIn({
      client_id: 'a b',
      client_secret: 'tiny-sécret',
      backchannel_token_delivery_mode: 'push',
      logo_uri: 5,
      jwks_uri: 'http://k.example',
    })
    assert.deepEqual(problems.map((problem) => problem.split(' ')[0]).sort(), [
      'backchannel_client_notification_endpoint',
      'client_id',
      'client_secret',
      'jwks_uri',
      'logo_uri',
    ])
    assert.doesNotMatch(problems.join(), /tiny/)
  })
})

describe('a notification endpoint', () => {
  const endpoint = (address: string, development: boolean) =>
    problemsIn({ ...ping, backchannel_client_notification_endpoint: address }, development).length === 0
  const cases: [string, boolean, boolean][] = [
    // address, in production, in development
    ['https://till.example/cb', true, true],
    ['https://till.example/cb?x=1', true, true],
    ['http://till.example/cb', false, false],
    ['http://localhost:4000/cb', false, true],
    ['http://127.0.0.1/cb', false, true],
    ['http://127.8.9.1/cb', false, true],
    ['http://[::1]:80/cb', false, true],
    ['http://localhost.evil.example/cb', false, false],
    ['http://127.0.0.1.evil.example/cb', false, false],
    ['http://10.0.0.1/cb', false, false],
    ['https://till.example/cb#', false, false],
    ['https://till.example/cb#x', false, false],
    ['https://me@till.example/cb', false, false],
    ['https://till.example\\@evil.example/cb', false, false],
    ['https://till.example/c b', false, false],
    ['https://till.example/\ncb', false, false],
    ['https:till.example', false, false],
    ['ftp://till.example', false, false],
    ['/cb', false, false],
    ['', false, false],
    [`https://till.example/${'a'.repeat(2048)}`, false, false],
  ]
  for (const [address, inProduction, inDevelopment] of cases) {
    test(JSON.stringify(address.slice(0, 50)), () => {
      assert.equal(endpoint(address, false), inProduction)
      assert.equal(endpoint(address, true), inDevelopment)
    })
  }
})

test('a client with its own scheme or a loopback address is native', () => {
  const app = { client_id: 'a', token_endpoint_auth_method: 'none', application_type: 'native' }
  accepted({ ...app, redirect_uris: ['com.example.app:/cb', 'http://127.0.0.1/cb', 'https://a.example/cb'] })
})

test('a push client may register for refresh tokens', () => {
  const client = accepted({ ...ping, backchannel_token_delivery_mode: 'push', grant_types: ['refresh_token'] })
  assert.deepEqual(client.grant_types, ['refresh_token'])
})
