/**
 * Applies changes of users in the configuration. A user who is no longer listed is removed. A user who is `disabled` is
 * locked. A user whose password was changed is signed out and notified. The commands that remove users, lock users and
 * set passwords have the same effects.
 */

import type { NoticesOfChange } from '../authentication-device/channels/account-notice.ts'
import { fingerprint, type Vault } from '../platform/crypto.ts'
import type { Database } from '../platform/storage/database.ts'
import type { ConfiguredUser } from '../user/user.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { createConfiguredUserStore } from './configured-user-store.ts'
import type { EndUser } from './end-user.ts'

/** The values and parts that `endUnnamedUsers` needs. */
export interface ConfiguredUserNeeds {
  database: Database
  endUser: EndUser
  noticesOfChange: NoticesOfChange
  vault: Vault
  now: number
}

/**
 * Removes, locks, unlocks and signs out users as the configuration requires. Runs at the start of each node, before the
 * node serves requests. If several nodes start at the same time, each change is made only once, because the transaction
 * of a change checks that no other node has changed the user since this node read the row of the user.
 */
export async function endUnnamedUsers(
  users: readonly ConfiguredUser[],
  { database, endUser, noticesOfChange, vault, now }: ConfiguredUserNeeds,
): Promise<void> {
  const store = createConfiguredUserStore(database)
  const named = new Set(users.map(({ id }) => id))
  const known = await store.list()
  const by = 'configuration'
  for (const id of known.keys()) if (!named.has(id)) await endUser(id, 'removed', { mustBe: 'configured', by })

  const hashed = users.map((user) => ({ ...user, passwordHash: hashOf(user, vault) }))
  const added = hashed.filter(({ id }) => known.get(id) === undefined)
  if (added.length > 0) await store.add(added, now)
  for (const { id, password, passwordHash } of hashed) {
    const before = known.get(id)
    if (before === undefined || before === passwordHash) continue
    const also = [store.settingPassword(id, passwordHash)]
    // If the password was removed and not replaced, the user is not notified, because nobody can sign in with a new
    // password.
    const notices = password === undefined ? [] : noticesOfChange({ type: 'password.set', userId: id })
    await endUser(id, 'signed_out', { mustBe: { withPassword: before }, by, also, notices })
  }
  const closed = await createUserGenerationStore(database).closedOf(users.map(({ id }) => id))
  const reopened = users.filter(({ id, disabled }) => !disabled && closed.has(id))
  if (reopened.length > 0) await store.reopen(reopened, now)
  for (const { id, disabled } of users) {
    if (disabled && !closed.has(id)) await endUser(id, 'locked', { mustBe: 'configured_open', by })
  }
}

/**
 * Returns the hash of a user's password. The hash is keyed, so that a reader of the table cannot test guesses at the
 * password. A user without a password also gets a hash, which differs from the hash of every password.
 */
function hashOf({ id, password }: ConfiguredUser, vault: Vault): string {
  const kept = password === undefined ? 'none' : `is ${password.normalize('NFKC')}`
  return vault.keyedHash(fingerprint(JSON.stringify(['password', id, kept])))
}
