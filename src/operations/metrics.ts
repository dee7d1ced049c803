/**
 * Numbers for Prometheus, in its text format (0.0.4). Labels have values of our own, routes' patterns and client ids:
 * nothing that whoever calls could make up.
 */
import type { AuditEvent } from '../platform/audit.ts'

type Labels = Record<string, string>

export interface Sample {
  labels?: Labels
  value: number
}

interface Family {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram'
  samples(): { suffix?: string; labels: Labels; value: number }[]
}

export interface Metrics {
  /** Counts an event of the audit stream. */
  hear(event: AuditEvent): void
  /** Counts a poll by what it was answered. */
  polled(answer: string): void
  /** Counts a call. @param seconds from its arrival to its answer */
  answered(call: { route: string; method: string; status: number }, seconds: number): void
  /** All of it as text, together with what is true at this moment. */
  render(gauges: { name: string; help: string; samples: Sample[] }[]): string
}

export function createMetrics(): Metrics {
  const requests = counter('doorbell_requests_total', 'Authentication requests, by client and result.')
  const limits = counter('doorbell_limits_reached_total', 'Authentication requests over a limit, by limit.')
  const decisions = counter('doorbell_decisions_total', 'Requests settled, by outcome.')
  const tokens = counter('doorbell_tokens_issued_total', 'Times tokens were issued, by delivery mode or grant.')
  const polls = counter('doorbell_polls_total', 'Polls, by answer.')
  const notifications = counter('doorbell_notifications_total', 'Attempts to deliver, by kind and outcome.')
  const signIns = counter('doorbell_sign_ins_total', 'Attempts to sign in, by result.')
  const clientsRefused = counter('doorbell_clients_refused_total', 'Calls whose client authentication failed.')
  const durations = histogram('doorbell_http_request_duration_seconds', 'Time to answer, by route, method and status.')
  const families = [...[requests, limits, decisions, tokens, polls, notifications, signIns, clientsRefused], durations]

  return {
    hear({ event, client = '', outcome = '', by = '' }) {
      const [what, how = ''] = event.split('.')
      switch (event) {
        case 'request.accepted':
          return requests.add({ client, result: 'accepted' })
        case 'request.refused':
          return requests.add({ client, result: outcome })
        case 'limit.reached':
          return limits.add({ limit: outcome })
        case 'request.approved':
        case 'request.denied':
        case 'request.expired':
        case 'request.reported':
          return decisions.add({ outcome: how })
        case 'tokens.issued':
          return tokens.add({ by })
        case 'client.refused':
          return clientsRefused.add({ outcome })
        default:
          if (what === 'notification') return notifications.add({ kind: by, outcome: how })
          if (what === 'sign_in') return signIns.add({ result: how })
      }
    },
    polled: (answer) => polls.add({ answer: answer.replaceAll(' ', '_') }),
    answered: ({ route, method, status }, seconds) =>
      durations.observe({ route, method, status: String(status) }, seconds),
    render: (gauges) => [...families, ...gauges.map(toFamily)].map(renderFamily).join(''),
  }
}

function counter(name: string, help: string) {
  const values = new Map<string, { labels: Labels; value: number }>()
  return {
    name,
    help,
    type: 'counter',
    add(labels: Labels): void {
      const key = keyOf(labels)
      const known = values.get(key)
      if (known) known.value += 1
      else values.set(key, { labels, value: 1 })
    },
    samples: () => [...values.values()],
  } satisfies Family & { add(labels: Labels): void }
}

/** For each call there is one observation or two: without a list that would only be made to be joined. */
function keyOf(labels: Labels): string {
  let key = ''
  for (const name in labels) key += `${labels[name]}\n`
  return key
}

/** Seconds. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

function histogram(name: string, help: string) {
  const series = new Map<string, { labels: Labels; counts: number[]; sum: number; count: number }>()
  return {
    name,
    help,
    type: 'histogram',
    observe(labels: Labels, seconds: number): void {
      const key = keyOf(labels)
      let one = series.get(key)
      if (one === undefined) {
        one = { labels, counts: buckets.map(() => 0), sum: 0, count: 0 }
        series.set(key, one)
      }
      // Each bucket counts all that is not above its edge.
      for (let index = buckets.length - 1; index >= 0 && seconds <= buckets[index]!; index--) one.counts[index]! += 1
      one.sum += seconds
      one.count += 1
    },
    samples: () =>
      [...series.values()].flatMap(({ labels, counts, sum, count }) => [
        ...counts.map((value, index) => ({
          suffix: '_bucket',
          labels: { ...labels, le: String(buckets[index]) },
          value,
        })),
        { suffix: '_bucket', labels: { ...labels, le: '+Inf' }, value: count },
        { suffix: '_sum', labels, value: sum },
        { suffix: '_count', labels, value: count },
      ]),
  } satisfies Family & { observe(labels: Labels, seconds: number): void }
}

function toFamily({ name, help, samples }: { name: string; help: string; samples: Sample[] }): Family {
  return { name, help, type: 'gauge', samples: () => samples.map(({ labels = {}, value }) => ({ labels, value })) }
}

function renderFamily({ name, help, type, samples }: Family): string {
  const lines = samples().map(({ suffix = '', labels, value }) => `${name}${suffix}${renderLabels(labels)} ${value}\n`)
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
