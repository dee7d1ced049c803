import type { Database } from '../../platform/storage/database.ts'

/** A key pair as stored: `sealed` is the encrypted private key. `createdAt` is in milliseconds since 1970. */
export interface ServerKey {
  name: string
  public: string
  sealed: string
  createdAt: number
}

export type ServerKeyStore = ReturnType<typeof createServerKeyStore>

/** Stores key pairs that the server generates for itself. The private keys are encrypted. */
export function createServerKeyStore(database: Database) {
  return {
    async find(name: string): Promise<Pick<ServerKey, 'public' | 'sealed'> | undefined> {
      const [row] = await database.read<{ public: string; sealed: string }>(
        'select public, sealed from server_keys where name = $1',
        [name],
      )
      return row
    },

    /** Adds a key if no key with the same name exists. If two nodes start at the same time, only one key is added. */
    async add(key: ServerKey): Promise<void> {
      await database.step({
        sql: `insert into server_keys (name, public, sealed, created_at) values ($1, $2, $3, $4)
              on conflict do nothing returning name`,
        values: [key.name, key.public, key.sealed, key.createdAt],
      })
    },
  }
}
