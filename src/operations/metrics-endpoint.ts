/**
 * Adds `/metrics` for Prometheus. A caller must send the token, or must call from a configured address. Other callers
 * get 401, or 404 if no token is configured.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RequestStore } from '../ciba/authentication-request/authentication-request-store.ts'
import type { HeldPolls } from '../ciba/token-endpoint/long-poll.ts'
import type { OutboxStore } from '../outbox/outbox-store.ts'
import { type Clock, steadyTime } from '../platform/clock.ts'
import { sameSecret } from '../platform/crypto.ts'
import { isWithin, rangesOf } from '../platform/http/address.ts'
import { onlyMethods } from '../platform/http/answer.ts'
import { bearerOf } from '../platform/http/authorization.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { ownVersion } from '../platform/version.ts'
import { type Family, gauge } from './metric-families.ts'
import type { Metrics } from './metrics.ts'
import { createProcessMetrics } from './process-metrics.ts'

export interface MetricsNeeds {
  metrics: Metrics
  access: MetricsAccess
  countOpen: RequestStore['countOpen']
  countHeldPolls: HeldPolls['count']
  countHashingPlaces(): number
  outbox: Pick<OutboxStore, 'countUndelivered'>
  clock: Clock
}

/** Which callers may read the metrics: callers with the token, and callers from the addresses in `from`. */
export interface MetricsAccess {
  token?: string
  /** Addresses and CIDR ranges. */
  from: readonly string[]
}

/** Milliseconds for which counts from the database are reused. */
const countedFor = 10_000

/** Adds the route at `path`. */
export function metricsEndpoint(app: FastifyInstance, path: string, needs: MetricsNeeds): void {
  const trusted = rangesOf(needs.access.from)
  const counted = createCounting(needs)
  const processMetrics = createProcessMetrics(needs.clock)
  const build = gauge('doorbell_build_info', 'The version of Doorbell.', [
    { labels: { version: ownVersion() }, value: 1 },
  ])
  app.addHook('onClose', async () => processMetrics.stop())

  onlyMethods(app, path, ['GET'])
  app.get(path, async (request, reply) => {
    if (!mayRead(request)) throw refusal(needs.access)
    const text = needs.metrics.render([
      ...(await counted()),
      heldPolls(needs.countHeldPolls()),
      hashingPlaces(needs.countHashingPlaces()),
      build,
      ...processMetrics.families(),
    ])
    reply.isUsual = true
    return reply
      .header('content-type', 'text/plain; version=0.0.4; charset=utf-8')
      .header('cache-control', 'no-store')
      .send(text)
  })

  function mayRead(request: FastifyRequest): boolean {
    const { token } = needs.access
    const bearer = bearerOf(request.headers.authorization)
    if (token !== undefined && bearer !== undefined && sameSecret(bearer, token)) return true
    return isWithin(request.ip, trusted)
  }
}

function refusal({ token }: MetricsAccess): OAuthError {
  if (token === undefined) return new OAuthError('not_found', 'there is nothing at this address')
  return new OAuthError('invalid_token', 'the token that is set as metrics.token is required')
}

/**
 * Returns a function that resolves to counts from the database. The function queries the database at most once in
 * `countedFor` milliseconds.
 */
function createCounting({ countOpen, outbox, clock }: MetricsNeeds) {
  let last: { at: number; families: Promise<Family[]> } | undefined

  async function count(): Promise<Family[]> {
    const [open, undelivered] = await Promise.all([countOpen(clock.now()), outbox.countUndelivered()])
    return [
      gauge('doorbell_requests_open', 'Authentication requests that wait for a decision, in the database.', open),
      gauge(
        'doorbell_outbox_notifications',
        'Notifications in the outbox that are not delivered, by state.',
        Object.entries(undelivered).map(([state, value]) => ({ labels: { state }, value })),
      ),
    ]
  }

  return () => {
    if (last === undefined || steadyTime(clock) - last.at >= countedFor) {
      const families = count()
      last = { at: steadyTime(clock), families }
      families.catch(() => {
        last = undefined
      })
    }
    return last.families
  }
}

function hashingPlaces(value: number): Family {
  const help = 'Passwords and user codes that are being hashed or wait to be hashed.'
  return gauge('doorbell_hashing_places', help, value)
}

function heldPolls(value: number): Family {
  return gauge('doorbell_polls_held', 'Long polls that are held at the moment.', value)
}
