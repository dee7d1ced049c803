/**
 * Clients that require to know when the user was authenticated (`require_auth_time`, `default_max_age`, essential
 * claims). An approval without this information is refused before it has any effect. The tokens contain the
 * information.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { decodeJwt } from 'jose'
import * as openid from 'openid-client'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { OAuthError } from '../../src/platform/oauth-error.ts'
import { PASSKEY_ACR } from '../../src/user/passkey/passkey-strength.ts'
import type { RequestOptions } from '../support/authenticator.ts'
import { type Engine, engines } from '../support/engines.ts'
import { discover } from '../support/foreign-client.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, basic, CIBA, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openForSuite } from '../support/teardown.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'
import { added, passkeys } from './passkeys.ts'

const secret = newSecret()
/** Milliseconds after which a sign-in is too old for `default_max_age: 300`. */
const tooOld = 310_000
const auth = basic('bank', secret)

function bankOf(metadata: Partial<ClientMetadataInput>): ClientMetadataInput {
  return {
    client_id: 'bank',
    client_secret: secret,
    client_name: 'Bank',
    grant_types: [CIBA, 'refresh_token'],
    backchannel_token_delivery_mode: 'poll',
    ...metadata,
  }
}

function scene(t: TestContext, engine: Engine, metadata: Partial<ClientMetadataInput>, config: ConfigInput = {}) {
  return openStage(t, { engine, config: { ...config, clients: [bankOf(metadata)] } })
}

async function asked(stage: Stage, more: Record<string, string> = {}, as = auth) {
  stage.clock.advance(1)
  const form = { scope: 'openid offline_access', login_hint: 'ana', ...more }
  const { status, body, text } = await stage.post('/backchannel/authorize', form, as)
  assert.equal(status, 200, text)
  return { authReqId: String(body.auth_req_id), requestId: await stage.newestRequest() }
}

const collect = (stage: Stage, auth_req_id: string, as = auth) =>
  stage.post('/oauth/token', { grant_type: CIBA, auth_req_id }, as)
/** The client of a variant. */
const idOf = (variant: string) => variant.replaceAll(' ', '-')
const inSeconds = (stage: Stage, seconds: number) => Math.floor(stage.clock.now() / 1000) + seconds
const essential = (claims: object) => JSON.stringify({ id_token: claims })

/** The values that a device service sends with an approval. `auth_time` is in seconds from now. */
interface Said {
  auth_time?: number
  acr?: string
}

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

