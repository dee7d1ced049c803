/**
 * Each address has one spelling. Routers are generous in ways that differ: what one takes for `/oauth/token` (`%74oken`,
 * a slash at the end, another case) is something else for the next, and whatever is decided by the route, as who has how
 * many places, could be walked around. So what is not spelled as its route is not there.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { refuseUnstorableAddress } from './outside-text.ts'

/** Answers calls that are not spelled as their route with `notFound`, and refuses addresses that cannot be kept. */
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
    // Most calls are spelled as their route, and have no query.
    if (url !== undefined && request.raw.url === url) return done()
    refuseUnstorableAddress(request.url)
    const path = targetOf(request.raw.url ?? '').path
    if (url === undefined || path === url || patterns.get(url)?.test(path)) return done()
    notFound(request, reply)
  })
}

/**
 * Path and query as they came, undecoded. A request may name the whole address (RFC 9112 §3.2.2); whose it says it is
 * means nothing here.
 */
export function targetOf(target: string): { path: string; search: string } {
  const origin = /^https?:\/\/[^/?#]*/i.exec(target)?.[0] ?? ''
  const query = target.indexOf('?', origin.length)
  if (query === -1) return { path: target.slice(origin.length), search: '' }
  return { path: target.slice(origin.length, query), search: target.slice(query) }
}

/** `/sign-in/:uid` → its own segments to the letter, and one that is not empty for each parameter. */
function patternOf(route: string): RegExp {
  const parts = route.split(/(:\w+|\*)/).map((part) => {
    if (part === '*') return '.*'
    return part.startsWith(':') ? '[^/?#]+' : part.replaceAll(/[.+?^$()[\]{}|\\]/g, '\\$&')
  })
  return new RegExp(`^${parts.join('')}$`)
}
