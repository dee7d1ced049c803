/** Ana's passkeys, and what she does with them. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import type { TestContext } from 'node:test'
import {
  type Authenticator,
  type CreationOptions,
  createAuthenticator,
  type Lies,
  pressPasskey,
  type RequestOptions,
} from '../cast/authenticator.ts'
import { signIn, startSignIn } from '../cast/phone-app.ts'
import { type Answer, openStage, type Stage } from '../cast/stage.ts'

export const passkeys = '/backchannel/passkeys'

export async function signedIn(t: TestContext, options: Parameters<typeof openStage>[1] = {}) {
  const stage = await openStage(t, options)
  return { stage, bearer: `Bearer ${(await signIn(stage)).access_token}` }
}

export async function creationOptions(stage: Stage, bearer: string): Promise<CreationOptions> {
  const { status, body } = await stage.post(`${passkeys}/options`, {}, bearer)
  assert.equal(status, 200)
  return body as unknown as CreationOptions
}

export async function added(stage: Stage, bearer: string, authenticator = createAuthenticator(stage.url)) {
  const response = authenticator.create(await creationOptions(stage, bearer))
  assert.equal((await stage.post(passkeys, { passkey: response }, bearer)).status, 201)
  return authenticator
}

export async function signedInWith(stage: Stage, authenticator: Authenticator): Promise<string> {
  const { browser, page, tokens } = await startSignIn(stage)
  const consent = await pressPasskey(browser, page, authenticator)
  return `Bearer ${(await tokens((await browser.submit(consent)).url)).access_token}`
}

export async function listed(stage: Stage, authorization: string): Promise<unknown[]> {
  return (await stage.get(passkeys, { authorization })).body.passkeys as unknown[]
}

export async function rung(stage: Stage, parameters: Record<string, string> = {}) {
  // No two at the same time, so that it is clear which is the newest.
  stage.clock.advance(1)
  const { body } = await stage.ring('kiosk', parameters)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

/** An authenticator's answer to a challenge for this request. */
export async function confirmed(
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

export function approve(stage: Stage, requestId: string, bearer: string, passkey?: string): Promise<Answer> {
  const form = { request_id: requestId, status: 'approved', ...(passkey !== undefined && { passkey }) }
  return stage.post('/backchannel/complete', form, bearer)
}

export async function statusOf(stage: Stage, requestId: string): Promise<unknown> {
  return (await stage.waiting()).find((request) => request.request_id === requestId)?.status
}

export async function requiredOf(stage: Stage, requestId: string, authorization: string): Promise<unknown> {
  const { body } = await stage.get(`/backchannel/authinfo?request_id=${requestId}`, { authorization })
  return (body.requests as Record<string, unknown>[])[0]!.passkey_required
}

/** An authenticator that has been used, and then lies in one way. */
export function lies(stage: Stage): Lies[] {
  return [
    { origin: 'https://evil.example' },
    { origin: `${stage.url}.evil.example` },
    { rpId: 'evil.example' },
    { userVerified: false },
    { counter: 0 },
    { counter: 1 },
    { challenge: 'bm90IG91cnM' },
    { type: 'webauthn.create' },
    { userHandle: 'c29tZWJvZHkgZWxzZQ' },
    { key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey },
  ]
}

export function idTokenClaims(body: Record<string, unknown>): Record<string, unknown> {
  const [, payload = ''] = String(body.id_token).split('.')
  return JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>
}
