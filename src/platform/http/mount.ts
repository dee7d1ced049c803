/** Mounts Doorbell in another server: as a plain handler, or as a Fastify plugin. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyPluginAsync, HTTPMethods } from 'fastify'
import type { Log } from '../log.ts'
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

/** Answers a request of a plain Node server. */
export function answerRaw(app: FastifyInstance, log: Log, request: IncomingMessage, response: ServerResponse): void {
  if (request.readableEnded) {
    // Another body parser has already read the body. Doorbell would wait for the body for ever.
    log.error({ event: 'mount.body_consumed' }, 'a body parser ran before Doorbell: mount Doorbell before it')
    response.writeHead(500, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error: 'server_error', error_description: 'the server is not set up correctly' }))
    return
  }
  route(app, request, response)
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
 * Returns a plugin that adds `routes` to another Fastify server. That server does not read the bodies, so that `app`
 * can read them.
 */
export function asPlugin(app: FastifyInstance, routes: readonly KnownRoute[]): FastifyPluginAsync {
  return async (host) => {
    host.removeAllContentTypeParsers()
    host.addContentTypeParser('*', (_request, _payload, done) => done(null))
    for (const { method, url } of routes) {
      host.route({
        method,
        url,
        exposeHeadRoute: false,
        handler(request, reply) {
          reply.hijack()
          route(app, request.raw, reply.raw)
        },
      })
    }
  }
}
