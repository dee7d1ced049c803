/** Caches registered clients in memory, because each call of a client begins with a look-up of the client. */
import { type Clock, steadyTime } from '../platform/clock.ts'
import { createChangeTracker, type Snapshot } from '../platform/storage/change-tracker.ts'
import type { Database } from '../platform/storage/database.ts'
import { createWeighedCache } from '../platform/weighed-cache.ts'
import type { Client } from './client.ts'
import type { ClientStore } from './client-store.ts'

/** Milliseconds after which a cached client is read again, even if no notification of a change was received. */
const cachedForMs = 5_000
/**
 * About how many bytes the cached clients may take. Clients that registered themselves choose the size of their
 * metadata, and every caller can make the server cache such a client by sending its `client_id`. So these clients have
 * a cache of their own, and cannot displace the operator's clients.
 */
const mostBytes = { ofOperator: 24 * 1024 * 1024, selfRegistered: 8 * 1024 * 1024 }
/** About how many bytes a client takes in addition to its metadata. */
const bytesOfClient = 4_000
/** About how many bytes of memory a client takes for each character of its JSON. */
const bytesOfCharacter = 1.5

interface Known {
  client: Client
  snapshot: Snapshot
  until: number
}

/**
 * Returns the client store with a `find` that reads from the cache. A client is removed from the cache when a
 * notification of a change to it is received.
 */
export function createKnownClients(
  clients: ClientStore,
  { database, clock }: { database: Pick<Database, 'listen' | 'epoch'>; clock: Clock },
): ClientStore {
  const ofOperator = createWeighedCache<Known>(mostBytes.ofOperator)
  const selfRegistered = createWeighedCache<Known>(mostBytes.selfRegistered)
  const caches = [ofOperator, selfRegistered]
  const changes = createChangeTracker(database, 'client', (id) => {
    for (const cache of caches) {
      if (id === '') cache.clear()
      else cache.remove(id)
    }
  })

  async function look(id: string): Promise<Client | undefined> {
    const snapshot = changes.snapshot()
    const client = await clients.find(id)
    const now = steadyTime(clock)
    for (const cache of caches) {
      cache.remove(id)
      cache.removeOldestWhile(({ until }) => until <= now)
    }
    if (client === undefined || !changes.isUnchangedSince(snapshot, id)) return client
    const known = { client: freeze(client), snapshot, until: now + cachedForMs }
    const bytes = bytesOfClient + JSON.stringify(client).length * bytesOfCharacter
    const cache = client.registeredItself ? selfRegistered : ofOperator
    // The parameter `id` is not used as the key, because it may be a slice of a long request body. The key would then
    // keep the whole body in memory.
    cache.set(client.id, known, bytes)
    return client
  }

  return {
    ...clients,
    async find(id) {
      const found = ofOperator.get(id) ?? selfRegistered.get(id)
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
