/** A server at which clients register themselves, and their calls. */
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import type { Engine } from '../support/engines.ts'
import { CIBA, openStage, type Stage } from '../support/stage.ts'

export const open = { registration: { mode: 'open', perHour: 1000 } } satisfies ConfigInput

export async function opened(t: TestContext, config: ConfigInput = open, engine?: Engine) {
  const stage = await openStage(t, { config, ...(engine && { engine }) })
  return { stage, ...calls(stage) }
}

export function calls(stage: Stage) {
  const send = async (method: string, url: string, body?: unknown, token?: string) => {
    const response = await fetch(url.startsWith('http') ? url : stage.url + url, {
      method,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: (text.startsWith('{') ? JSON.parse(text) : {}) as Record<string, never> & Record<string, unknown>,
    }
  }
  return { send, register: (body: unknown, token?: string) => send('POST', '/oauth/register', body, token) }
}

export const poll = { grant_types: [CIBA, 'refresh_token'], backchannel_token_delivery_mode: 'poll' as const }
