import type { Database } from '../storage/database.ts'

export interface KeptKey {
  kid: string
  algorithm: string
  generation: number
  /** JSON. */
  publicJwk: string
  privateSealed: string
  createdAt: number
  /** When it stopped signing. It still verifies what it signed. */
  retiredAt: number | undefined
}

interface KeyRow {
  kid: string
  algorithm: string
  generation: number
  public_jwk: string
  private_sealed: string
  created_at: number
  retired_at: number | null
}

export type SigningKeyStore = ReturnType<typeof createSigningKeyStore>

/** The signing keys. The private halves lie here sealed. */
export function createSigningKeyStore(database: Database) {
  return {
    /** Newest generation first. */
    async list(): Promise<KeptKey[]> {
      const rows = await database.read<KeyRow>('select * from signing_keys order by algorithm, generation desc')
      return rows.map((row) => ({
        kid: row.kid,
        algorithm: row.algorithm,
        generation: row.generation,
        publicJwk: row.public_jwk,
        privateSealed: row.private_sealed,
        createdAt: row.created_at,
        retiredAt: row.retired_at ?? undefined,
      }))
    },

    /** Adds a key, unless its generation exists: of two nodes that start together, one's key is kept. */
    async add(key: Omit<KeptKey, 'retiredAt'>): Promise<void> {
      await database.step({
        sql: `insert into signing_keys (kid, algorithm, generation, public_jwk, private_sealed, created_at)
              values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning kid`,
        values: [key.kid, key.algorithm, key.generation, key.publicJwk, key.privateSealed, key.createdAt],
      })
    },
  }
}
