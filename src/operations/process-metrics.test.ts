import assert from 'node:assert/strict'
import { PerformanceObserver, performance } from 'node:perf_hooks'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createStageClock } from '../../test/support/clock.ts'
import { createProcessMetrics } from './process-metrics.ts'

/** Returns a function that reads the current values, by name and labels. */
function open(t: TestContext) {
  const clock = createStageClock()
  const metrics = createProcessMetrics(clock)
  t.after(() => metrics.stop())
  const read = () =>
    Object.fromEntries(
      metrics
        .families()
        .flatMap(({ name, samples }) =>
          samples().map(({ suffix = '', labels, value }) => [
            [`${name}${suffix}`, ...Object.values(labels ?? {})].join(' '),
            value,
          ]),
        ),
    )
  return { clock, read, stop: metrics.stop }
}

function keepBusy(milliseconds: number): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

test('CPU time is the time of the process since its start, user and system together', (t) => {
  const { read } = open(t)
  const before = read()
  keepBusy(50)
  const after = read()
  assert.ok(after.process_cpu_seconds_total! >= before.process_cpu_seconds_total! + 0.01)
  const parts = after.process_cpu_user_seconds_total! + after.process_cpu_system_seconds_total!
  assert.ok(Math.abs(after.process_cpu_seconds_total! - parts) < 1e-6)
})

test('the event loop lag is the delay of a timer, without the time for which it was set', async (t) => {
  const { read } = open(t)
  await setTimeout(100)
  keepBusy(100)
  await setTimeout(50)
  const lag = read()
  assert.ok(lag.nodejs_eventloop_lag_max_seconds! >= 0.08, String(lag.nodejs_eventloop_lag_max_seconds))
  assert.ok(lag.nodejs_eventloop_lag_min_seconds! < 0.005, String(lag.nodejs_eventloop_lag_min_seconds))
})

test('all readers get the same lag for ten seconds, then the lag of the period since', async (t) => {
  const { clock, read } = open(t)
  await setTimeout(50)
  keepBusy(100)
  await setTimeout(50)
  const first = read().nodejs_eventloop_lag_max_seconds!
  await setTimeout(50)
  clock.advance(9_999)
  assert.equal(read().nodejs_eventloop_lag_max_seconds, first)
  clock.advance(1)
  assert.ok(read().nodejs_eventloop_lag_max_seconds! < first)
})

test('before the first measurement the lag is left out, rather than shown as NaN', (t) => {
  const { read } = open(t)
  const names = Object.keys(read())
  assert.deepEqual(
    names.filter((name) => name.includes('lag')),
    [],
  )
  assert.ok(Object.values(read()).every(Number.isFinite))
})

test('every garbage collection is counted, even if several run in one turn of the event loop', async (t) => {
  const { read, stop } = open(t)
  let seen = 0
  const observer = new PerformanceObserver((list) => {
    seen += list.getEntries().length
  })
  observer.observe({ entryTypes: ['gc'] })
  t.after(() => observer.disconnect())
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let times = 0; times < 5; times++) collect()
  await setTimeout(50)
  const counted = Object.entries(read()).filter(([name]) => name.startsWith('nodejs_gc_duration_seconds_count'))
  assert.ok(seen >= 5)
  assert.equal(
    counted.reduce((sum, [, value]) => sum + value, 0),
    seen,
  )
  stop()
  collect()
  await setTimeout(50)
  assert.equal(
    read()['nodejs_gc_duration_seconds_count major'],
    Object.fromEntries(counted)['nodejs_gc_duration_seconds_count major'],
  )
})
