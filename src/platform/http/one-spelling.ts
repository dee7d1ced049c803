/**
 * Accepts only one spelling of each path. Routers differ in the spellings that they accept: one router treats
 * `/oauth/%74oken`, `/oauth/token/` or `/OAuth/token` as `/oauth/token`, another router does not. With another
 * spelling, a caller could avoid rules that depend on the route, such as limits. So a path that is not spelled as its
 * route is answered with 404.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { refuseUnstorableAddress } from './outside-text.ts'

/** Calls `notFound` if the path of a request is not spelled as its route. Refuses URLs that contain an encoded NUL. */
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
    // The usual case: the path is spelled as its route, and there is no query.
    if (url !== undefined && request.raw.url === url) return done()
    refuseUnstorableAddress(request.url)
    const path = targetOf(request.raw.url ?? '').path
    if (url === undefined || path === url || patterns.get(url)?.test(path)) return done()
    notFound(request, reply)
  })
}

/**
 * Returns the path and the query of a request target as received, not decoded. The target may be a whole URL (RFC 9112
 * §3.2.2); the host in the URL is ignored.
 */
export function targetOf(target: string): { path: string; search: string } {
  const origin = target.startsWith('/') ? '' : (/^https?:\/\/[^/?#]*/i.exec(target)?.[0] ?? '')
  const query = target.indexOf('?', origin.length)
  if (query === -1) return { path: target.slice(origin.length), search: '' }
  return { path: target.slice(origin.length, query), search: target.slice(query) }
}

/** Returns the pattern of a route such as `/sign-in/:uid`. A parameter matches any non-empty segment. */
function patternOf(route: string): RegExp {
  const parts = route.split(/(:\w+|\*)/).map((part) => {
    if (part === '*') return '.*'
    return part.startsWith(':') ? '[^/?#]+' : part.replaceAll(/[.+?^$()[\]{}|\\]/g, '\\$&')
  })
  return new RegExp(`^${parts.join('')}$`)
}
