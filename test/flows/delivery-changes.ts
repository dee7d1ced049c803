/** Changes of the delivery mode of a client while its request is open, and what the client gets afterwards. */
import assert from 'node:assert/strict'
import type { Delivery, Shop } from '../support/changing-client.ts'
import type { NotificationEndpoint } from '../support/notification-endpoint.ts'

export type Mode = Delivery['mode']

/** The mode of the client at the request, its mode after the change, and the mode by which it gets the result. */
export const changes: [from: Mode, to: Mode, by: Mode][] = [
  ['ping', 'ping', 'ping'],
  ['ping', 'push', 'push'],
  ['ping', 'poll', 'poll'],
  ['push', 'push', 'push'],
  ['push', 'ping', 'ping'],
  ['push', 'poll', 'poll'],
  ['poll', 'ping', 'poll'],
  ['poll', 'push', 'poll'],
]

export const at = (mode: Mode, { url }: NotificationEndpoint) => ({ mode, url: mode === 'poll' ? undefined : url })

export async function isAccepted(shop: Shop, accessToken: unknown): Promise<boolean> {
  return (await shop.stage.get('/oauth/userinfo', { authorization: `Bearer ${accessToken}` })).status === 200
}

interface Expected {
  by: Mode
  status: 'approved' | 'denied'
  authReqId: string
  next: NotificationEndpoint
}

export async function assertResult(shop: Shop, { by, status, authReqId, next }: Expected): Promise<void> {
  assert.equal(next.heard.length, by === 'poll' ? 0 : 1)
  const [heard] = next.heard
  if (by === 'push') {
    assert.equal(heard!.body.auth_req_id, authReqId)
    assert.equal(
      status === 'approved' ? await isAccepted(shop, heard!.body.access_token) : heard!.body.error,
      status === 'approved' ? true : 'access_denied',
    )
    assert.equal((await shop.poll(authReqId)).body.error, 'unauthorized_client')
    return
  }
  if (by === 'ping') assert.deepEqual(heard!.body, { auth_req_id: authReqId })
  const answer = await shop.poll(authReqId)
  if (status === 'denied') assert.deepEqual([answer.status, answer.body.error], [400, 'access_denied'])
  else {
    assert.equal(answer.status, 200, answer.text)
    assert.equal(await isAccepted(shop, answer.body.access_token), true)
  }
}
