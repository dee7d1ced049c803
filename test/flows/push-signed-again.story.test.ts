/**
 * A signing key is revoked while a push waits for its next attempt. The client gets tokens that it can verify (PU-4,
 * PU-11).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair, jwtVerify } from 'jose'
import type { ConfigInput } from '../../src/config/config.ts'
import { keyTimesOf, revokeKey, rotateKey } from '../../src/openid-provider/signing-keys/key-rotation.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { rotateAt, untilNoticed } from '../support/rotating-keys.ts'
import { basic, newNotificationToken, openStage, type Stage } from '../support/stage.ts'

const api = 'https://api.example.com'
const times = keyTimesOf({
  keys: { publishAhead: 3600, keepForHints: 3600 },
  tokens: { idTtl: 3600, accessTtl: 600 },
})

for (const engine of engines) {
  describe(`a push after the key that signed it was revoked, on ${engine.name}`, () => {
    for (const algorithm of ['ES256', 'RS256', 'PS256'] as const) {
      test(`${algorithm}: the ID token is signed again, and has the same claims`, async (t) => {
        const { stage, endpoint } = await pushedInVain(t, engine, { id_token_signed_response_alg: algorithm })
        await revokeKeyOf(stage, String(endpoint.heard[0]!.body.id_token))
        await nextAttempt(stage)
        await endpoint.hears(2)
        const [before, after] = endpoint.heard.map(({ body }) => body as Record<string, string>)
        assert.notEqual(before!.id_token, after!.id_token)
        assert.deepEqual({ ...before, id_token: '' }, { ...after, id_token: '' })
        assert.deepEqual(decodeJwt(before!.id_token!), decodeJwt(after!.id_token!))
        const { protectedHeader } = await verify(stage, after!.id_token!, 'shop')
        assert.equal(protectedHeader.alg, algorithm)
        const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${after!.access_token}` })
        assert.equal(userinfo.status, 200)
      })
    }

    test('a JWT access token is signed again too, with its hash in the ID token', async (t) => {
      const config = { resources: { [api]: { accessTokenFormat: 'jwt' as const } } }
      const { stage, endpoint } = await pushedInVain(t, engine, {}, { config, asked: { resource: api } })
      await revokeKeyOf(stage, String(endpoint.heard[0]!.body.access_token))
      await nextAttempt(stage)
      await endpoint.hears(2)
      const [before, after] = endpoint.heard.map(({ body }) => body as Record<string, string>)
      const { payload } = await verify(stage, after!.access_token!, api)
      assert.deepEqual(payload, decodeJwt(before!.access_token!))
      const id = await verify(stage, after!.id_token!, 'shop')
      assert.notEqual(id.payload.at_hash, decodeJwt(before!.id_token!).at_hash)
    })

    test('further attempts send what was signed again, byte for byte', async (t) => {
      const { stage, endpoint } = await pushedInVain(t, engine)
      endpoint.behaves(later, 204)
      await revokeKeyOf(stage, String(endpoint.heard[0]!.body.id_token))
      await nextAttempt(stage)
      await endpoint.hears(2)
      await nextAttempt(stage)
      await endpoint.hears(3)
      assert.equal(endpoint.heard[1]!.text, endpoint.heard[2]!.text)
    })

    test('after a rotation without revocation, the body stays as it was', async (t) => {
      const { stage, endpoint } = await pushedInVain(t, engine)
      const { next } = await rotateAt(stage, times, (needs) => rotateKey('ES256', { atOnce: true }, needs))
      await untilNoticed(stage, () => isPublished(stage, next.kid))
      await nextAttempt(stage)
      await endpoint.hears(2)
      assert.equal(endpoint.heard[0]!.text, endpoint.heard[1]!.text)
    })

    test("the operator's own keys sign, and the body stays as it was", async (t) => {
      const pair = await generateKeyPair('ES256', { extractable: true })
      const own = { ...(await exportJWK(pair.privateKey)), kid: 'our own', use: 'sig', alg: 'ES256' }
      const { stage, endpoint } = await pushedInVain(t, engine, {}, { config: { oidc: { jwks: { keys: [own] } } } })
      await nextAttempt(stage)
      await endpoint.hears(2)
      assert.equal(endpoint.heard[0]!.text, endpoint.heard[1]!.text)
      await verify(stage, String(endpoint.heard[1]!.body.id_token), 'shop')
    })
  })
}

const later = { status: 503, headers: { 'retry-after': '60' } }

/** Shop sends a request, Ana approves it, and the first push is answered with 503. */
async function pushedInVain(
  t: TestContext,
  engine: Engine,
  metadata: object = {},
  { config = {}, asked = {} }: { config?: ConfigInput; asked?: Record<string, string> } = {},
) {
  const endpoint = await openNotificationEndpoint(t)
  endpoint.behaves(later, 204)
  const shop = {
    client_id: 'shop',
    client_secret: newNotificationToken(),
    grant_types: ['refresh_token' as const],
    backchannel_token_delivery_mode: 'push' as const,
    backchannel_client_notification_endpoint: endpoint.url,
    ...metadata,
  }
  const stage = await openStage(t, { engine, config: { ...config, clients: [shop] } })
  const form = { scope: 'openid offline_access', login_hint: 'ana', client_notification_token: newNotificationToken() }
  const answer = await stage.post('/backchannel/authorize', { ...form, ...asked }, basic('shop', shop.client_secret))
  assert.equal(answer.status, 200, answer.text)
  await stage.decide(await stage.newestRequest(), 'approved')
  await endpoint.hears(1)
  await stage.doorbell.idle()
  return { stage, endpoint }
}

async function revokeKeyOf(stage: Stage, token: string): Promise<void> {
  const { kid } = decodeProtectedHeader(token)
  const rotation = await rotateAt(stage, times, (needs) => revokeKey(kid!, needs))
  await untilNoticed(stage, () => isPublished(stage, rotation!.next.kid))
}

async function isPublished(stage: Stage, kid: string): Promise<boolean> {
  const { body } = await stage.get('/oauth/jwks')
  return (body.keys as { kid: string }[]).some((key) => key.kid === kid)
}

async function nextAttempt(stage: Stage): Promise<void> {
  stage.clock.advance(61_000)
  await stage.doorbell.idle()
}

function verify(stage: Stage, token: string, audience: string) {
  const keys = createRemoteJWKSet(new URL(`${stage.url}/oauth/jwks`))
  return jwtVerify(token, keys, { issuer: stage.url, audience })
}
