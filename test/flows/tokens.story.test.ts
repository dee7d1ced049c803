/**
 * What a client may do with its CIBA tokens, and other clients may not: refresh, revocation, introspection (RFC 6749,
 * 7009, 7662).
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decodeJwt } from 'jose'
import { engines } from '../support/engines.ts'
import { type Answer, CIBA, credentials, openStage, type RingingClient, type Stage } from '../support/stage.ts'

async function tokensOf(stage: Stage, scope = 'openid email offline_access') {
  const { auth_req_id } = (await stage.ring('kiosk', { scope })).body
  await stage.decide(await stage.newestRequest(), 'approved')
  return (await stage.poll('kiosk', auth_req_id)).body as Record<string, string>
}

function calls(stage: Stage) {
  const post = (path: string, form: Record<string, string>, as: RingingClient | 'none' = 'kiosk') =>
    stage.post(path, form, as === 'none' ? undefined : credentials[as])
  return {
    refresh: (refresh_token: string, more = {}, as?: RingingClient | 'none') =>
      post('/oauth/token', { grant_type: 'refresh_token', refresh_token, ...more }, as),
    revoke: (form: Record<string, string>, as?: RingingClient | 'none') => post('/oauth/revoke', form, as),
    introspect: (form: Record<string, string>, as?: RingingClient | 'none') => post('/oauth/introspect', form, as),
  }
}

function assertRefused({ status, body, headers, text }: Answer, error: string, expected = 400) {
  assert.deepEqual([status, body.error], [expected, error], text)
  assert.deepEqual(
    Object.keys(body).filter((name) => !['error', 'error_description', 'error_uri', 'scope'].includes(name)),
    [],
    'ER-3',
  )
  assert.match(String(headers.get('cache-control')), /no-store/, 'ER-2')
}

for (const engine of engines) {
  describe(`tokens issued by CIBA, on ${engine.name}`, () => {
    test('are refreshed by their client, for no more than was approved (RT-1, RT-2, RT-3, ER-2, ER-5, ER-6)', async (t) => {
      const stage = await openStage(t, { engine })
      const { refresh } = calls(stage)
      const first = await tokensOf(stage)
      assertRefused(await refresh(first.refresh_token!, {}, 'northbank'), 'invalid_grant')
      assertRefused(await refresh(first.refresh_token!, {}, 'none'), 'invalid_client', 401)
      assertRefused(await refresh('made-up'), 'invalid_grant')
      assertRefused(await refresh(first.access_token!), 'invalid_grant')
      assertRefused(await refresh(first.refresh_token!, { scope: 'openid email phone' }), 'invalid_scope')

      const fewer = await refresh(first.refresh_token!, { scope: 'email openid' })
      assert.deepEqual([fewer.status, fewer.body.token_type, typeof fewer.body.expires_in], [200, 'Bearer', 'number'])
      assert.deepEqual(String(fewer.body.scope).split(' ').sort(), ['email', 'openid'])
      assert.match(String(fewer.headers.get('cache-control')), /no-store/)
      const [before, after] = [decodeJwt(first.id_token!), decodeJwt(String(fewer.body.id_token))]
      for (const claim of ['iss', 'sub', 'aud', 'auth_time']) assert.deepEqual(after[claim], before[claim], claim)
      assert.ok(!('nonce' in after))
      const whole = await refresh(first.refresh_token!)
      assert.ok(String(whole.body.scope).includes('offline_access'), 'it keeps the whole scope (RT-5)')
    })

    test('are revoked by their client alone, with any token_type_hint (RV-1 – RV-5)', async (t) => {
      const stage = await openStage(t, { engine })
      const { refresh, revoke, introspect } = calls(stage)
      const { access_token: access = '', refresh_token: refreshing = '' } = await tokensOf(stage)
      const isActive = async (token: string) => (await introspect({ token })).body.active

      assertRefused(await revoke({}), 'invalid_request')
      assertRefused(await revoke({ token: access }, 'none'), 'invalid_client', 401)
      for (const [token, as] of [
        [access, 'northbank'],
        [refreshing, 'till'],
        ['made-up', 'kiosk'],
      ] as const) {
        assert.deepEqual([(await revoke({ token }, as)).status, await isActive(access)], [200, true])
      }
      assert.equal((await refresh(refreshing)).status, 200)
      const get = await stage.get(`/oauth/revoke?token=${access}`, { authorization: credentials.kiosk })
      assert.deepEqual([get.status, await isActive(access)], [405, true])

      assert.equal((await revoke({ token: access, token_type_hint: 'refresh_token' })).status, 200)
      assert.equal(await isActive(access), false)
      const { access_token: second } = (await refresh(refreshing)).body as Record<string, string>
      assert.equal((await revoke({ token: refreshing, token_type_hint: 'nonsense' })).status, 200)
      assertRefused(await refresh(refreshing), 'invalid_grant')
      assert.equal(await isActive(second!), false, 'and what was refreshed with it (RV-3)')
      const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${second}` })
      assert.equal(userinfo.status, 401)
    })

    test('are introspected by their client; to others they look unknown (IN-1 – IN-4, IN-6)', async (t) => {
      const stage = await openStage(t, { engine })
      const { introspect } = calls(stage)
      const { access_token: token = '' } = await tokensOf(stage)
      assertRefused(await introspect({ token }, 'none'), 'invalid_client', 401)
      assertRefused(await introspect({}), 'invalid_request')
      const { body, headers } = await introspect({ token, token_type_hint: 'nonsense' })
      assert.partialDeepStrictEqual(body, { active: true, client_id: 'kiosk', token_type: 'Bearer', iss: stage.url })
      for (const member of ['sub', 'exp', 'iat', 'scope']) assert.ok(member in body, member)
      assert.match(String(headers.get('cache-control')), /no-store/)
      for (const [form, as] of [
        [{ token }, 'northbank'],
        [{ token: 'made-up' }, 'kiosk'],
      ] as const) {
        assert.deepEqual((await introspect(form, as)).body, { active: false })
      }
    })
  })
}

test('userinfo gives no error code without a token, and the reason with an invalid one (ER-7)', async (t) => {
  const stage = await openStage(t)
  const bare = await stage.get('/oauth/userinfo')
  assert.equal(bare.status, 401)
  assert.match(String(bare.headers.get('www-authenticate')), /^Bearer/)
  assert.doesNotMatch(String(bare.headers.get('www-authenticate')), /error=/)
  const wrong = await stage.get('/oauth/userinfo', { authorization: 'Bearer made-up' })
  assert.equal(wrong.status, 401)
  assert.match(String(wrong.headers.get('www-authenticate')), /error="invalid_token"/)
})

test('the token endpoint supports no password grant, no other method, and no repeated parameter (BP-5, ER-1)', async (t) => {
  const stage = await openStage(t)
  for (const grant_type of ['password', 'client_credentials', 'implicit', '', CIBA.toUpperCase()]) {
    const { status, body } = await stage.post(
      '/oauth/token',
      { grant_type, username: 'ana', password: 'x' },
      credentials.kiosk,
    )
    assert.ok(status === 400 && ['unsupported_grant_type', 'invalid_request'].includes(String(body.error)), grant_type)
  }
  assert.equal((await stage.get('/oauth/token')).status, 405)
  const twice = new URLSearchParams({ grant_type: CIBA, auth_req_id: 'x' })
  twice.append('auth_req_id', 'y')
  assertRefused(await stage.post('/oauth/token', twice, credentials.kiosk), 'invalid_request')
})

test('a client cannot have the id of a user: at registration its id is generated (BP-4)', async (t) => {
  const stage = await openStage(t, { config: { registration: { mode: 'open' } } })
  const response = await fetch(`${stage.url}/oauth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_id: 'user-ana', grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' }),
  })
  const { client_id } = (await response.json()) as { client_id: string }
  assert.equal(response.status, 201)
  assert.notEqual(client_id, 'user-ana')
})
