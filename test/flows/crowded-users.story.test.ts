/**
 * A client sends many requests about one user at once. The server stores them one after the other, so that each counts
 * the earlier ones. Neither the user nor other clients must wait for all of them.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { mostOfOnePair } from '../../src/ciba/backchannel-authentication/accepting-shares.ts'
import type { DoorbellOptions } from '../../src/doorbell.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { beforeSteps } from '../support/before-steps.ts'
import { gather } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { holdStatements } from '../support/held-statements.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!
const storing = /insert into backchannel_auth_requests/

describe('requests of a client wait to be stored, on postgres', () => {
  test('a decision, a block and a sign-out of the user come before all of them', async (t) => {
    const steps = observed()
    const stage = await openStage(t, { engine: postgres, parts: { openDatabase: steps.openDatabase } })
    const token = await bearerOf(stage)
    await stage.ring('northbank')
    const toDecide = await stage.newestRequest()
    steps.forget()
    const held = await holdStatements(t, stage.database, 'insert', 'backchannel_auth_requests')
    const many = 20
    const asked = Array.from({ length: many }, () => stage.ring('kiosk'))
    await until(async () => steps.arrived() === many && (await held.waiting()) === 1)

    const own = []
    for (const [path, form] of [
      ['/backchannel/complete', { request_id: toDecide, status: 'approved' }],
      ['/backchannel/block', { client_id: 'kiosk', blocked: 'true' }],
      ['/backchannel/sessions/end', { everywhere: 'true' }],
    ] as const) {
      const before = steps.arrived()
      own.push(stage.post(path, form, token))
      await until(() => steps.arrived() > before)
    }
    assert.deepEqual(steps.ended(), [], 'all wait for the first')
    await held.release()
    for (const { status, text } of await Promise.all(own)) assert.equal(status, 200, text)
    const statuses = (await Promise.all(asked)).map(({ status }) => status)
    assert.deepEqual(statuses.sort(), [200, ...Array.from({ length: many - 1 }, () => 403)], 'the client is blocked')
    const [first, ...later] = steps.ended()
    assert.equal(first, 'request')
    assert.deepEqual(later.slice(0, 3), ['own', 'own', 'own'])
    assert.deepEqual(new Set(later.slice(3)), new Set(['request']))
  })
})

for (const engine of engines) {
  describe(`requests of a client wait to be stored, on ${engine.name}`, () => {
    test('only so many of them: the others get 503, and other pairs of client and user do not', async (t) => {
      const gate = createGate()
      let isFirst = true
      const openDatabase = beforeSteps(storing, async () => {
        if (!isFirst) return
        isFirst = false
        await gate.pass()
      })
      const stage = await openStage(t, { engine, parts: { openDatabase } })
      gate.hold()
      const tooMany = 10
      const calls = gather(Array.from({ length: mostOfOnePair + tooMany }, () => stage.ring('kiosk')))
      await gate.waiting(1)
      await calls.allBut(mostOfOnePair)
      assert.deepEqual(calls.statuses(), [503])
      for (const { headers, body } of calls.answers) {
        assert.deepEqual([headers.get('retry-after'), body.error], ['1', 'temporarily_unavailable'])
      }
      assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200)
      const other = stage.ring('northbank')
      gate.release()
      assert.equal((await other).status, 200)
      await calls.all()
      assert.equal(calls.answers.filter(({ status }) => status === 200).length, mostOfOnePair)
      assert.equal((await stage.ring('kiosk')).status, 200, 'afterwards there is room again')
    })
  })
}

/** Counts the calls of the database that need Ana's lock key. */
function observed() {
  let arrived = 0
  let ended: string[] = []
  const isAnas = (keys: string | readonly string[] = []) => [keys].flat().some((key) => key.includes('user-ana'))
  const openObserved: NonNullable<DoorbellOptions['openDatabase']> = async (...about) => {
    const database = await openDatabase(...about)
    const { step, inLockOrder } = database
    database.inLockOrder = (keys, work, how) => {
      if (isAnas(keys)) arrived += 1
      return inLockOrder(keys, work, how)
    }
    database.step = async (first, options) => {
      const isObserved = isAnas(options?.lockKeys)
      if (isObserved && options?.hasTurn !== true) arrived += 1
      const rows = await step(first, options)
      if (isObserved) ended.push(storing.test(first.sql) ? 'request' : 'own')
      return rows
    }
    return database
  }
  return {
    openDatabase: openObserved,
    /** Returns how many of these calls have the key, wait for it, or have ended. */
    arrived: () => arrived,
    /** Returns the kinds of the calls that have ended, in the order in which they ended. */
    ended: () => ended,
    forget() {
      arrived = 0
      ended = []
    },
  }
}
