/**
 * Counters, histograms and gauges in the text format of Prometheus (0.0.4). The document
 * docs/decisions/0022-libraries-weighed.md says why the library prom-client is not used.
 */

export type Labels = Record<string, string>

export interface Sample {
  /** The suffix of the name of the metric: `_bucket`, `_sum` or `_count`. */
  suffix?: string
  labels?: Labels
  value: number
}

/** All time series of one metric. */
export interface Family {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram'
  samples(): Sample[]
}

/** Returns a counter with one series for each combination of label values. */
export function createCounter(name: string, help: string) {
  const values = new Map<string, { labels: Labels; value: number }>()
  function seriesOf(labels: Labels): { value: number } {
    const key = keyOf(labels)
    const known = values.get(key)
    if (known) return known
    const series = { labels, value: 0 }
    values.set(key, series)
    return series
  }
  return {
    name,
    help,
    type: 'counter',
    add(labels: Labels): void {
      seriesOf(labels).value += 1
    },
    /**
     * Returns the series with these labels. For frequent events, increment the `value` of the series: this is faster
     * than `add`.
     */
    seriesOf,
    samples: () => [...values.values()],
  } satisfies Family & { add(labels: Labels): void; seriesOf(labels: Labels): { value: number } }
}

/**
 * Returns a key for a set of label values. This function builds no array, because it is called once or twice for each
 * HTTP request.
 */
function keyOf(labels: Labels): string {
  let key = ''
  for (const name in labels) key += `${labels[name]}\n`
  return key
}

interface Series {
  labels: Labels
  /** For each bucket, the number of observations that are at most the upper bound of the bucket. */
  counts: number[]
  sum: number
  count: number
}

/**
 * Returns a histogram with one series for each combination of label values.
 *
 * @param upperBounds the upper bounds of the buckets in seconds, in ascending order
 */
export function createHistogram(name: string, help: string, upperBounds: readonly number[]) {
  const series = new Map<string, Series>()
  return {
    name,
    help,
    type: 'histogram',
    observe(labels: Labels, seconds: number): void {
      const key = keyOf(labels)
      let one = series.get(key)
      if (one === undefined) {
        one = { labels, counts: upperBounds.map(() => 0), sum: 0, count: 0 }
        series.set(key, one)
      }
      for (let index = upperBounds.length - 1; index >= 0 && seconds <= upperBounds[index]!; index--) {
        one.counts[index]! += 1
      }
      one.sum += seconds
      one.count += 1
    },
    samples: () => [...series.values()].flatMap((one) => histogramSamples(one, upperBounds)),
  } satisfies Family & { observe(labels: Labels, seconds: number): void }
}

function histogramSamples({ labels, counts, sum, count }: Series, upperBounds: readonly number[]): Sample[] {
  return [
    ...counts.map((value, index) => ({
      suffix: '_bucket',
      labels: { ...labels, le: String(upperBounds[index]) },
      value,
    })),
    { suffix: '_bucket', labels: { ...labels, le: '+Inf' }, value: count },
    { suffix: '_sum', labels, value: sum },
    { suffix: '_count', labels, value: count },
  ]
}

/** Returns a gauge. `value` is the current value, or a list of samples with labels. */
export function gauge(name: string, help: string, value: number | Sample[]): Family {
  return { name, help, type: 'gauge', samples: () => samplesOf(value) }
}

/**
 * Returns a counter whose current count is `value`. Use this function for a value that Doorbell does not count itself,
 * for example the CPU time that the operating system counts.
 */
export function total(name: string, help: string, value: number): Family {
  return { name, help, type: 'counter', samples: () => samplesOf(value) }
}

function samplesOf(value: number | Sample[]): Sample[] {
  return typeof value === 'number' ? [{ value }] : value
}

/** Returns the families in the text format of Prometheus. */
export function renderFamilies(families: Family[]): string {
  return families.map(renderFamily).join('')
}

function renderFamily({ name, help, type, samples }: Family): string {
  const lines = samples().map(({ suffix = '', labels, value }) => `${name}${suffix}${renderLabels(labels)} ${value}\n`)
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function renderLabels(labels: Labels = {}): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
