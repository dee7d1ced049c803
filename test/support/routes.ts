/** Lists the routes of a running server. */
import { fastify } from 'fastify'
import { collectRoutes, type KnownRoute } from '../../src/platform/http/mount.ts'
import type { Stage } from './stage.ts'

/** Resolves to all routes that the server's Fastify plugin adds to another Fastify server. */
export async function routesOf({ doorbell }: Pick<Stage, 'doorbell'>): Promise<readonly KnownRoute[]> {
  const host = fastify()
  const routes = collectRoutes(host)
  await host.register(doorbell.fastify)
  await host.ready()
  await host.close()
  return routes
}
