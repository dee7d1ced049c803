/** Whether the server lives, and whether it can serve: for load balancers and for whoever is called at night. */
import type { FastifyInstance } from 'fastify'
import type { OutboxStore } from '../outbox/outbox-store.ts'
import type { Database } from '../storage/database.ts'

export interface HealthNeeds {
  database: Database
  outbox: OutboxStore
}

export function healthEndpoint(app: FastifyInstance, { database, outbox }: HealthNeeds): void {
  app.get('/health/live', (_request, reply) => reply.send({ status: 'live' }))

  app.get('/health/ready', async (_request, reply) => {
    try {
      const notifications = await outbox.count()
      return reply.send({
        status: 'ready',
        database: database.engine,
        hearing_changes: database.listening,
        notifications,
      })
    } catch {
      return reply.code(503).header('retry-after', '1').send({ status: 'not ready', database: 'away' })
    }
  })
}
