/**
 * The HTTP server to which all routes are added: timeouts, headers, error pages, metrics and load shedding of all its
 * responses.
 */
import { type FastifyInstance, fastify } from 'fastify'
import type { Config } from '../config/config.ts'
import { type CallerTimeouts, edge, edgeOptions, serverTimeouts } from '../platform/http/answer.ts'
import { nameCallers } from '../platform/http/caller-address.ts'
import { collectRoutes } from '../platform/http/mount.ts'
import { tlsOptions } from '../platform/http/tls.ts'
import { chooseLanguage, type Texts } from '../platform/i18n/texts.ts'
import { pageHeaders, renderError } from '../platform/pages/pages.ts'
import { profiles } from '../platform/security-profile.ts'
import type { Platform } from './platform.ts'

/** Returns a Fastify server without routes, and the list in which added routes are collected. */
export function composeHttpServer(
  { config, texts, profile, metrics, loadShedding, log }: Platform,
  patience?: CallerTimeouts,
) {
  const timeouts = serverTimeouts(patience)
  const app: FastifyInstance = fastify({
    ...edgeOptions,
    logger: false,
    ...(config.tls
      ? { https: { ...tlsOptions(config.tls, profile === profiles.core), ...timeouts } }
      : { http: timeouts }),
    forceCloseConnections: 'idle',
    requestTimeout: timeouts.requestTimeout,
  })
  edge(app, log, (acceptLanguage) => unavailablePage(texts, acceptLanguage), strictTransport(config))
  nameCallers(app, config.proxy.trust)
  app.addHook('onResponse', ({ method, routeOptions }, { statusCode: status, elapsedTime }, done) => {
    metrics.answered({ route: routeOptions.url ?? 'none', method, status }, elapsedTime / 1000)
    done()
  })
  const routes = collectRoutes(app)
  loadShedding.guard(app)
  return { app, routes }
}

/**
 * Returns no header in development: browsers store HSTS by host (RFC 6797), and other programs also use the host
 * `localhost`.
 */
function strictTransport({ issuer, development, hsts }: Config): Record<string, string> {
  if (!issuer.startsWith('https:') || development) return {}
  return { 'strict-transport-security': `max-age=${hsts.maxAge}` }
}

/** The page for browsers while the server is unavailable. */
function unavailablePage(texts: Texts, acceptLanguage: string | undefined) {
  const lang = chooseLanguage(acceptLanguage)
  const say = texts.in(lang)
  const values = { lang, say, title: say('error.title'), description: say('error.away') }
  return { headers: pageHeaders, text: renderError(values) }
}
