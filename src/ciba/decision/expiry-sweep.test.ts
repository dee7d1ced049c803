/** The sweep settles each expired request once, and continues after a failure. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { engines } from '../../../test/support/engines.ts'
import { furnished, newRequest } from '../../../test/support/rows.ts'
import { until } from '../../../test/support/until.ts'
import { createExpirySweep } from './expiry-sweep.ts'

test('one sweep settles more than one batch of expired requests', async (t) => {
  const { one, clock, sweep } = await scene(t)
  const requests = Array.from({ length: 450 }, () => newRequest(clock.now(), { expiresAt: clock.now() + 1000 }))
  await Promise.all(requests.map((request) => one.requests.accept(request, request.id, { maxOpenPerUser: 999 })))
  assert.equal(await sweep.sweep(), 0)
  clock.advance(1000)
  assert.equal(await sweep.sweep(), 450)
  assert.equal(await sweep.sweep(), 0)
  assert.deepEqual(await one.requests.runOut(clock.now(), 10), [])
})

test('requests that cannot be settled are logged once each, and keep no other row from being settled', async (t) => {
  const { one, clock, sweep, needs, logLines, forgot } = await scene(t)
  const many = { maxOpenPerUser: 999 }
  const damaged = Array.from({ length: 201 }, () => newRequest(clock.now(), { expiresAt: clock.now() + 1 }))
  const isDamaged = new Set(damaged.map(({ id }) => id))
  const { decisions } = needs
  needs.decisions = {
    ...decisions,
    add(decision, request) {
      if (isDamaged.has(request.id)) throw new Error('a damaged row')
      return decisions.add(decision, request)
    },
  }
  const intact = Array.from({ length: 250 }, () => newRequest(clock.now(), { expiresAt: clock.now() + 2 }))
  for (const request of [...damaged, ...intact]) await one.requests.accept(request, request.id, many)
  clock.advance(1000)
  assert.equal(await sweep.sweep(), 250)
  assert.equal(await sweep.sweep(), 0)
  const left = await one.requests.runOut(clock.now(), 999)
  assert.deepEqual(left.map(({ id }) => id).sort(), damaged.map(({ id }) => id).sort())
  sweep.start()
  await until(async () => {
    clock.advance(1000)
    return forgot.length === 1
  })
  await sweep.stop()
  assert.equal(logLines.filter((line) => line.includes('sweep.request_failed')).length, 201)
  assert.ok(!logLines.some((line) => line.includes('sweep.failed')))
})

test('a started sweep runs every second until it is stopped', async (t) => {
  const { one, clock, sweep } = await scene(t)
  const request = newRequest(clock.now(), { expiresAt: clock.now() + 1 })
  await one.requests.accept(request, 'a', { maxOpenPerUser: 9 })
  sweep.start()
  clock.advance(1000)
  await until(async () => (await one.requests.find(request.id))!.status === 'expired')
  await sweep.stop()
  const next = newRequest(clock.now(), { expiresAt: clock.now() + 1 })
  await one.requests.accept(next, 'b', { maxOpenPerUser: 9 })
  clock.advance(5000)
  assert.equal((await one.requests.find(next.id))!.status, 'pending')
})

test('a failed sweep is logged and repeated; other old rows are removed once a minute', async (t) => {
  const { one, clock, sweep, needs, logLines, forgot } = await scene(t)
  const { runOut } = needs.requests
  let failures = 1
  needs.requests.runOut = (...asked) => (failures-- > 0 ? Promise.reject(new Error('no table')) : runOut(...asked))
  const request = newRequest(clock.now(), { expiresAt: clock.now() + 1 })
  await one.requests.accept(request, 'a', { maxOpenPerUser: 9 })
  sweep.start()
  clock.advance(1000)
  await until(async () => logLines.some((line) => line.includes('sweep.failed')))
  await until(async () => {
    clock.advance(1000)
    return (await one.requests.find(request.id))!.status === 'expired'
  })
  await until(async () => forgot.length === 1)
  await until(async () => {
    clock.advance(1000)
    return forgot.length === 2
  })
  assert.ok(forgot[1]! - forgot[0]! >= 60_000)
  await sweep.stop()
})

test('while one call does not remove all old rows, each sweep removes more of them', async (t) => {
  const { clock, sweep, forgot, full } = await scene(t)
  // Each of the eleven entries makes one transaction remove as many rows as it may. Five of these transactions run in
  // each of the first two sweeps. In the third sweep, the last one is followed by a transaction that removes fewer
  // rows.
  full.push(...Array.from({ length: 11 }, () => 1))
  sweep.start()
  await until(() => {
    clock.advance(1000)
    return forgot.length === 13
  })
  const times = [...new Set(forgot)]
  assert.deepEqual(
    times.map((time) => forgot.filter((one) => one === time).length),
    [5, 5, 2, 1],
  )
  assert.ok(times[2]! - times[0]! < 60_000, 'full transactions are followed by others')
  assert.ok(times[3]! - times[2]! >= 60_000)
  await sweep.stop()
})

test('a kind of old rows that cannot be removed keeps no other kind, and is logged once until it can be', async (t) => {
  const { clock, sweep, forgot, failures, logLines } = await scene(t)
  // The removal of `tea` fails three times with different errors, then succeeds, and later fails once more. It is tried
  // once a minute. The minutes are counted by the removals of `coffee`, because the clock advances while a sweep runs.
  const broken = new Error('a damaged index')
  const slow = Object.assign(new Error('canceling statement due to statement timeout'), { code: '57014' })
  failures.push(broken, slow, broken)
  sweep.start()
  const minutes = (count: number) =>
    until(() => {
      clock.advance(1000)
      return forgot.length >= count
    })
  await minutes(3)
  const failed = () => logLines.filter((line) => JSON.parse(line).event === 'retention.failed')
  assert.equal(failed().length, 1)
  assert.equal(JSON.parse(failed()[0]!).what, 'tea')
  await minutes(5)
  failures.push(broken)
  await minutes(7)
  assert.equal(failed().length, 2, 'it was removed meanwhile')
  await sweep.stop()
  assert.ok(!logLines.some((line) => line.includes('sweep.failed')))
  for (const [index, time] of forgot.slice(1).entries()) assert.ok(time - forgot[index]! >= 60_000)
})

test('other old rows are removed once a minute, also if the wall clock is set back meanwhile', async (t) => {
  const { clock, sweep, forgot } = await scene(t)
  sweep.start()
  clock.advance(1000)
  await until(async () => forgot.length === 1)
  clock.setBack(24 * 3_600_000)
  let passedMs = 0
  await until(() => {
    clock.advance(1000)
    passedMs += 1000
    return forgot.length === 2
  })
  // The clock may advance by a few seconds while one sweep runs.
  assert.ok(passedMs < 120_000, `${passedMs} ms`)
  await sweep.stop()
})

async function scene(t: TestContext) {
  const stage = await furnished(t, engines.find(({ name }) => name === 'sqlite')!)
  const needs = { ...stage.one.needs, requests: { ...stage.one.requests } }
  const forgot: number[] = []
  const full: number[] = []
  const failures: Error[] = []
  const sweep = createExpirySweep(needs, [
    {
      what: 'tea',
      async forget() {
        const failure = failures.shift()
        if (failure !== undefined) throw failure
        return 0
      },
    },
    {
      what: 'coffee',
      async forget(now, atMost) {
        forgot.push(now)
        return full.shift() === undefined ? atMost - 1 : atMost
      },
    },
  ])
  return { ...stage, needs, sweep, forgot, full, failures }
}
