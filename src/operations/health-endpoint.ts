/** Health checks for load balancers and operators: whether the process runs, and whether it can serve requests. */
import type { FastifyInstance } from 'fastify'
import type { Database } from '../platform/storage/database.ts'
import type { Readiness } from './readiness-store.ts'

export interface HealthNeeds {
  database: Pick<Database, 'engine' | 'listening'>
  readiness: Readiness
}

/**
 * Adds `/health/live` and `/health/ready`. Both routes need no authentication. They are exempt from load shedding,
 * because they cost little. They return no counts; the counts are in `/metrics`. Balancers call these routes every few
 * seconds. So only the first check of readiness, and each check with another status than the one before, is logged at
 * level info; all other calls are logged at debug.
 */
export function healthEndpoint(app: FastifyInstance, { database, readiness }: HealthNeeds): void {
  app.get('/health/live', (_request, reply) => {
    reply.isUsual = true
    return reply.send({ status: 'live' })
  })

  let last: string | undefined

  app.get('/health/ready', async (_request, reply) => {
    const state = app.life.isEnding ? 'ending' : await readiness.check()
    reply.isUsual = state === last
    last = state
    if (state === 'ending') {
      return reply.code(503).header('retry-after', '1').send({ status: 'not ready', server: 'ending' })
    }
    if (state !== 'ready')
      return reply.code(503).header('retry-after', '1').send({ status: 'not ready', database: state })
    return reply.send({ status: 'ready', database: database.engine, hearing_changes: database.listening })
  })
}
