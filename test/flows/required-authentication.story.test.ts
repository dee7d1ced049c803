/**
 * Clients that require to know when the user was authenticated (`require_auth_time`, `default_max_age`, essential claims):
 * an approval that cannot satisfy them is refused before anything is used up, and tokens satisfy them.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import * as openid from 'openid-client'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { OAuthError } from '../../src/platform/oauth-error.ts'
import { type Engine, engines } from '../support/engines.ts'
import { discover } from '../support/foreign-client.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

const secret = newSecret()
const auth = basic('bank', secret)

async function scene(t: TestContext, metadata: Partial<ClientMetadataInput>, engine?: Engine): Promise<Stage> {
  const bank: ClientMetadataInput = {
    client_id: 'bank',
    client_secret: secret,
    client_name: 'Bank',
    grant_types: [CIBA, 'refresh_token'],
    backchannel_token_delivery_mode: 'poll',
    ...metadata,
  }
  return openStage(t, { ...(engine && { engine }), config: { clients: [bank] } })
}

async function asked(stage: Stage, more: Record<string, string> = {}) {
  stage.clock.advance(1)
  const form = { scope: 'openid offline_access', login_hint: 'ana', ...more }
  const { status, body, text } = await stage.post('/backchannel/authorize', form, auth)
  assert.equal(status, 200, text)
  return { authReqId: String(body.auth_req_id), requestId: await stage.newestRequest() }
}

const collect = (stage: Stage, auth_req_id: string) =>
  stage.post('/oauth/token', { grant_type: CIBA, auth_req_id }, auth)
const inSeconds = (stage: Stage, seconds: number) => Math.floor(stage.clock.now() / 1000) + seconds
const essential = (claims: object) => JSON.stringify({ id_token: claims })

/** What a device service says when it approves, and the seconds of its `auth_time` from now. */
interface Said {
  auth_time?: number
  acr?: string
}

describe('a device service approves', () => {
  const variants: [
    string,
    Partial<ClientMetadataInput>,
    parameters: Record<string, string>,
    refused: Said[],
    accepted: Said,
  ][] = [
    ['require_auth_time', { require_auth_time: true }, {}, [{}, { acr: 'x' }], { auth_time: -1_000_000 }],
    ['default_max_age', { default_max_age: 3600 }, {}, [{}, { auth_time: -3700 }], { auth_time: -3500 }],
    ['default_max_age 0', { default_max_age: 0 }, {}, [{}, { auth_time: -60 }], { auth_time: 0 }],
    ['a time in the future', { default_max_age: 60 }, {}, [{ auth_time: 60 }], { auth_time: 0 }],
    ['an essential auth_time', {}, { claims: essential({ auth_time: { essential: true } }) }, [{}], { auth_time: -9 }],
    [
      'an essential acr',
      {},
      { claims: essential({ acr: { essential: true, values: ['gold', 'silver'] } }) },
      [{}, { acr: 'bronze' }, { acr: 'gold silver' }],
      { acr: 'silver' },
    ],
    [
      'all of them',
      { require_auth_time: true, default_max_age: 60 },
      { claims: essential({ acr: { essential: true, value: 'gold' } }) },
      [{ acr: 'gold' }, { auth_time: -9 }, { auth_time: -70, acr: 'gold' }],
      { auth_time: -50, acr: 'gold' },
    ],
  ]
  for (const [index, [name, metadata, parameters, refused, accepted]] of variants.entries()) {
    const engine = engines[index % engines.length]!
    test(`${name}: refused without it, and nothing is used up, on ${engine.name}`, async (t) => {
      const stage = await scene(t, metadata, engine)
      const { authReqId, requestId } = await asked(stage, parameters)
      const formOf = ({ auth_time, acr }: Said) => ({
        ...(auth_time !== undefined && { auth_time: String(inSeconds(stage, auth_time)) }),
        ...(acr !== undefined && { acr }),
      })
      for (const said of refused) {
        const { status, body } = await stage.decide(requestId, 'approved', formOf(said))
        assert.deepEqual([status, body.error], [403, 'insufficient_user_authentication'], JSON.stringify(said))
        assert.equal((await collect(stage, authReqId)).body.error, 'authorization_pending')
        stage.clock.advance(30_000)
      }
      const sent = formOf(accepted)
      const decided = await stage.decide(requestId, 'approved', sent)
      assert.equal(decided.status, 200, decided.text)
      const { body } = await collect(stage, authReqId)
      const again = await stage.post(
        '/oauth/token',
        { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) },
        auth,
      )
      for (const { id_token } of [body, again.body]) {
        const claims = decodeJwt(String(id_token))
        assert.deepEqual([claims.auth_time, claims.acr], [sent.auth_time && Number(sent.auth_time), sent.acr])
      }
    })
  }

  test('a denial needs nothing, and neither does a client that requires nothing', async (t) => {
    const strict = await scene(t, { require_auth_time: true, default_max_age: 0 })
    assert.equal((await strict.decide((await asked(strict)).requestId, 'denied')).status, 200)
    const plain = await scene(t, { require_auth_time: false })
    const voluntary = { claims: essential({ auth_time: null, acr: { values: ['gold'] } }) }
    assert.equal((await plain.decide((await asked(plain, voluntary)).requestId, 'approved')).status, 200)
  })

  test('an authentication after the request is never too old', async (t) => {
    const stage = await scene(t, { default_max_age: 10 })
    const { authReqId, requestId } = await asked(stage)
    const auth_time = String(inSeconds(stage, 1))
    stage.clock.advance(120_000)
    assert.equal((await stage.decide(requestId, 'approved', { auth_time })).status, 200)
    assert.equal(decodeJwt(String((await collect(stage, authReqId)).body.id_token)).auth_time, Number(auth_time))
  })
})

