/** Caches registered clients in memory, because each call of a client begins with a look-up of the client. */
import { type Clock, steadyTime } from '../platform/clock.ts'
import { createChangeTracker, type Snapshot } from '../platform/storage/change-tracker.ts'
import type { Database } from '../platform/storage/database.ts'
import type { Client } from './client.ts'
import type { ClientStore } from './client-store.ts'

/** Milliseconds after which a cached client is read again, even if no change was announced. */
const cachedForMs = 5_000
/** Maximum number of cached clients. If it is reached, the oldest entry is removed. One entry takes about 2 kB. */
const most = 10_000

interface Known {
  client: Client
  snapshot: Snapshot
  until: number
}

/**
 * Returns the client store with a `find` that reads from the cache. When a change to a client is announced, the client
 * is removed from the cache.
 */
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
    known.set(id, { client: freeze(client), snapshot, until: steadyTime(clock) + cachedForMs })
    return client
  }

  return {
    ...clients,
    async find(id) {
      const found = known.get(id)
      if (found && steadyTime(clock) < found.until && changes.isUnchangedSince(found.snapshot, id)) return found.client
      return look(id)
    },
  }
}

/** Freezes a cached client, because all callers share the same object. */
function freeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const member of Object.values(value)) freeze(member)
  }
  return value
}
