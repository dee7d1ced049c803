import { setImmediate as nextTurn } from 'node:timers/promises'
import { atMostRows, type Database } from '../platform/storage/database.ts'
import { parseStored, throwUnreadable } from '../platform/unreadable-values.ts'
import { type ClientRow, clientPageSize } from './client-store.ts'
import type { ClientMetadata } from './metadata/client-metadata.ts'

/** The names by which users may recognise a client: its id and its `client_name`. */
export interface ClientNames {
  id: string
  names: string[]
}

type NameRow = Pick<ClientRow, 'id' | 'metadata'>

export type OperatorNameStore = ReturnType<typeof createOperatorNameStore>

/**
 * The names of the clients that the operator registered. A client whose stored metadata cannot be parsed has only its
 * id.
 */
export function createOperatorNameStore(database: Pick<Database, 'read'>, onUnreadable = throwUnreadable) {
  function toNames({ id, metadata }: NameRow): ClientNames {
    const { client_name: name } = parseStored<Partial<ClientMetadata>>(metadata, `clients/${id}`, onUnreadable) ?? {}
    return { id, names: name === undefined ? [id] : [id, name] }
  }

  return {
    /** Yields the names of all clients of the operator in pages, ordered by id. */
    async *pages(): AsyncGenerator<ClientNames[]> {
      for (let after = ''; ; ) {
        const rows = await database.read<NameRow>(
          `select id, metadata from clients where registration_token_hash is null and id > $1
           order by id ${atMostRows(clientPageSize)}`,
          [after],
        )
        if (rows.length > 0) yield rows.map(toNames)
        if (rows.length < clientPageSize) return
        after = rows.at(-1)!.id
        // Reads of SQLite are synchronous, so without this line no other work would run between two pages.
        await nextTurn()
      }
    },

    /** Resolves to the names of the clients with these ids. Leaves out clients that the operator did not register. */
    async findAll(ids: string[]): Promise<ClientNames[]> {
      const rows = await database.read<NameRow>(
        `select id, metadata from clients where registration_token_hash is null
           and id in (select value from each($1))`,
        [JSON.stringify(ids)],
      )
      return rows.map(toNames)
    },
  }
}
