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
} from '../support/authenticator.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { openStage, type Stage } from '../support/stage.ts'

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

/** Responses of an authenticator that has been used before. Each response is wrong in one way. */
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
