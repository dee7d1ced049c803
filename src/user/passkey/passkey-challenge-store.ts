import { fingerprint } from '../../platform/crypto.ts'
import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Database } from '../../platform/storage/database.ts'

export type PasskeyChallengeStore = ReturnType<typeof createPasskeyChallengeStore>

/** Stores the passkey challenges that were issued, until they are answered or expire. */
export function createPasskeyChallengeStore(database: Database) {
  return {
    /**
     * Stores a challenge. An earlier challenge for the same purpose is removed, so that repeated requests add no rows.
     *
     * @param purpose what the challenge may be used for, and by which user
     * @param expiresAt milliseconds since 1970
     */
    async keep(challenge: string, purpose: string, expiresAt: number): Promise<void> {
      const hash = fingerprint(challenge)
      const first = {
        sql: `insert into passkey_challenges (challenge_hash, purpose, expires_at) values ($1, $2, $3)
              returning challenge_hash`,
        values: [hash, purpose, expiresAt],
      }
      const others = {
        sql: 'delete from passkey_challenges where purpose = $1 and challenge_hash <> $2',
        values: [purpose, hash],
      }
      await database.step(first, { also: [others], lockKeys: purpose })
    },

    /**
     * Removes a challenge. Resolves to whether the challenge existed for this purpose and had not expired. Only one of
     * two simultaneous calls resolves to true.
     */
    async take(challenge: string, purpose: string, now: number): Promise<boolean> {
      const first = {
        sql: `delete from passkey_challenges where challenge_hash = $1 and purpose = $2 and expires_at > $3
              returning challenge_hash`,
        values: [fingerprint(challenge), purpose, now],
      }
      return (await database.step(first, { rowKeys: [purpose] })).length > 0
    },

    /** Removes at most `atMost` expired challenges. Resolves to their number. */
    async forgetExpired(now: number, atMost: number): Promise<number> {
      const expired = { where: 'expires_at <= $1', by: 'expires_at', values: [now] }
      const old = { table: 'passkey_challenges', key: 'challenge_hash', ...expired }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}
