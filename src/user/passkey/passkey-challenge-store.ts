import { fingerprint } from '../../platform/crypto.ts'
import type { Database } from '../../platform/storage/database.ts'

export type PasskeyChallengeStore = ReturnType<typeof createPasskeyChallengeStore>

/** The challenges that authenticators were given, until they are answered. */
export function createPasskeyChallengeStore(database: Database) {
  return {
    /**
     * Takes the place of the one that was kept for the same purpose: who asks again and again makes no more rows.
     *
     * @param purpose what it may be answered for, and by whom
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

    /** Whether it is there, for this purpose, in time. Then it is gone: of forty who take it at once, one gets it. */
    async take(challenge: string, purpose: string, now: number): Promise<boolean> {
      const rows = await database.step({
        sql: `delete from passkey_challenges where challenge_hash = $1 and purpose = $2 and expires_at > $3
              returning challenge_hash`,
        values: [fingerprint(challenge), purpose, now],
      })
      return rows.length > 0
    },

    async forgetExpired(now: number): Promise<void> {
      await database.step({
        sql: 'delete from passkey_challenges where expires_at <= $1 returning challenge_hash',
        values: [now],
      })
    },
  }
}
