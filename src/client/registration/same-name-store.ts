/**
 * Finds clients that registered themselves under the name of one of the operator's clients, or under a similar name.
 * Registration refuses such a name, but only if the operator's client already exists.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { atMostRows, type Database } from '../../platform/storage/database.ts'
import { clientPageSize } from '../client-store.ts'
import { comparedName, KnownNames } from '../metadata/similar-names.ts'

/** The id and the name of a client of the operator. Users may recognise the client by either of them. */
export interface NamedClient {
  client_id: string
  client_name?: string | undefined
}

/** A client of the operator, and one client that registered itself under the same name. */
export interface SameName {
  client: string
  registered: string
}

export type SameNameStore = ReturnType<typeof createSameNameStore>

/**
 * Upper limits for the number of names with signs that are compared, and for the number of comparisons. Because of
 * these limits, the server starts without a long delay.
 */
export const mostWithSigns = 10_000
export const mostComparisons = 500_000

export function createSameNameStore(database: Pick<Database, 'read'>) {
  /**
   * Finds, for each name, one client that registered itself under this name. Resolves to the ids of these clients, by
   * name. Names without such a client are left out.
   */
  async function findEqual(names: string[]): Promise<Map<string, string>> {
    // For each name, one index look-up finds the first stored name that is equal or greater. If many clients have the
    // same name, Postgres might read all of them for an equality condition. A space can separate the name from the id,
    // because neither contains a space.
    const rows = await database.read<{ name: string; first: string | null }>(
      `select value as name, (select compared_name || ' ' || id from clients
         where registration_token_hash is not null and compared_name >= value
         order by compared_name limit 1) as first
       from each($1)`,
      [JSON.stringify(names)],
    )
    return new Map(rows.map(({ name, first }) => [name, idIn(first, name)] as const).filter(isFound))
  }

  /** Yields the clients that registered themselves under a name in which signs may stand for letters. */
  async function* withSigns(most: number): AsyncGenerator<{ id: string; name: string }> {
    let after = ''
    for (let left = Math.ceil(most); left > 0; left -= clientPageSize) {
      const rows = await database.read<{ id: string; name: string }>(
        `select id, name_with_signs as name from clients
         where registration_token_hash is not null and name_with_signs is not null and id > $1
         order by id ${atMostRows(Math.min(left, clientPageSize))}`,
        [after],
      )
      yield* rows
      if (rows.length < clientPageSize) return
      after = rows.at(-1)!.id
      // Reads of SQLite are synchronous, so without this line no other work would run between two pages.
      await nextTurn()
    }
  }

  return {
    /**
     * Finds which of the given clients have a name or id that looks like the name of a client that registered itself.
     * Resolves to one pair for each client that was found.
     */
    async find(clients: readonly NamedClient[]): Promise<SameName[]> {
      const known = new KnownNames()
      const names = clients.flatMap(({ client_id: client, client_name: name }) => {
        known.set(client, [client, name ?? client])
        return [client, name ?? client].map((each) => ({ client, name: comparedName(each) }))
      })
      const asked = new Set(names.flatMap(({ name }) => name ?? []))
      if (asked.size === 0) return []
      const equal = await findEqual([...asked])
      const same = new Map(names.map(({ client, name }) => [client, equal.get(name ?? '')] as const).filter(isFound))
      const most = Math.min(mostWithSigns, mostComparisons / names.length)
      for await (const { id, name } of withSigns(most)) {
        for await (const client of known.idsLike(name)) if (!same.has(client)) same.set(client, id)
      }
      return [...same].map(([client, registered]) => ({ client, registered }))
    },
  }
}

const idIn = (first: string | null, name: string) =>
  first?.startsWith(`${name} `) ? first.slice(name.length + 1) : undefined

const isFound = (pair: readonly [string, string | undefined]): pair is [string, string] => pair[1] !== undefined

/** Returns the text about two clients with the same name, for the log, a command or a report. */
export function saySameName({ client, registered }: SameName): string {
  return `the client ${registered}, which registered itself, has the name of the client ${client}, or one that looks like it: users may confuse them`
}

/** Returns what the operator can do about two clients with the same name. */
export const adviceOnSameName = ({ registered }: SameName): string =>
  `if ${registered} is not yours: npx doorbell client remove ${registered}`
