/** Clients that use DPoP, and their calls. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { type Answer, basic, CIBA, openStage, type Stage, type StageOptions } from '../support/stage.ts'

export const secret = newSecret()
export const grant_types = [CIBA, 'refresh_token']

/**
 * Wallet's tokens are always bound to a key. Kiosk's tokens are bound if Kiosk sends a proof. The pocket app signs
 * users in and has no secret.
 */
export const cast: NonNullable<ConfigInput['clients']> = [
  pollClient('wallet', { client_secret: secret, grant_types, dpop_bound_access_tokens: true }),
  {
    client_id: 'pocket-app',
    scope: 'openid ciba:decide offline_access',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    dpop_bound_access_tokens: true,
  },
]
export const asWallet = basic('wallet', secret)

export const openDpopStage = (t: TestContext, { config = {}, ...options }: StageOptions = {}) =>
  openStage(t, { ...options, config: { ...config, clients: [...cast, ...(config.clients ?? [])] } })

export async function sendRequest(stage: Stage, authorization = asWallet): Promise<string> {
  stage.clock.advance(1)
  const form = { scope: 'openid offline_access', login_hint: 'ana', binding_message: 'x' }
  const { status, body, text } = await stage.post('/backchannel/authorize', form, authorization)
  assert.equal(status, 200, text)
  return String(body.auth_req_id)
}

export async function approved(stage: Stage, authorization = asWallet): Promise<string> {
  const authReqId = await sendRequest(stage, authorization)
  assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
  return authReqId
}

/** Sets the clock of the stage to the real time, because an independent library uses the real time. */
export const catchUp = ({ clock }: Stage) => clock.advance(Math.max(0, Date.now() - clock.now()))

export const ath = (token: unknown) => createHash('sha256').update(String(token)).digest('base64url')

export function assertRefused(answer: Answer, error: string, status = 400, about = answer.text): void {
  assert.deepEqual([answer.status, answer.body.error], [status, error], about)
  assert.match(String(answer.body.error_description), /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/)
}
