/**
 * The path of the issuer, for example `/tenants/bank` in `https://id.example.com/tenants/bank`. All addresses of this
 * server begin with it. The rest of the code knows only the paths after it, such as `/oauth/token`.
 *
 * A proxy may keep this path or remove it before it forwards a call, and so may a server in which Doorbell is mounted.
 * So this server accepts each address with and without it.
 */
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import { targetOf } from './one-spelling.ts'

/** RFC 8414 §3.1: the path of the issuer is appended to this path, and not put before it. */
const authorizationServerMetadata = '/.well-known/oauth-authorization-server'

/** Returns the path of an issuer. The path is empty if the issuer has none. */
export function basePathOf(issuer: string | URL): string {
  return (typeof issuer === 'string' ? new URL(issuer) : issuer).pathname.replace(/\/+$/, '')
}

/**
 * Returns a request target without the path of the issuer.
 *
 * @param target a path with or without a query, for example `/tenants/bank/oauth/token`
 * @param basePaths the paths of the issuer and of its aliases, without empty ones
 */
export function withoutBasePath(target: string, basePaths: readonly string[]): string {
  if (basePaths.length === 0) return target
  const { path, search } = targetOf(target)
  for (const basePath of basePaths) {
    if (path === basePath) return `/${search}`
    if (path.startsWith(`${basePath}/`)) return path.slice(basePath.length) + search
    if (path === authorizationServerMetadata + basePath) return authorizationServerMetadata + search
  }
  return target
}

/** Returns the options with which Fastify routes calls without the path of the issuer. */
export function rewriting(basePaths: readonly string[]): Pick<FastifyServerOptions, 'rewriteUrl'> {
  return basePaths.length === 0 ? {} : { rewriteUrl: ({ url = '/' }) => withoutBasePath(url, basePaths) }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The path of the issuer. Pages put it before the paths in their links. Empty if the issuer has no path. */
    basePath: string
  }
}

/** Sets `app.basePath`, and puts it before each redirect to a path of this server. */
export function serveBelow(app: FastifyInstance, basePath: string): void {
  app.decorate('basePath', basePath)
  if (basePath === '') return
  app.addHook('onSend', (_request, reply, _payload, done) => {
    const location = reply.getHeader('location')
    if (typeof location === 'string' && location.startsWith('/')) reply.header('location', basePath + location)
    done()
  })
}
