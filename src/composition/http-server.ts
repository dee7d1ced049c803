/**
 * Builds the HTTP server to which all routes are added. The server sets timeouts, headers and error pages, measures all
 * responses, and limits the calls in progress.
 */
import { type FastifyInstance, fastify } from 'fastify'
import type { Config } from '../config/config.ts'
import { type CallerTimeouts, type ErrorPages, edge, edgeOptions, serverTimeouts } from '../platform/http/answer.ts'
import { basePathOf, rewriting, serveBelow } from '../platform/http/base-path.ts'
import { nameCallers } from '../platform/http/caller-address.ts'
import { collectRoutes } from '../platform/http/mount.ts'
import { tlsOptions } from '../platform/http/tls.ts'
import { chooseLanguage, type Say, type Texts } from '../platform/i18n/texts.ts'
import { pageHeaders, renderError } from '../platform/pages/pages.ts'
import { profiles } from '../platform/security-profile.ts'
import type { Platform } from './platform.ts'

/** Returns a Fastify server without routes, and the list of the routes that are added to the server later. */
export function composeHttpServer(
  { config, texts, profile, metrics, loadShedding, log }: Platform,
  patience?: CallerTimeouts,
) {
  const { ofNode, ...timeouts } = serverTimeouts(patience)
  const basePath = basePathOf(config.issuer)
  const addresses = [config.issuer, ...(config.mutualTls ? [config.mutualTls.issuer] : [])]
  // The longest path comes first, because one may begin with another.
  const basePaths = [...new Set(addresses.map(basePathOf))].filter((path) => path !== '').sort(byLength)
  const app: FastifyInstance = fastify({
    ...edgeOptions,
    logger: false,
    ...(config.tls ? { https: { ...tlsOptions(config.tls, profile === profiles.core), ...ofNode } } : { http: ofNode }),
    forceCloseConnections: 'idle',
    ...timeouts,
    ...rewriting(basePaths),
  })
  serveBelow(app, basePath)
  edge(app, log, errorPages(texts, basePath), strictTransport(config))
  nameCallers(app, config.proxy.trust)
  app.addHook('onResponse', ({ method, routeOptions }, { statusCode: status, elapsedTime }, done) => {
    metrics.answered({ route: routeOptions.url ?? 'none', method, status }, elapsedTime / 1000)
    done()
  })
  const routes = collectRoutes(app)
  loadShedding.guard(app)
  return { app, routes, basePaths }
}

const byLength = (one: string, other: string) => other.length - one.length

/**
 * Returns the header `Strict-Transport-Security`. In development, returns no header: browsers apply HSTS to all ports
 * of a host (RFC 6797), and other programs also use the host `localhost`.
 */
function strictTransport({ issuer, development, hsts }: Config): Record<string, string> {
  if (!issuer.startsWith('https:') || development) return {}
  return { 'strict-transport-security': `max-age=${hsts.maxAge}` }
}

function errorPages(texts: Texts, base: string): ErrorPages {
  function page(acceptLanguage: string | undefined, valuesFor: (say: Say) => Record<string, unknown>) {
    const lang = chooseLanguage(acceptLanguage)
    const say = texts.in(lang)
    const values = { base, lang, say, title: say('error.title'), link: toRequests(say), ...valuesFor(say) }
    return { headers: pageHeaders, text: renderError(values) }
  }
  const toRequests = (say: Say) => ({ href: '/', text: say('error.to_requests') })
  return {
    unavailable: (acceptLanguage, textKey = 'error.away') =>
      // The page has the address that was called, so the link repeats the call, or leads to the page of a form.
      page(acceptLanguage, (say) => ({ description: say(textKey), link: { href: '', text: say('error.try_again') } })),
    notFound: (acceptLanguage) =>
      page(acceptLanguage, (say) => ({ title: say('error.not_found_title'), description: say('error.not_found') })),
    failed: (acceptLanguage, id) => page(acceptLanguage, (say) => ({ description: say('error.failed', { id }) })),
  }
}
