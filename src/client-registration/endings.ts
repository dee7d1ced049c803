/** What ends with a client: its tokens, its open requests, and what it was still to be told. */
import { createRequestStore } from '../authentication-request/authentication-request-store.ts'
import { createOidcModelStore } from '../authorization-server/oidc-model-store.ts'
import { createOutboxStore } from '../outbox/outbox-store.ts'
import type { Database, Statement } from '../storage/database.ts'

export function endingsOf(database: Database): (clientId: string, now: number) => Statement[] {
  const models = createOidcModelStore(database)
  const requests = createRequestStore(database)
  const outbox = createOutboxStore(database)
  return (clientId, now) => [
    models.removeByClient(clientId),
    requests.endForClient(clientId, now),
    outbox.parkLane(clientId, ['ping', 'push'], 'the client is gone', now),
  ]
}
