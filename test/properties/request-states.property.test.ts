/**
 * Compares the states of an authentication request (architecture, section 3) with a model: for any sequence of actions
 * of clients, users, the clock and crashes, each response is the one of the model, and in the end each client and user
 * has been notified as required.
 *
 *     DOORBELL_TEST_RUNS=1000 npm test -- test/properties      more runs
 *     DOORBELL_TEST_SEED=…                                    a failure prints its seed; this repeats it
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createLog } from '../../src/platform/log.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { openStage, type Stage } from '../support/stage.ts'
import { createWires } from '../support/wires.ts'
import { commands, expiry, SendRequest } from './request-commands.ts'
import { lookUp, type Model, type ModelRequest, type Real, type Status } from './request-model.ts'

const numRuns = Number(process.env.DOORBELL_TEST_RUNS ?? 40)

const seed = process.env.DOORBELL_TEST_SEED === undefined ? {} : { seed: Number(process.env.DOORBELL_TEST_SEED) }
/** Milliseconds for the search for a shorter failing sequence. */
const patience = process.env.DOORBELL_TEST_RUNS === undefined ? { interruptAfterTimeLimit: 120_000 } : {}

for (const engine of engines) {
  test(`for any sequence of actions, the responses are those of the model, on ${engine.name}`, async (t) => {
    const endpoint = await openNotificationEndpoint(t)
    const wires = createWires()
    const stage = await openStage(t, {
      engine,
      northbank: endpoint.url,
      till: endpoint.url,
      // Sweeps run when the model requests them.
      config: { logLevel: 'silent' },
      parts: { openDatabase: wires.open, log: createLog('silent') },
    })
    const real: Real = {
      stage,
      wires,
      heardOf: (authReqId) =>
        endpoint.heard.filter(({ body }) => body.auth_req_id === authReqId).map(({ text }) => text),
    }
    let told = 0
    let made = 0
    await fc.assert(
      fc.asyncProperty(fc.tuple(expiry, expiry, expiry), commands, async ([poll, ping, push], sequence) => {
        const model: Model = { requests: [] }
        await new SendRequest('kiosk', poll).run(model, real)
        await new SendRequest('northbank', ping).run(model, real)
        await new SendRequest('till', push).run(model, real)
        await fc.asyncModelRun(() => ({ model, real }), sequence)
        await settleEverything(stage)
        for (const request of model.requests) await checkInTheEnd(request, real)
        made += model.requests.length
        told += model.requests.filter(({ authReqId }) => real.heardOf(authReqId).length > 0).length
        endpoint.heard.length = 0
      }),
      { numRuns, ...seed, ...patience },
    )
    t.diagnostic(`${numRuns} runs, ${made} requests, ${told} clients told`)
  })
}

/** Leases end, then all open requests expire, and the last messages are sent. */
async function settleEverything(stage: Stage): Promise<void> {
  await stage.doorbell.idle()
  stage.clock.advance(5_000)
  // Notifications of expiry are sent now: ten minutes later their deadline would have passed.
  await stage.doorbell.sweep()
  await stage.doorbell.idle()
  stage.clock.advance(700_000)
  await stage.doorbell.sweep()
  await stage.doorbell.idle()
  stage.clock.advance(5_000)
  await stage.doorbell.idle()
}

async function checkInTheEnd(request: ModelRequest, { stage, heardOf }: Real): Promise<void> {
  const { row, history, letters } = await lookUp(stage, request.requestId)
  const heard = heardOf(request.authReqId)
  const said = heard.map((text) => JSON.parse(text) as Record<string, unknown>)
  assert.equal(new Set(heard).size <= 1, true, 'every attempt had the same content')

  const decided = request.history.find((word) => word !== 'expired')
  const outcomes = history.map((fact) => fact.outcome)
  const status = row.status as Status
  const expected = decided === undefined ? ['expired'] : status === 'expired' ? [decided, 'expired'] : [decided]
  assert.deepEqual(outcomes, expected)
  if (decided === undefined) assert.equal(status, 'expired')
  if (decided === 'denied') assert.equal(status, 'denied')
  if (decided === 'approved') assert.ok(status === 'redeemed' || status === 'expired')
  if (request.client !== 'till' && request.status === 'redeemed') assert.equal(status, 'redeemed')

  assert.equal(row.call_back_sealed, null)
  for (const letter of letters) {
    assert.ok(letter.state === 'delivered' || letter.state === 'parked', String(letter.state))
    assert.equal(letter.lease, null)
    if (letter.state === 'delivered') assert.equal(letter.sealed, null)
    else assert.ok(request.shaken, `parked without a crash: ${letter.last_outcome}`)
  }
  const parked = letters.some(({ state }) => state === 'parked')

  if (request.client === 'kiosk') assert.deepEqual(heard, [])
  if (request.client === 'northbank') {
    for (const body of said) assert.deepEqual(body, { auth_req_id: request.authReqId })
    if (decided === undefined) assert.deepEqual(heard, [], 'no ping is sent for an expired request')
    else assert.ok(heard.length > 0 || parked)
    if (!request.shaken && decided !== undefined) assert.equal(heard.length, 1)
  }
  if (request.client === 'till') {
    assert.ok(heard.length > 0 || parked, 'a push client is notified of every outcome')
    const word = { denied: 'access_denied', expired: 'expired_token', redeemed: undefined }[status as 'denied']
    for (const body of said) {
      assert.equal(body.error, word)
      assert.equal(typeof body.access_token, word === undefined ? 'string' : 'undefined')
    }
    if (status === 'expired') assert.ok(heard.length > 0, 'there is enough time to notify of the expiry')
  }
}
