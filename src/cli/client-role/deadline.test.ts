/**
 * The command stops waiting for a result at the deadline of the request, even if the wall clock is set back in the
 * meantime.
 */
import assert from 'node:assert/strict'
import { mock, type TestContext, test } from 'node:test'
import { freePort } from '../../../test/support/ports.ts'
import { inTime } from '../../../test/support/until.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { openCallBack } from './callback.ts'
import type { Connection } from './connection.ts'
import { poll } from './poll.ts'
import { requestAuthentication } from './ring.ts'

const expires_in = 60

/** Starts a request. When `pass` is called, its lifetime passes, and the wall clock is set back by an hour. */
async function started(t: TestContext) {
  let passedMs = 0
  const now = Date.now()
  mock.timers.enable({ apis: ['Date'], now })
  mock.method(systemClock as Required<Clock>, 'steady', () => now + passedMs)
  t.after(() => {
    mock.timers.reset()
    mock.restoreAll()
  })
  const polls: string[] = []
  const pending = { status: 400, headers: new Headers(), body: { error: 'authorization_pending' } }
  const denied = { ...pending, body: { error: 'access_denied' } }
  const pass = () => {
    passedMs = expires_in * 1000
    mock.timers.setTime(now - 3_600_000)
  }
  const connection = {
    initiate: async () => ({
      status: 200,
      headers: new Headers(),
      body: { auth_req_id: 'a', expires_in, interval: 1 },
    }),
    async redeem(authReqId: string) {
      polls.push(authReqId)
      pass()
      // The deadline has passed after the first poll, so a second poll would be wrong.
      return polls.length === 1 ? pending : denied
    },
  } as unknown as Connection
  return { connection, polls, pass, request: await requestAuthentication(connection, 'poll', 'token', {}) }
}

test('polling ends', async (t) => {
  const { connection, polls, request } = await started(t)
  assert.deepEqual(await poll(connection, request, () => {}), { kind: 'expired' })
  assert.deepEqual(polls, ['a'])
})

test('the wait for a notification ends', async (t) => {
  const { request, pass } = await started(t)
  const port = await freePort()
  const endpoint = await openCallBack('token', undefined, 'https://id.example.com', port)
  t.after(async () => {
    // Ends a wait that is still under way: its timer would keep the process of a failed test alive for an hour.
    const headers = { authorization: 'Bearer token', 'content-type': 'application/json' }
    await fetch(`http://127.0.0.1:${port}`, { method: 'POST', headers, body: '{"auth_req_id":"a"}' })
    endpoint.close()
  })
  pass()
  const heard = endpoint.hears(request.authReqId, request.deadline)
  assert.equal(await inTime(heard, () => 'the end of the wait', 2_000), undefined)
})
