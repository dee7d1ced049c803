/** Exports the data that is stored about a user, for the user. The export is readable and contains no secrets. */
import { isoOf } from '../platform/clock.ts'
import type { Database, Value } from '../platform/storage/database.ts'
import type { ConfiguredUser } from '../user/user.ts'
import { createUserDataStore, type KeptRow } from './user-data-store.ts'

/**
 * Resolves to the data about a user, by table, or to undefined if there is no data.
 *
 * @param configured the user's entry in the configuration, if there is one
 */
export async function exportUser(
  userId: string,
  configured: ConfiguredUser | undefined,
  { database }: { database: Database },
): Promise<Record<string, unknown> | undefined> {
  const kept = await createUserDataStore(database).find(userId)
  if (configured === undefined && Object.keys(kept).length === 0) return undefined
  const tables = Object.entries(kept).map(([table, rows]) => [table, rows.map(readable)])
  const { password, user_code, same_person, ...configuration } = configured ?? {}
  return { id: userId, ...(configured && { configuration }), ...Object.fromEntries(tables) }
}

/**
 * Returns a row in readable form: times as ISO 8601, flags as booleans, and JSON as objects. `auth_time` stays a number
 * of seconds (OpenID Connect Core §2). All other times are stored in milliseconds.
 */
function readable(row: KeptRow): Record<string, unknown> {
  const entries = Object.entries(row).filter(([, value]) => value !== null)
  return Object.fromEntries(entries.map(([name, value]) => [name, readableValue(name, value)]))
}

const times = /_at$|^since$|^paused_until$/
const flags = /^(has|is)_|^(disabled|reported)$/
const json = /^(claims|transports|amr|resources)$|_details$/

function readableValue(name: string, value: Value): unknown {
  if (times.test(name)) return isoOf(Number(value))
  if (flags.test(name)) return value === 1
  return json.test(name) ? JSON.parse(String(value)) : value
}
