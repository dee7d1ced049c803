/** Users with codes, and a client that uses them. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { type Answer, ana, basic, ben, openStage, type StageOptions } from '../support/stage.ts'

export const secret = newSecret()
export const code = 'heron-4711'
export const cleo = { id: 'user-cleo', username: 'cleo', email: 'cleo@example.com', user_code: 'otter-1234' }
export const minutes = 60_000

/** Ana and Cleo have codes, Ben has none. The booth uses codes, and so does the kiosk next to it; Kiosk does not. */
export async function openCodeStage(t: TestContext, options: StageOptions = {}) {
  const clients = ['booth', 'stand'].map((id) =>
    pollClient(id, { client_secret: secret, backchannel_user_code_parameter: true }),
  )
  const stage = await openStage(t, {
    ...options,
    config: { users: [{ ...ana, user_code: code }, ben, cleo], clients, ...options.config },
  })
  const sendRequest = (user_code: string | undefined, { about = 'ana', as = 'booth' } = {}) => {
    stage.clock.advance(1)
    const form = { scope: 'openid', login_hint: about, ...(user_code !== undefined && { user_code }) }
    return stage.post('/backchannel/authorize', form, basic(as, secret))
  }
  return Object.assign(stage, { askFor: sendRequest })
}

export function assertRefused({ status, body, text }: Answer, error: string, expected = 400) {
  assert.deepEqual([status, body.error], [expected, error], text)
}
