import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { engines } from '../support/engines.ts'
import { openStage } from '../support/stage.ts'

for (const engine of engines) {
  describe(`Kiosk polls, on ${engine.name}`, () => {
    test('Ana approves on her phone, and Kiosk gets tokens once', async (t) => {
      const stage = await openStage(t, { engine })

      const response = await stage.ring('kiosk')
      assert.equal(response.status, 200)
      const { auth_req_id: authReqId } = response.body

      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'authorization_pending')
      const decided = await stage.decide(await stage.newestRequest(), 'approved')
      assert.equal(decided.body.status, 'approved')

      const tokens = await stage.poll('kiosk', authReqId)
      assert.equal(tokens.status, 200)
      assert.equal(tokens.body.token_type, 'Bearer')
      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'invalid_grant')
    })
  })
}
