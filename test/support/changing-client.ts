/**
 * Shop is a client that changes its delivery mode and its notification endpoint. Each way to change them can be tested.
 */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { calls } from '../flows/registration-calls.ts'
import type { Engine } from './engines.ts'
import { type Answer, basic, CIBA, newNotificationToken, openStage, type Stage } from './stage.ts'

export interface Delivery {
  mode: 'poll' | 'ping' | 'push'
  /** The notification endpoint. Undefined for the mode poll. */
  url?: string | undefined
}

export type WayOfChanging = 'clientconfig' | 'clientconfig, with former parameter names' | 'registration'

export interface Shop {
  stage: Stage
  /** Sends a request about Ana. Resolves to its `auth_req_id` and its internal id. */
  ring(more?: Record<string, string>): Promise<{ authReqId: string; requestId: string }>
  changesTo(delivery: Delivery): Promise<void>
  poll(authReqId: string): Promise<Answer>
}

const mode = 'backchannel_token_delivery_mode'
const endpoint = 'backchannel_client_notification_endpoint'
const grant_types = [CIBA, 'refresh_token']

/** Returns the members of the client metadata for a delivery. */
export function settings({ mode: as, url }: Delivery): Record<string, string> {
  return { [mode]: as, ...(url !== undefined && { [endpoint]: url }) }
}

/** Returns the complete metadata of a client with this delivery. */
export function metadata(delivery: Delivery) {
  return { grant_types, ...settings(delivery) }
}

/** Opens a server at which Shop is registered with `first`. */
export async function openShop(
  t: TestContext,
  { engine, way, first, config = {} }: { engine: Engine; way: WayOfChanging; first: Delivery; config?: ConfigInput },
): Promise<Shop> {
  const secret = newNotificationToken()
  const clients = [{ client_id: 'shop', client_secret: secret, ...metadata(first) }]
  const open = { registration: { mode: 'open', perHour: 1000 } } as const
  const stage = await openStage(t, { engine, config: { ...config, ...(way === 'registration' ? open : { clients }) } })
  const { send, register } = calls(stage)
  const made = way === 'registration' ? (await register(metadata(first))).body : undefined
  let token = String(made?.registration_access_token)
  const authorization = basic(String(made?.client_id ?? 'shop'), String(made?.client_secret ?? secret))

  async function change(next: Delivery): Promise<{ status: number; text: string }> {
    if (made !== undefined) {
      const body = { client_id: made.client_id, ...metadata(next) }
      const answer = await send('PUT', String(made.registration_client_uri), body, token)
      token = String(answer.body.registration_access_token)
      return answer
    }
    const isSeed = way !== 'clientconfig'
    const former = {
      ciba_notify_type: next.mode.toUpperCase(),
      ...(next.url !== undefined && { ciba_notify_endpoint: next.url }),
    }
    return stage.post('/backchannel/clientconfig', isSeed ? former : settings(next), authorization)
  }

  return shopAt(stage, authorization, first, async (next) => {
    const { status, text } = await change(next)
    assert.equal(status, 200, text)
  })
}

/**
 * Returns functions that make the calls of a client. The client is already registered with the delivery `first`.
 *
 * @param change changes the registration of the client to another delivery
 */
export function shopAt(
  stage: Stage,
  authorization: string,
  first: Delivery,
  change: (next: Delivery) => Promise<void>,
): Shop {
  let delivery = first
  return {
    stage,
    async ring(more = {}) {
      stage.clock.advance(1)
      const form = {
        scope: 'openid',
        login_hint: 'ana@example.com',
        ...(delivery.mode !== 'poll' && { client_notification_token: newNotificationToken() }),
        ...more,
      }
      const { status, body, text } = await stage.post('/backchannel/authorize', form, authorization)
      assert.equal(status, 200, text)
      return { authReqId: String(body.auth_req_id), requestId: await stage.newestRequest() }
    },
    async changesTo(next) {
      await change(next)
      delivery = next
    },
    poll: (authReqId) => stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: authReqId }, authorization),
  }
}
