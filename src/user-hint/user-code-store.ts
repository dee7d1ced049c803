import type { Database, Statement } from '../storage/database.ts'

/** What a user said last of the code: its hash, or nothing if it was removed. */
export interface KeptCode {
  hash: string | undefined
  /** Milliseconds since 1970. */
  setAt: number
}

export interface TryLimits {
  /** Tries at one user's code. */
  maxTries: number
  /** Wrong tries of one client, whoever the users are. */
  maxTriesPerClient: number
  /** Milliseconds. */
  lockFor: number
}

interface CodeRow {
  hash: string | null
  set_at: number
}

export type UserCodeStore = ReturnType<typeof createUserCodeStore>

const ofUser = (userId: string) => `user ${userId}`
const ofClient = (clientId: string) => `client ${clientId}`

/** The codes of users, and the tries at them. */
export function createUserCodeStore(database: Database) {
  return {
    async find(userId: string): Promise<KeptCode | undefined> {
      const [row] = await database.read<CodeRow>('select hash, set_at from user_codes where user_id = $1', [userId])
      return row && { hash: row.hash ?? undefined, setAt: row.set_at }
    },

    /** Sets or removes a code, whatever it was. What was tried at the old one counts no more. */
    async put(userId: string, hash: string | undefined, now: number): Promise<void> {
      await database.step(
        {
          sql: `insert into user_codes (user_id, hash, set_at) values ($1, $2, $3)
                on conflict (user_id) do update set hash = excluded.hash, set_at = excluded.set_at returning user_id`,
          values: [userId, hash ?? null, now],
        },
        { also: [forgetTriesAt(userId)] },
      )
    },

    /**
     * The same, but only if the code is still the one whose hash is `present`. Without one there is no row: the code was
     * the configuration's. Answers whether it was.
     */
    async replace(
      userId: string,
      present: string | undefined,
      hash: string | undefined,
      now: number,
    ): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `insert into user_codes (user_id, hash, set_at) values ($1, $2, $3)
                on conflict (user_id) do update set hash = excluded.hash, set_at = excluded.set_at
                where user_codes.hash = $4 returning user_id`,
          values: [userId, hash ?? null, now, present ?? null],
        },
        { also: [forgetTriesAt(userId)] },
      )
      return rows.length > 0
    },

    /**
     * Counts a try before anybody looks whether it is right, so that of many at once no more than are allowed are looked
     * at. Answers whether it may go on: not while the user's code or the client is locked.
     */
    async begin(userId: string, clientId: string, now: number, limits: TryLimits): Promise<boolean> {
      const rows = await database.step({
        sql: `insert into user_code_tries (counter, tries, tried_at)
              select cast($1 as text), 1, cast($3 as bigint)
              where not exists (select 1 from user_code_tries
                                where counter = $2 and tries >= cast($6 as bigint) and tried_at > cast($4 as bigint))
              on conflict (counter) do update set
                tries = case when user_code_tries.tried_at <= $4 then 1 else user_code_tries.tries + 1 end,
                tried_at = excluded.tried_at
              where user_code_tries.tries < cast($5 as bigint) or user_code_tries.tried_at <= $4
              returning counter`,
        values: [
          ofUser(userId),
          ofClient(clientId),
          now,
          now - limits.lockFor,
          limits.maxTries,
          limits.maxTriesPerClient,
        ],
      })
      return rows.length > 0
    },

    /** The try was wrong: it counts for the client too. Answers whether it may hear so: not if it is locked meanwhile. */
    async wrong(clientId: string, now: number, { maxTriesPerClient, lockFor }: TryLimits): Promise<boolean> {
      const rows = await database.step({
        sql: `insert into user_code_tries (counter, tries, tried_at) values ($1, 1, $2)
              on conflict (counter) do update set
                tries = case when user_code_tries.tried_at <= $3 then 1 else user_code_tries.tries + 1 end,
                tried_at = excluded.tried_at
              where user_code_tries.tries < cast($4 as bigint) or user_code_tries.tried_at <= $3
              returning counter`,
        values: [ofClient(clientId), now, now - lockFor, maxTriesPerClient],
      })
      return rows.length > 0
    },

    /**
     * The try was right: the user is there, and what was tried before was theirs, or has failed. Answers whether the
     * client may hear so: not if others of its tries at the same time have locked it meanwhile.
     */
    async right(
      userId: string,
      clientId: string,
      now: number,
      { maxTriesPerClient, lockFor }: TryLimits,
    ): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `select 1 as free where not exists (select 1 from user_code_tries
                where counter = $1 and tries >= cast($2 as bigint) and tried_at > cast($3 as bigint))`,
          values: [ofClient(clientId), maxTriesPerClient, now - lockFor],
        },
        { also: [forgetTriesAt(userId)] },
      )
      return rows.length > 0
    },

    /** Tries that lock nothing any more. */
    forgetTries: (before: number) =>
      database.step({
        sql: 'delete from user_code_tries where tried_at <= $1 returning counter',
        values: [before],
      }),
  }
}

const forgetTriesAt = (userId: string): Statement => ({
  sql: 'delete from user_code_tries where counter = $1 returning counter',
  values: [ofUser(userId)],
})

/** For the step that removes a user: whoever is called the same later has no code. */
export const forgetCodeOf = (userId: string): Statement => ({
  sql: 'delete from user_codes where user_id = $1',
  values: [userId],
})