test('openid-client with require_auth_time and default_max_age accepts the tokens', async (t) => {
  const metadata = { require_auth_time: true, default_max_age: 3600 }
  const stage = await scene(t, metadata)
  const client = await discover(stage, 'bank', openid.ClientSecretBasic(secret), metadata)
  const response = await openid.initiateBackchannelAuthentication(client, { scope: 'openid', login_hint: 'ana' })
  const requestId = await stage.newestRequest()
  assert.equal((await stage.decide(requestId, 'approved')).status, 403)
  const auth_time = inSeconds(stage, -60)
  assert.equal((await stage.decide(requestId, 'approved', { auth_time: String(auth_time) })).status, 200)
  const tokens = await openid.pollBackchannelAuthenticationGrant(client, { ...response, interval: 0 })
  assert.equal(tokens.claims()!.auth_time, auth_time)
})

test('an application that approves in its own process gets the error, and nothing is approved', async (t) => {
  const stage = await scene(t, { default_max_age: 60 })
  const { authReqId, requestId } = await asked(stage)
  const { requests } = stage.doorbell
  for (const authentication of [undefined, {}, { acr: 'x' }, { authTime: inSeconds(stage, -70) }]) {
    await assert.rejects(
      requests.approve(requestId, ana.id, authentication),
      (error) => error instanceof OAuthError && error.code === 'insufficient_user_authentication',
    )
  }
  assert.deepEqual(await requests.approve(requestId, 'user-ben'), { kind: 'unknown' })
  assert.equal((await requests.approve(requestId, ana.id, { authTime: inSeconds(stage, -50) })).kind, 'settled')
  assert.equal((await requests.approve(requestId, ana.id)).kind, 'already decided')
  assert.equal((await collect(stage, authReqId)).status, 200)
})

describe('a user whose sign-in is too old', () => {
  const tooOld = 310_000

  test('is told which sign-in is needed, in the device API (RFC 9470)', async (t) => {
    const stage = await scene(t, { default_max_age: 300 })
    const authorization = await bearerOf(stage)
    stage.clock.advance(tooOld)
    const { authReqId, requestId } = await asked(stage)
    const shown = await stage.get(`/backchannel/authinfo?request_id=${requestId}`, { authorization })
    const [request] = shown.body.requests as Record<string, unknown>[]
    assert.deepEqual(request!.sign_in_needed, { max_age: 300 })
    const form = { request_id: requestId, status: 'approved' }
    const { status, body, headers } = await stage.post('/backchannel/complete', form, authorization)
    assert.deepEqual([status, body.error, body.max_age], [401, 'insufficient_user_authentication', 300])
    assert.equal(
      headers.get('www-authenticate'),
      'Bearer realm="doorbell", error="insufficient_user_authentication", max_age="300"',
    )
    assert.equal((await collect(stage, authReqId)).body.error, 'authorization_pending')
    const plain = await stage.ring('kiosk')
    assert.equal(plain.status, 200)
    const other = await stage.get(`/backchannel/authinfo?request_id=${await stage.newestRequest()}`, { authorization })
    assert.ok(!('sign_in_needed' in (other.body.requests as object[])[0]!))
  })

  test('signs in again on the page, and approves', async (t) => {
    const stage = await scene(t, { default_max_age: 300 })
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    stage.clock.advance(tooOld)
    const { authReqId, requestId } = await asked(stage)
    const path = `/approve/${requestId}`
    const page = await visitor.get(path)
    assert.ok(page.text.includes('To approve it, sign in again.'), page.text)
    assert.ok(!page.text.includes('value="approve"'))
    assert.ok(page.text.includes('value="deny"'), 'denying needs no sign-in')
    const forced = await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve' })
    assert.deepEqual([forced.status, forced.location], [303, path])
    assert.equal((await collect(stage, authReqId)).body.error, 'authorization_pending')

    // oidc-provider takes the time of a sign-in from the real clock.
    stage.clock.advance(-tooOld)
    const [, again] = /href="(\/session\/start[^"]*again=yes)"/.exec(page.text.replaceAll('&amp;', '&'))!
    const next = await visitor.signIn(ana, again)
    assert.ok(next.text.includes('value="approve"'), next.text)
    const done = await visitor.post(path, { form_token: formTokenOn(next), decision: 'approve' })
    assert.equal(done.location, `${path}?just=approve`)
    stage.clock.advance(6000)
    assert.equal(typeof decodeJwt(String((await collect(stage, authReqId)).body.id_token)).auth_time, 'number')
  })
})
