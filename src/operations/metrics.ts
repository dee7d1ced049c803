/**
 * Metrics for Prometheus. Label values are constants, route patterns and ids of the operator's clients, so a caller
 * cannot create new label values.
 */
import type { Client } from '../client/client.ts'
import type { AuditEvent } from '../platform/audit.ts'
import { createCounter, createHistogram, type Family, renderFamilies } from './metric-families.ts'

export interface Metrics {
  /** Counts an event of the audit stream. */
  hear(event: AuditEvent): void
  /**
   * Counts an authentication request by its client and its result. All clients that registered themselves have the same
   * label value.
   */
  requested(client: Client, result: string): void
  /** Counts a poll by the response that it got, for instance `authorization_pending`. */
  polled(answer: string): void
  /** Counts an HTTP request. @param seconds from the arrival of the request to the end of the response */
  answered(call: { route: string; method: string; status: number }, seconds: number): void
  /** Returns all metrics as text, together with `others`. */
  render(others: Family[]): string
}

/** Returns metrics that all start at zero. */
export function createMetrics(): Metrics {
  const requests = createCounter('doorbell_requests_total', 'Authentication requests, by client and result.')
  const limits = createCounter('doorbell_limits_reached_total', 'Authentication requests over a limit, by limit.')
  const decisions = createCounter('doorbell_decisions_total', 'Requests settled, by outcome.')
  const tokens = createCounter('doorbell_tokens_issued_total', 'Token responses, by delivery mode or grant.')
  const polls = createCounter('doorbell_polls_total', 'Polls, by answer.')
  const pollsByAnswer = new Map<string, { value: number }>()
  const notifications = createCounter('doorbell_notifications_total', 'Attempts to deliver, by kind and outcome.')
  const signIns = createCounter('doorbell_sign_ins_total', 'Attempts to sign in, by result.')
  const clientsRefused = createCounter('doorbell_clients_refused_total', 'Calls whose client authentication failed.')
  const durations = createHistogram(
    'doorbell_http_request_duration_seconds',
    'Response time, by route, method and status.',
    durationBuckets,
  )
  const families = [...[requests, limits, decisions, tokens, polls, notifications, signIns, clientsRefused], durations]

  return {
    hear({ event, outcome = '', by = '' }) {
      const [what, how = ''] = event.split('.')
      switch (event) {
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
    requested: ({ id, registeredItself }, result) =>
      requests.add({ client: registeredItself ? 'self-registered' : id, result }),
    polled(answer) {
      let series = pollsByAnswer.get(answer)
      if (series === undefined) {
        series = polls.seriesOf({ answer: answer.replaceAll(' ', '_') })
        pollsByAnswer.set(answer, series)
      }
      series.value += 1
    },
    answered: ({ route, method, status }, seconds) =>
      durations.observe({ route, method, status: String(status) }, seconds),
    render: (others) => renderFamilies([...families, ...others]),
  }
}

/** The upper bounds of the buckets, in seconds. */
const durationBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
