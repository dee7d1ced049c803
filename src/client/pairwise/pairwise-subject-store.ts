import type { Database } from '../../platform/storage/database.ts'

export type PairwiseSubjectStore = ReturnType<typeof createPairwiseSubjectStore>

/** Stores the user of each pairwise subject, so that the user of an `id_token_hint` can be found. */
export function createPairwiseSubjectStore(database: Database) {
  return {
    async remember(subject: string, userId: string, now: number): Promise<void> {
      const first = {
        sql: `insert into pairwise_subjects (subject, user_id, created_at) values ($1, $2, $3)
              on conflict (subject) do nothing returning subject`,
        values: [subject, userId, now],
      }
      await database.step(first, { rowKeys: [`pairwise subject ${subject}`] })
    },

    async find(subject: string): Promise<string | undefined> {
      const [row] = await database.read<{ user_id: string }>(
        'select user_id from pairwise_subjects where subject = $1',
        [subject],
      )
      return row?.user_id
    },
  }
}
