import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStageClock } from '../../test/support/clock.ts'
import { createLog } from '../platform/log.ts'
import type { Display } from './order.ts'
import { createPurchase } from './purchase.ts'
import type { TillClient } from './till-client.ts'

test('the till counts down to the expiry, also if the wall clock is set back meanwhile', async () => {
  const clock = createStageClock()
  const shown = Promise.withResolvers<Display>()
  const till: Pick<TillClient, 'requestAuthentication'> = {
    requestAuthentication: async () => ({ status: 200, body: { auth_req_id: 'a', expires_in: 180, interval: 5 } }),
  }
  const purchase = createPurchase({ item: 'Coffee', amount: '4.20', mode: 'ping' }, 1, {
    issuer: 'http://localhost:4000',
    till: till as TillClient,
    show: (display) => display.status === 'waiting' && shown.resolve(display),
    clock,
    log: createLog('silent'),
  })
  assert.equal((await shown.promise).secondsLeft, 180)
  clock.setBack(3_600_000)
  clock.advance(60_000)
  assert.equal(purchase.display().secondsLeft, 120)
  purchase.cancel()
})
