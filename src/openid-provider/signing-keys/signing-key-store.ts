import type { Database, Statement } from '../../platform/storage/database.ts'
import type { RowOf } from '../../platform/storage/row.ts'

/** Times are milliseconds since 1970. */
export interface KeptKey {
  kid: string
  algorithm: string
  generation: number
  /** JSON. */
  publicJwk: string
  /** Undefined if the key was revoked. */
  privateSealed: string | undefined
  /** Since this time, the key is in the published key set. */
  createdAt: number
  signsFrom: number
  /** Undefined until the next key is stored. */
  retirement: Retirement | undefined
  revokedAt: number | undefined
}

/**
 * The times, in milliseconds since 1970, from which a key no longer signs, is no longer published, and no longer
 * verifies.
 */
export interface Retirement {
  /** From this time, the next key signs instead of this key. */
  at: number
  /**
   * The time at which everything that the key signed has expired. At this time, the key is removed from the published
   * key set.
   */
  publishedUntil: number
  /** The time until which an ID token that the key signed is accepted as `id_token_hint`. */
  verifiesUntil: number
}

/** A key that signs now or later. */
export type NewKey = Omit<KeptKey, 'privateSealed' | 'retirement' | 'revokedAt'> & { privateSealed: string }

type KeyRow = RowOf<Omit<KeptKey, 'retirement'>> & {
  retired_at: number | null
  published_until: number | null
  verifies_until: number | null
}

export type SigningKeyStore = ReturnType<typeof createSigningKeyStore>

/**
 * Stores the signing keys, with the private keys encrypted. All nodes are notified of changes, under the topic
 * `signing_keys`.
 */
export function createSigningKeyStore(database: Database) {
  const announce = (kid: string) => [{ topic: 'signing_keys', key: kid }]

  return {
    /** Resolves to the keys of each algorithm, the newest generation first. */
    async list(): Promise<KeptKey[]> {
      const rows = await database.read<KeyRow>('select * from signing_keys order by algorithm, generation desc')
      return rows.map(toKey)
    },

    /**
     * Adds a key if no key of this generation exists. So if two nodes start at the same time, only one key is added.
     */
    async add(key: NewKey): Promise<void> {
      await database.step(insert(key), { announce: announce(key.kid) })
    },

    /**
     * Adds the next key, and sets the retirement of all earlier keys. Resolves to false, and changes nothing, if a key
     * of this generation exists because another process was faster.
     * @param revoke a key to revoke. Keys that do not sign yet are also revoked, because they were stored in the same
     *   table
     */
    async succeed(next: NewKey, retirement: Retirement, revoke?: { kid: string; now: number }): Promise<boolean> {
      const rows = await database.step(insert(next), {
        also: [...(revoke === undefined ? [] : [revokeBefore(next, revoke)]), retireBefore(next, retirement)],
        announce: announce(next.kid),
      })
      return rows.length > 0
    },

    /** Makes a published key sign now. Resolves to false if the key signs already or was revoked. */
    async hasten(next: KeptKey, now: number, retirement: Retirement): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `update signing_keys set signs_from = $2
                where kid = $1 and signs_from > $2 and revoked_at is null returning kid`,
          values: [next.kid, now],
        },
        { also: [retireBefore(next, retirement)], announce: announce(next.kid) },
      )
      return rows.length > 0
    },

    /**
     * If the lifetimes in the configuration were raised, extends how long keys are kept. Each key that still signs is
     * then kept until everything that it signs has expired. Lifetimes are in milliseconds.
     */
    async keepAtLeast(
      now: number,
      { tokensLast, hintsLast }: { tokensLast: number; hintsLast: number },
    ): Promise<void> {
      const longer = (column: string, value: string) =>
        `case when ${column} < ${value} then ${value} else ${column} end`
      await database.step(
        {
          sql: `update signing_keys set published_until = ${longer('published_until', 'retired_at + $2')},
                  verifies_until = ${longer('verifies_until', 'retired_at + $3')}
                where retired_at > $1 and revoked_at is null
                  and (published_until < retired_at + $2 or verifies_until < retired_at + $3) returning kid`,
          values: [now, tokensLast, Math.max(tokensLast, hintsLast)],
        },
        { announce: announce('') },
      )
    },

    /** Removes keys that no longer verify anything. Revoked keys stay stored, so that the list of keys shows them. */
    async forgetRemoved(now: number): Promise<void> {
      await database.step({
        sql: 'delete from signing_keys where verifies_until <= $1 and revoked_at is null returning kid',
        values: [now],
      })
    },
  }
}

function insert(key: NewKey): Statement {
  return {
    sql: `insert into signing_keys (kid, algorithm, generation, public_jwk, private_sealed, created_at, signs_from)
          values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning kid`,
    values: [key.kid, key.algorithm, key.generation, key.publicJwk, key.privateSealed, key.createdAt, key.signsFrom],
  }
}

/**
 * Returns the statement that sets the retirement of all earlier keys. Keys that already retire before `at` are not
 * changed.
 */
function retireBefore(
  { algorithm, generation }: Pick<KeptKey, 'algorithm' | 'generation'>,
  { at, publishedUntil, verifiesUntil }: Retirement,
): Statement {
  return {
    sql: `update signing_keys set retired_at = $3, published_until = $4, verifies_until = $5
          where algorithm = $1 and generation < $2 and revoked_at is null and (retired_at is null or retired_at > $3)`,
    values: [algorithm, generation, at, publishedUntil, verifiesUntil],
  }
}

function revokeBefore(
  { algorithm, generation }: Pick<KeptKey, 'algorithm' | 'generation'>,
  { kid, now }: { kid: string; now: number },
): Statement {
  return {
    sql: `update signing_keys set revoked_at = $4, private_sealed = null, published_until = $4, verifies_until = $4,
            retired_at = case when retired_at < $4 then retired_at else $4 end
          where algorithm = $1 and generation < $2 and revoked_at is null and (kid = $3 or signs_from > $4)`,
    values: [algorithm, generation, kid, now],
  }
}

function toKey(row: KeyRow): KeptKey {
  return {
    kid: row.kid,
    algorithm: row.algorithm,
    generation: row.generation,
    publicJwk: row.public_jwk,
    privateSealed: row.private_sealed ?? undefined,
    createdAt: row.created_at,
    signsFrom: row.signs_from,
    retirement:
      row.retired_at === null
        ? undefined
        : { at: row.retired_at, publishedUntil: row.published_until!, verifiesUntil: row.verifies_until! },
    revokedAt: row.revoked_at ?? undefined,
  }
}
