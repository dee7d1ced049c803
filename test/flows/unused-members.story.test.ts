/**
 * Members of client metadata that the server does not use. They are named at the start, or refused if they ask for
 * encryption.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ClientMetadataInput, PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import { newKey, pollClient } from '../support/assertions.ts'
import { problemsIn, production } from '../support/configurations.ts'
import { engines } from '../support/engines.ts'
import { openStage, type Stage } from '../support/stage.ts'
import { open, opened, poll } from './registration-calls.ts'

const secret = 'a-secret-of-the-configuration'

/** The metadata of a client as another provider exports it, from its own pages. */
const exported = JSON.parse(
  '{"client_id":"shelf","client_secret":"a-secret-of-the-configuration","client_name":"Shelf","software_id":"shelf",' +
    '"software_version":"4.2","grant_types":["urn:openid:params:grant-type:ciba"],"response_types":[],' +
    '"post_logout_redirect_uris":[],"userinfo_signed_response_alg":null,"backchannel_token_delivery_mode":"poll"}',
) as ClientMetadataInput

const variants: [name: string, client: ClientMetadataInput, named: string[]][] = [
  [
    'a misspelt requirement',
    pollClient('shelf', { client_secret: secret, backchannel_requires_passkey: true }),
    ['clients[5].backchannel_requires_passkey is not used; did you mean backchannel_require_passkey?'],
  ],
  [
    'another misspelt requirement',
    pollClient('shelf', { client_secret: secret, dpop_bound_access_token: true }),
    ['clients[5].dpop_bound_access_token is not used; did you mean dpop_bound_access_tokens?'],
  ],
  [
    'a member of a standard that is not supported, although its name is like another',
    pollClient('shelf', { client_secret: secret, userinfo_signed_response_alg: 'ES256' }),
    ['clients[5].userinfo_signed_response_alg is not used'],
  ],
  [
    'what another provider exports',
    exported,
    [
      'clients[5].software_id is not used',
      'clients[5].software_version is not used',
      'clients[5].post_logout_redirect_uris is not used',
    ],
  ],
  [
    'a name that every JavaScript object has',
    pollClient('shelf', { client_secret: secret, toString: 'x' as never }),
    ['clients[5].toString is not used'],
  ],
  ['nothing unknown', pollClient('shelf', { client_secret: secret, require_auth_time: undefined }), []],
]

for (const engine of engines) {
  describe(`unknown members of a configured client are named at the start, on ${engine.name}:`, () => {
    for (const [name, client, named] of variants) {
      test(name, async (t) => {
        const stage = await openStage(t, { engine, config: { clients: [client] } })
        assert.deepEqual(warningsOf(stage), named)
      })
    }
  })
}

test('a key that cannot be used is named too, with the reason, and no value of a member', async (t) => {
  const { publicJwk } = await newKey('one')
  const keys = [publicJwk, { kty: 'AKP', pub: 'eA' }, { kty: 'EC', crv: 'P-256' }] as unknown as PublicJwk[]
  const client = pollClient('shelf', {
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys },
    password: 'hush',
  })
  const stage = await openStage(t, { config: { clients: [client] } })
  assert.deepEqual(warningsOf(stage), [
    'clients[5].password is not used',
    'clients[5].jwks.keys[1] is not used: its type is neither EC nor RSA nor OKP',
    'clients[5].jwks.keys[2] is not used: it has no text "x"',
  ])
  assert.doesNotMatch(stage.logLines.join(), /hush/)
})

describe('encrypted responses are refused, because the server does not encrypt:', () => {
  const members: [name: string, value: string][] = [
    ['id_token_encrypted_response_alg', 'RSA-OAEP-256'],
    ['id_token_encrypted_response_enc', 'A256GCM'],
    ['userinfo_encrypted_response_alg', 'ECDH-ES'],
    ['userinfo_encrypted_response_enc', 'A128CBC-HS256'],
    ['introspection_encrypted_response_alg', 'RSA-OAEP'],
    ['authorization_encrypted_response_alg', 'dir'],
  ]
  for (const [name, value] of members) {
    test(name, async (t) => {
      const client = { client_id: 'shelf', client_secret: secret, ...poll, [name]: value }
      const [problem, ...more] = problemsIn({ ...production, clients: [client] })
      assert.deepEqual(more, [])
      assert.match(problem!, new RegExp(`^clients\\[0\\]\\.${name} must be left out: this server does not encrypt`))

      for (const engine of engines) {
        const { register, send } = await opened(t, open, engine)
        for (const mode of ['poll', 'ping', 'push']) {
          const endpoint = mode !== 'poll' && { backchannel_client_notification_endpoint: 'http://localhost:9/n' }
          const refused = await register({ ...poll, ...endpoint, backchannel_token_delivery_mode: mode, [name]: value })
          assert.deepEqual([refused.status, refused.body.error], [400, 'invalid_client_metadata'], refused.text)
          assert.match(String(refused.body.error_description), new RegExp(`^${name} must be left out`))
        }
        const { body: made } = await register({ ...poll, [name]: null })
        const again = { ...poll, client_id: made.client_id, [name]: value }
        const replaced = await send(
          'PUT',
          String(made.registration_client_uri),
          again,
          String(made.registration_access_token),
        )
        assert.equal(replaced.status, 400, replaced.text)
      }
    })
  }

  test('other unknown members of a registration are ignored (DR-4)', async (t) => {
    const { stage, register } = await opened(t)
    const { status, body } = await register({ ...poll, request_object_encryption_alg: 'RSA-OAEP', software_id: 'x' })
    assert.equal(status, 201)
    assert.ok(!('request_object_encryption_alg' in body) && !('software_id' in body), 'and the response shows it')
    assert.deepEqual(warningsOf(stage), [])
  })
})

function warningsOf(stage: Stage): string[] {
  const lines = stage.logLines.map((line) => JSON.parse(line) as Record<string, string>)
  return lines.filter(({ event }) => event === 'config.unused_member').map(({ msg }) => msg!)
}
