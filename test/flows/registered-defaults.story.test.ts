/**
 * The response to a registration contains every value in force, and tokens are issued with these values (RFC 7591
 * §3.2.1).
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import * as openid from 'openid-client'
import { engines } from '../support/engines.ts'
import { collect } from '../support/foreign-client.ts'
import { basic, CIBA, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { open, opened, poll } from './registration-calls.ts'

/** A registration as Python's `json.dumps` writes it, with null for what is not set. */
const sentByPython =
  '{"client_name": "Trolley", "redirect_uris": [], "grant_types": ["urn:openid:params:grant-type:ciba"], ' +
  '"scope": "openid email", "token_endpoint_auth_method": "client_secret_basic", "id_token_signed_response_alg": null, ' +
  '"backchannel_token_delivery_mode": "poll"}'

const variants: [name: string, body: unknown, alg: string][] = [
  ['no algorithm: the default of the standard', poll, 'RS256'],
  ['null, which counts as no algorithm', { ...poll, id_token_signed_response_alg: null }, 'RS256'],
  ['ES256', { ...poll, id_token_signed_response_alg: 'ES256' }, 'ES256'],
  ['PS256', { ...poll, id_token_signed_response_alg: 'PS256' }, 'PS256'],
  ['RS256', { ...poll, id_token_signed_response_alg: 'RS256' }, 'RS256'],
  ['the bytes of a client in Python', sentByPython, 'RS256'],
]

for (const engine of engines) {
  describe(`the algorithm of ID tokens is the one that the registration names, on ${engine.name}`, () => {
    for (const [name, sent, alg] of variants) {
      test(name, async (t) => {
        const { stage, register, send } = await opened(t, open, engine)
        const { status, body, text } = await register(sent)
        assert.equal(status, 201, text)
        const [uri, token] = [String(body.registration_client_uri), String(body.registration_access_token)]
        const credentials = basic(String(body.client_id), String(body.client_secret))
        assert.deepEqual([body.id_token_signed_response_alg, await algOfTokens(stage, credentials)], [alg, alg])

        const read = await send('GET', uri, undefined, token)
        assert.deepEqual(metadataIn(read.body), metadataIn(body), 'GET names the same values')
        const replaced = await send('PUT', uri, metadataIn(body), token)
        assert.equal(replaced.status, 200, `a client may send what it was told: ${replaced.text}`)
        assert.deepEqual(metadataIn(replaced.body), metadataIn(body), 'PUT names the same values')
        assert.equal(await algOfTokens(stage, credentials), alg)
      })
    }

    test('openid-client registers with its own defaults and accepts the tokens', async (t) => {
      const { stage } = await opened(t, open, engine)
      const options = { execute: [openid.allowInsecureRequests, openid.enableNonRepudiationChecks] }
      const client = await openid.dynamicClientRegistration(
        new URL(stage.url),
        { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' },
        openid.ClientSecretBasic(),
        options,
      )
      const asked = await openid.initiateBackchannelAuthentication(client, { scope: 'openid', login_hint: 'ana' })
      await stage.decide(await stage.newestRequest(), 'approved')
      const { id_token } = await collect(client, asked)
      assert.equal(decodeProtectedHeader(String(id_token)).alg, 'RS256')
    })

    test('a client of an earlier version, stored without an algorithm, keeps that of the deployment, and is told', async (t) => {
      const { stage, register, send } = await opened(t, open, engine)
      const { body } = await register(poll)
      const id = String(body.client_id)
      const [row] = await rowsOf(stage, 'select metadata from clients where id = $1', [id])
      const { id_token_signed_response_alg: _, ...before } = JSON.parse(String(row!.metadata)) as Record<
        string,
        unknown
      >
      await rowsOf(stage, 'update clients set metadata = $2 where id = $1 returning id', [id, JSON.stringify(before)])
      await stage.restart()
      const [uri, token] = [String(body.registration_client_uri), String(body.registration_access_token)]
      const read = await send('GET', uri, undefined, token)
      assert.equal(read.body.id_token_signed_response_alg, 'ES256')
      assert.equal(await algOfTokens(stage, basic(id, String(body.client_secret))), 'ES256')
      const replaced = await send('PUT', uri, { ...poll, client_id: id }, token)
      assert.equal(replaced.body.id_token_signed_response_alg, 'RS256', 'a replacement without it gets the default')
    })
  })
}

test('the response names every value that the client did not send', async (t) => {
  const { register } = await opened(t)
  const { body } = await register({ ...poll, scope: null, subject_type: null })
  assert.partialDeepStrictEqual(body, {
    scope: 'openid profile email phone offline_access',
    application_type: 'web',
    subject_type: 'public',
    require_auth_time: false,
    dpop_bound_access_tokens: false,
    tls_client_certificate_bound_access_tokens: false,
    backchannel_user_code_parameter: true,
    backchannel_require_passkey: false,
    backchannel_allowed_hints: ['login_hint', 'id_token_hint', 'login_hint_token'],
  })
  const signIn = await register({ redirect_uris: ['https://app.example/callback'] })
  assert.equal(signIn.status, 201, signIn.text)
  assert.deepEqual([signIn.body.grant_types, signIn.body.response_types], [['authorization_code'], ['code']])
  assert.ok(!Object.keys(signIn.body).some((name) => name.startsWith('backchannel_')), signIn.text)
})

/** Resolves to the algorithm of an ID token of the client, after its signature was verified. */
async function algOfTokens(stage: Stage, credentials: string): Promise<string> {
  stage.clock.advance(6000)
  const asked = await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, credentials)
  assert.equal(asked.status, 200, asked.text)
  await stage.decide(await stage.newestRequest(), 'approved')
  const form = { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) }
  const { body, text } = await stage.post('/oauth/token', form, credentials)
  const keys = createRemoteJWKSet(new URL(`${stage.url}/oauth/jwks`))
  const options = { issuer: stage.url, currentDate: new Date(stage.clock.now()) }
  const { protectedHeader } = await jwtVerify(String(body.id_token ?? text), keys, options)
  return protectedHeader.alg
}

/** Returns the metadata without the members that only a response contains. */
function metadataIn(body: Record<string, unknown>): Record<string, unknown> {
  const {
    client_secret: _,
    client_secret_expires_at: __,
    client_id_issued_at: ___,
    registration_access_token: ____,
    registration_client_uri: _____,
    ...metadata
  } = body
  return metadata
}
