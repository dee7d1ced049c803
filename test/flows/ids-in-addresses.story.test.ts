/**
 * Proxies log the addresses of calls, and an `auth_req_id` must not be in their logs. So every call that names a
 * request can be made without an `auth_req_id` in its address. This server never logs an address.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openStage } from '../support/stage.ts'

for (const engine of engines) {
  describe(`the auth_req_id in an address, on ${engine.name}`, () => {
    test('is not needed to read a request: a body contains it, or the address contains the request_id', async (t) => {
      const stage = await openStage(t, { engine })
      const authReqId = String((await stage.ring('kiosk')).body.auth_req_id)
      await stage.ring('northbank')
      const authorization = await bearerOf(stage)
      const inBody = await stage.post('/backchannel/authinfo', { auth_req_id: authReqId }, authorization)
      const [request, ...others] = inBody.body.requests as { request_id: string; client: { client_id: string } }[]
      assert.deepEqual([request!.client.client_id, others], ['kiosk', []])
      for (const query of [`request_id=${request!.request_id}`, `auth_req_id=${authReqId}`]) {
        const { body } = await stage.get(`/backchannel/authinfo?${query}`, { authorization })
        assert.deepEqual(body.requests, [request], query)
      }
      assert.ok(stage.logLines.some((line) => line.includes('"/backchannel/authinfo"')))
      assert.ok(stage.logLines.every((line) => !line.includes(authReqId)))
    })

    test('is not needed to decide in development: a form or JSON contains it', async (t) => {
      const stage = await openStage(t, { engine })
      const json = (body: object) =>
        fetch(`${stage.url}/dev/decide`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        })
      const decide: ((body: { auth_req_id: string; action: string }) => Promise<{ status: number }>)[] = [
        (body) => stage.post('/dev/decide', body),
        json,
        // The conformance suite sends the parameters in this way.
        (body) => stage.post(`/dev/decide?${new URLSearchParams(body)}`, {}),
      ]
      for (const send of decide) {
        const authReqId = String((await stage.ring('kiosk')).body.auth_req_id)
        assert.equal((await send({ auth_req_id: authReqId, action: 'perhaps' })).status, 400)
        assert.equal((await send({ auth_req_id: 'unknown', action: 'allow' })).status, 404)
        assert.equal((await send({ auth_req_id: authReqId, action: 'allow' })).status, 200)
        assert.equal((await send({ auth_req_id: authReqId, action: 'deny' })).status, 409)
        assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
        assert.ok(stage.logLines.every((line) => !line.includes(authReqId)))
      }
    })
  })
}
