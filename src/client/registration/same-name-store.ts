/**
 * Finds clients that registered themselves under the name of one of the operator's clients. At registration such a name is
 * refused, but the operator may add the other client later.
 */
import type { Database } from '../../platform/storage/database.ts'
import { comparedName } from '../metadata/similar-names.ts'

/** The id and name of a client of the operator. Users may recognise the client by both. */
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

export function createSameNameStore(database: Pick<Database, 'read'>) {
  return {
    /** Resolves to those clients whose name or id is the name of a client that registered itself. */
    async find(clients: readonly NamedClient[]): Promise<SameName[]> {
      const names = clients.flatMap(({ client_id: client, client_name: name }) =>
        [client, name ?? client].map((each) => ({ client, name: comparedName(each) })),
      )
      const asked = new Set(names.flatMap(({ name }) => name ?? []))
      if (asked.size === 0) return []
      // One look-up in the index for each name: the first name that is not less. If the condition were equality, Postgres
      // might read all clients where many have the same name. Neither names in this form nor ids contain a space.
      const rows = await database.read<{ name: string; first: string | null }>(
        `select value as name, (select compared_name || ' ' || id from clients
           where registration_token_hash is not null and compared_name >= value
           order by compared_name limit 1) as first
         from each($1)`,
        [JSON.stringify([...asked])],
      )
      const found = new Map(rows.map(({ name, first }) => [name, idIn(first, name)]))
      const same = new Map(names.map(({ client, name }) => [client, found.get(name ?? '')] as const).filter(isFound))
      return [...same].map(([client, registered]) => ({ client, registered }))
    },
  }
}

const idIn = (first: string | null, name: string) =>
  first?.startsWith(`${name} `) ? first.slice(name.length + 1) : undefined

const isFound = (pair: readonly [string, string | undefined]): pair is [string, string] => pair[1] !== undefined

/** What a log, a command or a report says about such a client. */
export function saySameName({ client, registered }: SameName): string {
  return `the client ${registered}, which registered itself, has the name of the client ${client}: users may confuse them`
}

/** What the operator can do about it. */
export const adviceOnSameName = ({ registered }: SameName): string =>
  `if ${registered} is not yours: npx doorbell client remove ${registered}`
