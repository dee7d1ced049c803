import type { Database } from '../../platform/storage/database.ts'

export interface ServerKey {
  name: string
  public: string
  sealed: string
  createdAt: number
}

export type ServerKeyStore = ReturnType<typeof createServerKeyStore>

/** Keys the server makes for itself. The private halves lie here sealed. */
export function createServerKeyStore(database: Database) {
  return {
    async find(name: string): Promise<Pick<ServerKey, 'public' | 'sealed'> | undefined> {
      const [row] = await database.read<{ public: string; sealed: string }>(
        'select public, sealed from server_keys where name = $1',
        [name],
      )
      return row
    },

    /** Adds a key, unless there is one of its name: of two nodes that start together, one's key is kept. */
    async add(key: ServerKey): Promise<void> {
      await database.step({
        sql: `insert into server_keys (name, public, sealed, created_at) values ($1, $2, $3, $4)
              on conflict do nothing returning name`,
        values: [key.name, key.public, key.sealed, key.createdAt],
      })
    },
  }
}
