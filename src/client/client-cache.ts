/** A cache for registered clients: each call of a client begins with finding it. */
import type { Clock } from '../platform/clock.ts'
import { createChangeTracker, type Snapshot } from '../platform/storage/change-tracker.ts'
import type { Database } from '../platform/storage/database.ts'
import type { Client } from './client.ts'
import type { ClientStore } from './client-store.ts'

/** Milliseconds that a client is cached without an announced change. */
const cachedForMs = 5_000
/** Cached clients; beyond this, the oldest entry is dropped. One takes about 2 kB. */
const most = 10_000

interface Known {
  client: Client
  snapshot: Snapshot
  until: number
}

/** Returns the same store with a cache. An announced change, from any node, takes effect at once. */
export function createKnownClients(
  clients: ClientStore,
  { database, clock }: { database: Pick<Database, 'listen' | 'epoch'>; clock: Clock },
): ClientStore {
  const known = new Map<string, Known>()
  const changes = createChangeTracker(database, 'client', (id) => {
    if (id === '') known.clear()
    else known.delete(id)
  })

  async function look(id: string): Promise<Client | undefined> {
    const snapshot = changes.snapshot()
    const client = await clients.find(id)
    known.delete(id)
    if (client === undefined || !changes.isUnchangedSince(snapshot, id)) return client
    if (known.size >= most) known.delete(known.keys().next().value!)
    known.set(id, { client: freeze(client), snapshot, until: clock.now() + cachedForMs })
    return client
  }

  return {
    ...clients,
    async find(id) {
      const found = known.get(id)
      if (found && clock.now() < found.until && changes.isUnchangedSince(found.snapshot, id)) return found.client
      return look(id)
    },
  }
}

/** All callers share the same object. */
function freeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const member of Object.values(value)) freeze(member)
  }
  return value
}
