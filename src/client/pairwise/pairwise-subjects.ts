/** Pairwise subjects (OpenID Connect Core §8.1): each sector gets its own subject for a user. */
import { createHmac } from 'node:crypto'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { ClientMetadata } from '../metadata/client-metadata.ts'
import { sectorOf } from '../metadata/sector.ts'
import type { PairwiseSubjectStore } from './pairwise-subject-store.ts'

export interface PairwiseSubjects {
  /**
   * Resolves to the `sub` of the user for this client. For a client without pairwise subjects, this is the user id. A
   * pairwise subject never changes, and is the same on all nodes. Without the key, the user id cannot be derived from
   * it.
   */
  subjectFor(client: ClientMetadata, userId: string): Promise<string>
  /**
   * Resolves to the id of the user that the subject identifies, or to undefined if the subject does not belong to the
   * client's sector.
   */
  userFor(client: ClientMetadata, subject: string): Promise<string | undefined>
}

/** Returns the functions that convert user ids to pairwise subjects, and subjects back to user ids. */
export function createPairwiseSubjects(needs: {
  subjects: PairwiseSubjectStore
  vault: Vault
  clock: Clock
}): PairwiseSubjects {
  const key = needs.vault.key('pairwise subjects')
  const subjectOf = (sector: string, userId: string) =>
    createHmac('sha256', key).update(`${sector}\0${userId}`).digest('base64url')

  return {
    async subjectFor(client, userId) {
      if (client.subject_type !== 'pairwise') return userId
      const subject = subjectOf(sectorOf(client)!, userId)
      await needs.subjects.remember(subject, userId, needs.clock.now())
      return subject
    },
    async userFor(client, subject) {
      if (client.subject_type !== 'pairwise') return subject
      const userId = await needs.subjects.find(subject)
      // A subject of another sector is not valid here.
      return userId !== undefined && subjectOf(sectorOf(client)!, userId) === subject ? userId : undefined
    },
  }
}
