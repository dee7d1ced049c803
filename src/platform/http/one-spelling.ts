/**
 * Accepts only one spelling of each address. Routers differ in what they accept: what one takes for `/oauth/token`
 * (`%74oken`, a trailing slash, another case) is another address for the next, and decisions by route, such as limits, could
 * be circumvented. So an address that is not spelled as its route is not found.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { refuseUnstorableAddress } from './outside-text.ts'

/** Answers calls that are not spelled as their route with `notFound`, and refuses addresses that cannot be stored. */
export function refuseOtherSpellings(
  app: FastifyInstance,
  notFound: (request: FastifyRequest, reply: FastifyReply) => void,
): void {
  const patterns = new Map<string, RegExp>()
  app.addHook('onRoute', ({ url }) => {
    if (/[:*]/.test(url)) patterns.set(url, patternOf(url))
  })
  app.addHook('onRequest', (request, reply, done) => {
    const { url } = request.routeOptions
    // The usual case: spelled as its route, without a query.
    if (url !== undefined && request.raw.url === url) return done()
    refuseUnstorableAddress(request.url)
    const path = targetOf(request.raw.url ?? '').path
    if (url === undefined || path === url || patterns.get(url)?.test(path)) return done()
    notFound(request, reply)
  })
}

/**
 * Returns path and query as received, undecoded. A request may contain a whole address (RFC 9112 §3.2.2); its host is ignored
 * here.
 */
export function targetOf(target: string): { path: string; search: string } {
  const origin = /^https?:\/\/[^/?#]*/i.exec(target)?.[0] ?? ''
  const query = target.indexOf('?', origin.length)
  if (query === -1) return { path: target.slice(origin.length), search: '' }
  return { path: target.slice(origin.length, query), search: target.slice(query) }
}

/** Returns the pattern of a route such as `/sign-in/:uid`: its segments exactly, any non-empty one for a parameter. */
function patternOf(route: string): RegExp {
  const parts = route.split(/(:\w+|\*)/).map((part) => {
    if (part === '*') return '.*'
    return part.startsWith(':') ? '[^/?#]+' : part.replaceAll(/[.+?^$()[\]{}|\\]/g, '\\$&')
  })
  return new RegExp(`^${parts.join('')}$`)
}
