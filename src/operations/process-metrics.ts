/**
 * Metrics of the process: CPU, event loop, garbage collection and memory. The metrics have the names that the library
 * prom-client uses.
 */
import {
  constants,
  monitorEventLoopDelay,
  type NodeGCPerformanceDetail,
  type PerformanceEntry,
  PerformanceObserver,
  performance,
} from 'node:perf_hooks'
import { cpuUsage, memoryUsage, version } from 'node:process'
import { type Clock, steadyTime } from '../platform/clock.ts'
import { createHistogram, type Family, gauge, total } from './metric-families.ts'

export interface ProcessMetrics {
  families(): Family[]
  /** Stops observing the event loop and the garbage collector. */
  stop(): void
}

/** Starts to observe the process, and returns its metrics. */
export function createProcessMetrics(clock: Clock): ProcessMetrics {
  const eventLoop = observeEventLoop(clock)
  const garbageCollection = observeGarbageCollection()
  return {
    families: () => [...cpu(), ...memory(), ...eventLoop.families(), garbageCollection.durations, ...runtime()],
    stop() {
      eventLoop.stop()
      garbageCollection.stop()
    },
  }
}

function cpu(): Family[] {
  const { user, system } = cpuUsage()
  return [
    total('process_cpu_user_seconds_total', 'CPU time of the process in user mode.', user / 1e6),
    total('process_cpu_system_seconds_total', 'CPU time of the process in system calls.', system / 1e6),
    total('process_cpu_seconds_total', 'CPU time of the process.', (user + system) / 1e6),
  ]
}

function memory(): Family[] {
  const { rss, heapTotal, heapUsed, external } = memoryUsage()
  return [
    gauge('process_resident_memory_bytes', 'Memory of the process.', rss),
    gauge('nodejs_heap_size_total_bytes', 'Memory that is reserved for objects.', heapTotal),
    gauge('nodejs_heap_size_used_bytes', 'Memory that objects take up.', heapUsed),
    gauge('nodejs_external_memory_bytes', 'Memory outside the heap that belongs to objects.', external),
  ]
}

function runtime(): Family[] {
  return [
    gauge('process_start_time_seconds', 'When the process started, since 1970.', performance.timeOrigin / 1000),
    gauge('nodejs_version_info', 'The version of Node.js.', [{ labels: { version }, value: 1 }]),
  ]
}

/** Milliseconds between two measurements of the event loop. */
const lookEveryMs = 10

/**
 * Milliseconds for which the measured lag of the event loop is reused. Reading the lag starts a new measurement.
 * Without the reuse, a second read shortly after the first would return a lag that was measured over a very short time.
 */
const lagShownMs = 10_000

/**
 * Measures the lag of the event loop: how much later than planned a timer runs. All other work in the event loop is
 * delayed by the same time.
 */
function observeEventLoop(clock: Clock) {
  const delays = monitorEventLoopDelay({ resolution: lookEveryMs })
  delays.enable()
  let shown: { at: number; families: Family[] } | undefined

  /**
   * Returns the lag in seconds. Node records the time between two measurements, which is the planned interval plus the
   * lag.
   */
  const seconds = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - lookEveryMs) / 1000

  return {
    families(): Family[] {
      if (shown !== undefined && steadyTime(clock) - shown.at < lagShownMs) return shown.families
      // If nothing was measured since the last reset, the values would be NaN.
      if (delays.count === 0) return []
      shown = {
        at: steadyTime(clock),
        families: [
          lag('min', 'Least', seconds(delays.min)),
          lag('max', 'Greatest', seconds(delays.max)),
          lag('mean', 'Mean', seconds(delays.mean)),
          lag('stddev', 'Standard deviation of the', delays.stddev / 1e9),
          lag('p50', 'Median', seconds(delays.percentile(50))),
          lag('p90', '90th percentile of the', seconds(delays.percentile(90))),
          lag('p99', '99th percentile of the', seconds(delays.percentile(99))),
        ],
      }
      delays.reset()
      return shown.families
    },
    stop: () => delays.disable(),
  }
}

function lag(name: string, what: string, seconds: number): Family {
  return gauge(`nodejs_eventloop_lag_${name}_seconds`, `${what} lag of the event loop in the last period.`, seconds)
}

/** The upper bounds of the buckets, in seconds. */
const pauseBuckets = [0.001, 0.01, 0.1, 1, 2, 5]

const kinds: Record<number, string> = {
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weakcb',
}

/** An entry of the type `gc`. @types/node has no name for this type. */
type GarbageCollection = PerformanceEntry & { detail: NodeGCPerformanceDetail }

function observeGarbageCollection() {
  const durations = createHistogram(
    'nodejs_gc_duration_seconds',
    'Time that garbage collection took, by kind.',
    pauseBuckets,
  )
  const observer = new PerformanceObserver((list) => {
    // The list contains all garbage collections in one turn of the event loop. Under load there are several.
    for (const { detail, duration } of list.getEntries() as GarbageCollection[]) {
      durations.observe({ kind: kinds[detail.kind] ?? 'other' }, duration / 1000)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
  return { durations, stop: () => observer.disconnect() }
}
