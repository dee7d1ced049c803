/** Pairwise subjects (OpenID Connect Core §8.1): the same user, known to each sector by another name. */
import { createHmac } from 'node:crypto'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { ClientMetadata } from '../metadata/client-metadata.ts'
import { sectorOf } from '../metadata/sector.ts'
import type { PairwiseSubjectStore } from './pairwise-subject-store.ts'

export interface PairwiseSubjects {
  /** What a client calls the user. Always the same, on every node; nobody without our key can turn it round (PW-1). */
  subjectFor(client: ClientMetadata, userId: string): Promise<string>
  /** Whom a client means. What is no subject of its own leads to nobody. */
  userFor(client: ClientMetadata, subject: string): Promise<string | undefined>
}

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
      // Another sector's subject is nobody's here, even if it stands for somebody there.
      return userId !== undefined && subjectOf(sectorOf(client)!, userId) === subject ? userId : undefined
    },
  }
}
