/** Approvals that a passkey must confirm. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import {
  type Authenticator,
  createAuthenticator,
  type Lies,
  passkeyOptions,
  type RequestOptions,
} from '../support/authenticator.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { type Answer, basic, ben, CIBA, type Stage, secrets } from '../support/stage.ts'
import { added, lies, listed, passkeys, signedIn, signedInWith } from './passkeys.ts'

describe('Ana confirms with her passkey', () => {
  test('a request of Kiosk with acr_values=phr, and its tokens say phr', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { authReqId, requestId } = await sendRequest(stage, { acr_values: 'phr' })
    assert.equal(await requiredOf(stage, requestId, bearer), true)

    const without = await approve(stage, requestId, bearer)
    assert.deepEqual([without.status, without.body.error, without.body.passkey_required], [403, 'access_denied', true])

    stage.clock.advance(60_000)
    const now = Math.floor(stage.clock.now() / 1000)
    const decided = await approve(stage, requestId, bearer, await confirmed(stage, requestId, bearer, authenticator))
    assert.deepEqual([decided.status, decided.body], [200, { request_id: requestId, status: 'approved' }])
    const claims = idTokenClaims((await stage.poll('kiosk', authReqId)).body)
    assert.deepEqual([claims.acr, claims.amr, claims.auth_time], ['phr', ['pop', 'user'], now])
  })

  test('also when it was not requested', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { authReqId, requestId } = await sendRequest(stage)
    assert.equal(await requiredOf(stage, requestId, bearer), false)
    const response = await confirmed(stage, requestId, bearer, authenticator)
    assert.equal((await approve(stage, requestId, bearer, response)).status, 200)
    assert.equal(idTokenClaims((await stage.poll('kiosk', authReqId)).body).acr, 'phr')
  })

  test('every request of a client that always requires it', async (t) => {
    const bank: ClientMetadataInput = {
      client_id: 'strict-bank',
      client_secret: secrets.kiosk,
      grant_types: [CIBA],
      backchannel_token_delivery_mode: 'poll',
      backchannel_require_passkey: true,
    }
    const { stage, bearer } = await signedIn(t, { config: { clients: [bank] } })
    const authenticator = await added(stage, bearer)
    const form = { scope: 'openid', login_hint: 'ana' }
    const credential = basic('strict-bank', secrets.kiosk)
    assert.equal((await stage.post('/backchannel/authorize', form, credential)).status, 200)
    const requestId = await stage.newestRequest()
    assert.equal((await approve(stage, requestId, bearer)).body.passkey_required, true)
    const response = await confirmed(stage, requestId, bearer, authenticator)
    assert.equal((await approve(stage, requestId, bearer, response)).status, 200)
  })

  test('but not right after signing in with it; five minutes later, again', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const strong = await signedInWith(stage, authenticator)
    const first = await sendRequest(stage, { acr_values: 'phr' })
    assert.equal(await requiredOf(stage, first.requestId, strong), false)
    assert.equal((await approve(stage, first.requestId, strong)).status, 200)
    assert.equal(idTokenClaims((await stage.poll('kiosk', first.authReqId)).body).acr, 'phr')

    // oidc-provider takes the time of a sign-in from the real clock, which is slightly ahead of the clock of the stage.
    stage.clock.advance(5 * 60_000 + 5_000)
    const second = await sendRequest(stage, { acr_values: 'phr' })
    assert.equal(await requiredOf(stage, second.requestId, strong), true)
    assert.equal((await approve(stage, second.requestId, strong)).status, 403)
    assert.equal(await statusOf(stage, second.requestId), 'pending')
  })

  test('a denial needs none, and a device service states its own authentication context', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const one = await sendRequest(stage, { acr_values: 'phr' })
    const denied = await stage.post(
      '/backchannel/complete',
      { request_id: one.requestId, status: 'denied', passkey: 'nonsense' },
      bearer,
    )
    assert.equal(denied.status, 200)
    const two = await sendRequest(stage, { acr_values: 'phr' })
    const stated = { acr: 'urn:bank:face', amr: 'face' }
    const [waiting] = await stage.waiting()
    assert.equal(waiting!.passkey_required, false)
    assert.equal((await stage.decide(two.requestId, 'approved', { passkey: '{}' })).status, 400)
    assert.equal((await stage.decide(two.requestId, 'approved', stated)).status, 200)
    assert.equal(idTokenClaims((await stage.poll('kiosk', two.authReqId)).body).acr, 'urn:bank:face')
  })

  test('no invalid confirmation decides anything', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const bens = `Bearer ${(await signIn(stage, ben)).access_token}`
    const anas = await added(stage, bearer)
    const bensOwn = await added(stage, bens)
    const { requestId } = await sendRequest(stage)
    const other = await sendRequest(stage)
    const refuse = async (why: string, response: string, as = bearer, status = 403) => {
      const refused = await approve(stage, requestId, as, response)
      assert.equal(refused.status, status, `${why}: ${refused.text}`)
      assert.equal(await statusOf(stage, requestId), 'pending', why)
    }

    for (const lie of lies(stage)) {
      await refuse(JSON.stringify(lie), await confirmed(stage, requestId, bearer, anas, lie))
    }
    for (const nonsense of ['nonsense', '{}', 'null', '{"id":"x","response":null}', '0'.repeat(20_000)]) {
      await refuse('nonsense', nonsense)
    }
    await refuse("Ben's passkey", await confirmed(stage, requestId, bearer, bensOwn))
    await refuse('Ben, with his passkey', await confirmed(stage, requestId, bearer, bensOwn), bens, 404)
    await refuse('for another request', await confirmed(stage, other.requestId, bearer, anas))
    const { browser, page } = await startSignIn(stage)
    await refuse('for a sign-in', anas.get(await passkeyOptions(browser, page)))

    const late = await confirmed(stage, requestId, bearer, anas)
    stage.clock.advance(5 * 60_000)
    await refuse('too late', late)

    const used = await confirmed(stage, other.requestId, bearer, anas)
    assert.equal((await approve(stage, other.requestId, bearer, used)).status, 200)
    await refuse('replayed', used)
    for (const id of [other.requestId, 'no-such-request']) {
      assert.equal((await stage.post(`${passkeys}/confirm-options`, { request_id: id }, bearer)).status, 404)
    }
    assert.equal((await stage.post(`${passkeys}/confirm-options`, { request_id: requestId }, bens)).status, 404)
    assert.equal((await approve(stage, other.requestId, bearer)).status, 409)
  })

  test('of forty uses of one answer at once, one is accepted', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { requestId } = await sendRequest(stage, { acr_values: 'phr' })
    const response = await confirmed(stage, requestId, bearer, authenticator)
    const answers = await Promise.all(Array.from({ length: 40 }, () => approve(stage, requestId, bearer, response)))
    assert.equal(answers.filter(({ status }) => status === 200).length, 1)
    assert.equal(await statusOf(stage, requestId), 'approved')
  })

  test('an authenticator without a counter can be used repeatedly', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer, createAuthenticator(stage.url, { counts: false }))
    for (const _ of [1, 2, 3]) {
      const { requestId } = await sendRequest(stage, { acr_values: 'phr' })
      const response = await confirmed(stage, requestId, bearer, authenticator)
      assert.equal((await approve(stage, requestId, bearer, response)).status, 200)
    }
  })

  test('a removed passkey is refused', async (t) => {
    const { stage, bearer } = await signedIn(t)
    const authenticator = await added(stage, bearer)
    const { requestId } = await sendRequest(stage, { acr_values: 'phr' })
    const response = await confirmed(stage, requestId, bearer, authenticator)
    const [{ id }] = (await listed(stage, bearer)) as [{ id: string }]
    const strong = await signedInWith(stage, authenticator)
    assert.equal((await stage.post(`${passkeys}/remove`, { id }, strong)).status, 200)
    assert.equal((await approve(stage, requestId, bearer, response)).status, 403)
    assert.equal((await stage.post(`${passkeys}/confirm-options`, { request_id: requestId }, bearer)).status, 404)
    assert.equal(await statusOf(stage, requestId), 'pending')
  })
})

async function sendRequest(stage: Stage, parameters: Record<string, string> = {}) {
  // No two requests have the same time, so that it is clear which request is the newest.
  stage.clock.advance(1)
  const { body } = await stage.ring('kiosk', parameters)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

/** Returns an authenticator's response to a challenge for this request. */
async function confirmed(
  stage: Stage,
  requestId: string,
  bearer: string,
  authenticator: Authenticator,
  lies: Lies = {},
): Promise<string> {
  const { status, body } = await stage.post(`${passkeys}/confirm-options`, { request_id: requestId }, bearer)
  assert.equal(status, 200)
  return authenticator.get(body as unknown as RequestOptions, lies)
}

function approve(stage: Stage, requestId: string, bearer: string, passkey?: string): Promise<Answer> {
  const form = { request_id: requestId, status: 'approved', ...(passkey !== undefined && { passkey }) }
  return stage.post('/backchannel/complete', form, bearer)
}

async function statusOf(stage: Stage, requestId: string): Promise<unknown> {
  return (await stage.waiting()).find((request) => request.request_id === requestId)?.status
}

async function requiredOf(stage: Stage, requestId: string, authorization: string): Promise<unknown> {
  const { body } = await stage.get(`/backchannel/authinfo?request_id=${requestId}`, { authorization })
  return (body.requests as Record<string, unknown>[])[0]!.passkey_required
}

function idTokenClaims(body: Record<string, unknown>): Record<string, unknown> {
  const [, payload = ''] = String(body.id_token).split('.')
  return JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>
}