for (const engine of engines) {
  describe(`a device service approves, on ${engine.name}`, () => {
    const it = openForSuite((t) => {
      const clients = variants.map(([name, metadata]) => bankOf({ client_id: idOf(name), ...metadata }))
      return openStage(t, { engine, config: { clients } })
    })

    for (const [name, , parameters, refused, accepted] of variants) {
      test(`${name}: refused without it, and nothing is used up`, async () => {
        const stage = it()
        const as = basic(idOf(name), secret)
        const { authReqId, requestId } = await asked(stage, parameters, as)
        const formOf = ({ auth_time, acr }: Said) => ({
          ...(auth_time !== undefined && { auth_time: String(inSeconds(stage, auth_time)) }),
          ...(acr !== undefined && { acr }),
        })
        for (const said of refused) {
          const { status, body } = await stage.decide(requestId, 'approved', formOf(said))
          assert.deepEqual([status, body.error], [403, 'insufficient_user_authentication'], JSON.stringify(said))
          assert.equal((await collect(stage, authReqId, as)).body.error, 'authorization_pending')
          stage.clock.advance(30_000)
        }
        const sent = formOf(accepted)
        const decided = await stage.decide(requestId, 'approved', sent)
        assert.equal(decided.status, 200, decided.text)
        const { body } = await collect(stage, authReqId, as)
        const refresh = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
        const again = await stage.post('/oauth/token', refresh, as)
        for (const { id_token } of [body, again.body]) {
          const claims = decodeJwt(String(id_token))
          assert.deepEqual([claims.auth_time, claims.acr], [sent.auth_time && Number(sent.auth_time), sent.acr])
        }
      })
    }

    test('a denial needs nothing, and neither does a client that requires nothing', async (t) => {
      const strict = basic(idOf('default_max_age 0'), secret)
      assert.equal((await it().decide((await asked(it(), {}, strict)).requestId, 'denied')).status, 200)
      const plain = await scene(t, engine, { require_auth_time: false })
      const voluntary = { claims: essential({ auth_time: null, acr: { values: ['gold'] } }) }
      assert.equal((await plain.decide((await asked(plain, voluntary)).requestId, 'approved')).status, 200)
    })

    test('an authentication after the request is never too old', async () => {
      const stage = it()
      const as = basic(idOf('a time in the future'), secret)
      const { authReqId, requestId } = await asked(stage, {}, as)
      const auth_time = String(inSeconds(stage, 1))
      stage.clock.advance(120_000)
      assert.equal((await stage.decide(requestId, 'approved', { auth_time })).status, 200)
      assert.equal(decodeJwt(String((await collect(stage, authReqId, as)).body.id_token)).auth_time, Number(auth_time))
    })
  })

  test(`openid-client with require_auth_time and default_max_age accepts the tokens, on ${engine.name}`, async (t) => {
    const metadata = { require_auth_time: true, default_max_age: 3600 }
    const stage = await scene(t, engine, metadata)
    const client = await discover(stage, 'bank', openid.ClientSecretBasic(secret), metadata)
    const response = await openid.initiateBackchannelAuthentication(client, { scope: 'openid', login_hint: 'ana' })
    const requestId = await stage.newestRequest()
    assert.equal((await stage.decide(requestId, 'approved')).status, 403)
    const auth_time = inSeconds(stage, -60)
    assert.equal((await stage.decide(requestId, 'approved', { auth_time: String(auth_time) })).status, 200)
    const tokens = await openid.pollBackchannelAuthenticationGrant(client, { ...response, interval: 0 })
    assert.equal(tokens.claims()!.auth_time, auth_time)
  })

  test(`an application that approves in its own process gets the error, and nothing is approved, on ${engine.name}`, async (t) => {
    const stage = await scene(t, engine, { default_max_age: 60 })
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

  describe(`a user whose sign-in is too old, on ${engine.name}`, () => {
    test('is told which sign-in is needed, in the device API (RFC 9470)', async (t) => {
      const stage = await scene(t, engine, { default_max_age: 300 })
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
      const other = await stage.get(`/backchannel/authinfo?request_id=${await stage.newestRequest()}`, {
        authorization,
      })
      assert.ok(!('sign_in_needed' in (other.body.requests as object[])[0]!))
    })

    test('signs in again on the page, and approves', async (t) => {
      const stage = await scene(t, engine, { default_max_age: 300 })
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

  describe(`a refusal uses up neither a number nor a passkey, on ${engine.name}`, () => {
    const numbers = { requests: { numberMatching: true } } as const
    const phr = { claims: essential({ acr: { essential: true, value: PASSKEY_ACR } }) }
    const gold = { claims: essential({ acr: { essential: true, value: 'gold' } }) }

    const needs: [string, Partial<ClientMetadataInput>, Record<string, string>, refused: object][] = [
      ['the sign-in is too old', { default_max_age: 300 }, {}, insufficient({ max_age: 300 })],
      ['the sign-in has another acr', {}, phr, { status: 403, error: 'access_denied', passkey_required: true }],
    ]
    for (const [name, metadata, parameters, refused] of needs) {
      test(`${name}: afterwards, the same number and the challenge of before are accepted`, async (t) => {
        const stage = await scene(t, engine, metadata, numbers)
        const bearer = await bearerOf(stage)
        const authenticator = await added(stage, bearer)
        stage.clock.advance(tooOld)
        const { authReqId, requestId } = await asked(stage, { binding_message: '47', ...parameters })
        const { number_choices } = await shownTo(stage, bearer, requestId)
        const passkey = authenticator.get(await challenge(stage, bearer, requestId))
        assert.deepEqual(await refusal(stage, bearer, { request_id: requestId, number: '47' }), refused)

        const shown = await shownTo(stage, bearer, requestId)
        assert.deepEqual([shown.status, shown.number_choices], ['pending', number_choices])
        const approved = await approve(stage, bearer, { request_id: requestId, number: '47', passkey })
        assert.equal(approved.body.status, 'approved', approved.text)
        const { acr, auth_time } = decodeJwt(String((await collect(stage, authReqId)).body.id_token))
        assert.deepEqual([acr, auth_time], [PASSKEY_ACR, inSeconds(stage, 0)])
      })
    }

    test('a confirmation with a passkey has another acr: the challenge is not answered, the passkey is unused', async (t) => {
      const stage = await scene(t, engine, {}, numbers)
      const bearer = await bearerOf(stage)
      const authenticator = await added(stage, bearer)
      const { authReqId, requestId } = await asked(stage, { binding_message: '47', ...gold })
      const passkey = authenticator.get(await challenge(stage, bearer, requestId))
      const sql = `select challenge_hash, used_at, counter from passkey_challenges, passkeys where purpose like 'confirm:%'`
      const before = await rowsOf(stage, sql)
      assert.equal(before.length, 1)
      const form = { request_id: requestId, number: '47', passkey }
      for (const _ of [1, 2]) assert.deepEqual(await refusal(stage, bearer, form), insufficient({ acr_values: 'gold' }))
      assert.deepEqual(await rowsOf(stage, sql), before)
      assert.equal((await stage.decide(requestId, 'approved', { acr: 'gold' })).status, 200)
      assert.equal(decodeJwt(String((await collect(stage, authReqId)).body.id_token)).acr, 'gold')
    })
  })
}

async function shownTo(stage: Stage, authorization: string, requestId: string) {
  const { body } = await stage.get(`/backchannel/authinfo?request_id=${requestId}`, { authorization })
  return (body.requests as [Record<string, unknown>])[0]
}

async function challenge(stage: Stage, bearer: string, request_id: string) {
  return (await stage.post(`${passkeys}/confirm-options`, { request_id }, bearer)).body as unknown as RequestOptions
}

const approve = (stage: Stage, bearer: string, form: Record<string, string>) =>
  stage.post('/backchannel/complete', { status: 'approved', ...form }, bearer)

function insufficient(needed: object): object {
  return { status: 401, error: 'insufficient_user_authentication', ...needed }
}

/** Sends an approval that must be refused. Resolves to the status and the members of the error. */
async function refusal(stage: Stage, bearer: string, form: Record<string, string>): Promise<object> {
  const { status, body } = await approve(stage, bearer, form)
  const { error_description, ...members } = body
  return { status, ...members }
}
