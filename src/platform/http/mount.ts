/** Mounts Doorbell in another server: as a plain handler, or as a Fastify plugin. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyPluginAsync, HTTPMethods } from 'fastify'
import type { Log } from '../log.ts'
import { withoutBasePath } from './base-path.ts'
import { useBody } from './request-body.ts'
import { jsonErrorHeaders, unavailable } from './unavailable.ts'

export interface KnownRoute {
  method: HTTPMethods[]
  url: string
}

/** Returns a list of routes. Every route that is added to `app` from now on is also added to the list. */
export function collectRoutes(app: FastifyInstance): readonly KnownRoute[] {
  const routes: KnownRoute[] = []
  app.addHook('onRoute', ({ method, url }) => {
    routes.push({ method: [method].flat() as HTTPMethods[], url })
  })
  return routes
}

/**
 * A handler for Node's `http.createServer`, for Express, Koa or Nest. With `next`, a request to an address that is not
 * Doorbell's is passed on, and otherwise answered with 404.
 */
export type Handler = (request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void) => void

/**
 * Returns the handler of `app`.
 * @param routes all routes of `app`
 * @param basePaths the paths of the issuer and of its aliases, without empty ones
 */
export function createHandler(
  app: FastifyInstance,
  { routes, basePaths }: { routes: readonly KnownRoute[]; basePaths: readonly string[] },
  log: Log,
): Handler {
  const isRoute = pathMatcher(routes)
  const isOurs = (request: IncomingMessage & { originalUrl?: string }) => {
    const { url = '/', originalUrl } = request
    const path = withoutBasePath(url, basePaths)
    // If Express has removed no path, it passes on all calls of the application. Then only addresses below the issuer
    // are ours.
    const isBeside = basePaths.length > 0 && path === url && originalUrl === url
    return !isBeside && isRoute(path)
  }
  return (request, response, next) => {
    if (next !== undefined && !isOurs(request)) return next()
    if (isAnswered(response)) return
    // A body parser of the other server may have read the body. Otherwise Doorbell would wait for the body for ever.
    if (request.readableEnded && hasBody(request) && !takeOver(request)) {
      log.error(
        { event: 'mount.body_consumed' },
        'the body was read before Doorbell, and request.body does not contain it: mount Doorbell before the body parser',
      )
      response.writeHead(500, jsonErrorHeaders)
      response.end(JSON.stringify({ error: 'server_error', error_description: 'the server is not set up correctly' }))
      return
    }
    // Koa sets 404 before it calls a handler.
    response.statusCode = 200
    route(app, request, response)
  }
}

/** Returns a function that returns whether a URL leads to one of the routes, with any method. */
function pathMatcher(routes: readonly KnownRoute[]): (url: string) => boolean {
  const urls = [...new Set(routes.map(({ url }) => url))]
  const paths = new Set(urls.filter((url) => !url.includes(':')))
  const patterns = urls
    .filter((url) => url.includes(':'))
    .map((url) => new RegExp(`^${url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/:\w+/g, '[^/]+')}$`))
  return (url) => {
    const [path = ''] = url.split('?', 1)
    return paths.has(path) || patterns.some((pattern) => pattern.test(path))
  }
}

/**
 * Returns whether the other server has answered the call, or its caller has gone. The other server may have done
 * something before, for instance asked a database, and its own time limit may have passed.
 */
function isAnswered(response: ServerResponse): boolean {
  return response.headersSent || response.writableEnded || response.destroyed
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Uses the body that a body parser has read. Returns false if there is none. */
function takeOver(request: IncomingMessage & { body?: unknown }): boolean {
  const body = bytesOf(request.body, request.headers['content-type'] ?? '')
  if (body !== undefined) useBody(request, body)
  return body !== undefined
}

/** Returns a parsed body as it may have been sent, or undefined if it is not known. */
function bytesOf(parsed: unknown, contentType: string): Buffer | undefined {
  if (Buffer.isBuffer(parsed)) return parsed
  if (typeof parsed === 'string') return Buffer.from(parsed)
  if (typeof parsed !== 'object' || parsed === null) return undefined
  if (!/^application\/x-www-form-urlencoded\b/i.test(contentType)) return Buffer.from(JSON.stringify(parsed))
  // A parameter that was sent twice is a list, and is refused if it may be sent once only.
  const pairs = Object.entries(parsed).flatMap(([name, value]) =>
    [value].flat().map((one) => [name, typeof one === 'string' ? one : JSON.stringify(one)]),
  )
  return Buffer.from(String(new URLSearchParams(pairs as [string, string][])))
}

/**
 * Answers a request. If Doorbell has been closed, the response is 503: the server in which Doorbell is mounted may
 * continue to run.
 */
function route(app: FastifyInstance, request: IncomingMessage, response: ServerResponse): void {
  if (!app.life.isShuttingDown) {
    app.routing(request, response)
    return
  }
  const { status, headers, body } = unavailable
  response.writeHead(status, { ...headers, ...app.commonHeaders, ...jsonErrorHeaders, connection: 'close' })
  response.end(JSON.stringify(body))
}

/**
 * Returns a plugin that adds `routes` to another Fastify server, except routes that this server has already. That server
 * does not read the bodies, so that `app` can read them. Without a prefix, the routes are added below the path of the
 * issuer.
 */
export function asPlugin(app: FastifyInstance, routes: readonly KnownRoute[]): FastifyPluginAsync {
  return async (host) => {
    const [prefixes, start] = host.prefix === '' ? [[], app.basePath] : [[host.prefix], '']
    host.removeAllContentTypeParsers()
    host.addContentTypeParser('*', (_request, _payload, done) => done(null))
    for (const { method: methods, url: path } of routes) {
      const url = start + path
      const method = methods.filter((each) => !host.hasRoute({ method: each, url }))
      if (method.length === 0) continue
      host.route({
        method,
        url,
        exposeHeadRoute: false,
        handler(request, reply) {
          reply.hijack()
          if (isAnswered(reply.raw)) return
          request.raw.url = withoutBasePath(request.raw.url ?? '/', prefixes)
          route(app, request.raw, reply.raw)
        },
      })
    }
  }
}
