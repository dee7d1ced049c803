/**
 * Removes users that the configuration no longer lists, and locks users that it disables. The commands that remove and
 * lock users have the same effect.
 */
import type { Database } from '../platform/storage/database.ts'
import type { ConfiguredUser } from '../user/user.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { createConfiguredUserStore } from './configured-user-store.ts'
import type { EndUser } from './end-user.ts'

/**
 * Removes, locks and unlocks users as the configuration requires. Runs at the start of each node, before the node
 * serves requests. If several nodes start at the same time, each change is made once.
 */
export async function endUnnamedUsers(
  users: readonly ConfiguredUser[],
  { database, endUser, now }: { database: Database; endUser: EndUser; now: number },
): Promise<void> {
  const store = createConfiguredUserStore(database)
  const named = new Set(users.map(({ id }) => id))
  const known = await store.list()
  const by = 'configuration'
  for (const id of known) if (!named.has(id)) await endUser(id, 'removed', { mustBe: 'configured', by })

  const knownOnes = new Set(known)
  const added = users.filter(({ id }) => !knownOnes.has(id)).map(({ id }) => id)
  if (added.length > 0) await store.add(added, now)
  const closed = await createUserGenerationStore(database).closedOf(users.map(({ id }) => id))
  const reopened = users.filter(({ id, disabled }) => !disabled && closed.has(id)).map(({ id }) => id)
  if (reopened.length > 0) await store.reopen(reopened, now)
  for (const { id, disabled } of users) {
    if (disabled && !closed.has(id)) await endUser(id, 'locked', { mustBe: 'configured', by })
  }
}
