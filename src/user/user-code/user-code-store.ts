import { type Enqueue, enqueueForOthers } from '../../outbox/enqueue.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import { createOutboxStore } from '../../outbox/outbox-store.ts'
import { deleteOldest } from '../../platform/storage/bounded-deletion.ts'
import type { Change, Database, SingleStatement, Statement } from '../../platform/storage/database.ts'
import { isNotOver } from '../../platform/storage/stored-period.ts'
import { isSignedIn, signedInLock } from '../token-validity-store.ts'

/** The code that the user set last: its hash, or undefined if the user removed the code. */
export interface KeptCode {
  hash: string | undefined
  /** Milliseconds since 1970. */
  setAt: number
}

/** A try: a client sends a code for a user. */
export interface Trying {
  userId: string
  clientId: string
  /**
   * When the try began, in milliseconds since 1970 by the clock of the database. All counters of the try store this
   * time, so that their locks end at the same time.
   */
  at: number
}

export interface TryLimits {
  /** Maximum number of tries of one client at one user's code. */
  maxTries: number
  /** Maximum number of wrong tries of one client at the codes of all users together. */
  maxTriesPerClient: number
  /**
   * Maximum number of wrong tries of all clients together at one user's code. Undefined if this limit does not apply to
   * this client.
   */
  maxTriesPerUser: number | undefined
  /** How long a lock lasts, in milliseconds. */
  lockFor: number
}

interface CodeRow {
  hash: string | null
  set_at: number
}

/** Messages that are sent if the code is changed, and the hash of the access token that must still be valid. */
export interface CodeChange {
  notices?: readonly OutboxMessage[]
  /** The hash of the user's access token. If given, the code is only changed while the token is valid. */
  tokenHash?: string | undefined
}

export type UserCodeStore = ReturnType<typeof createUserCodeStore>

/**
 * SQL: whether the user exists. A locked user counts as existing, so that an operator can set another code before
 * unlocking the user.
 */
const isThere = `(not exists (select 1 from user_generations where user_id = $1 and is_closed = 1)
  or exists (select 1 from users where id = $1) or exists (select 1 from configured_users where user_id = $1))`

const ofPair = ({ clientId, userId }: Trying) => `pair ${JSON.stringify([clientId, userId])}`
const ofClient = ({ clientId }: Trying) => `client ${clientId}`
const ofUser = ({ userId }: Pick<Trying, 'userId'>) => `user ${userId}`

/** Stores user codes, and counts the tries at codes. */
export function createUserCodeStore(
  database: Database,
  enqueue: Enqueue = enqueueForOthers(createOutboxStore(database)),
) {
  return { ...codesIn(database, enqueue), ...triesIn(database) }
}

function codesIn(database: Database, enqueue: Enqueue) {
  /** @param statement returns a row if the code was set */
  const set = (statement: Statement, userId: string, { notices = [], tokenHash }: CodeChange): Promise<boolean> =>
    enqueue(notices, async (adding, topics) => {
      const also = [forgetTriesAt(userId), ...adding]
      const lockKeys = signedInLock(userId, tokenHash)
      return (await database.step(statement, { also, announce: topics.map(ofCodes), lockKeys })).length > 0
    })

  return {
    async find(userId: string): Promise<KeptCode | undefined> {
      const [row] = await database.read<CodeRow>('select hash, set_at from user_codes where user_id = $1', [userId])
      return row && { hash: row.hash ?? undefined, setAt: row.set_at }
    },

    /**
     * Sets or removes the code of a user, even if the user has no code yet, and resets the counters of tries. Resolves
     * to whether the change was made. It is not made if the user was removed while the code was hashed, or if the
     * access token is no longer valid.
     *
     * @param change.notices messages about the change, sent only if the change was made
     */
    put: (userId: string, hash: string | undefined, now: number, change: CodeChange = {}): Promise<boolean> =>
      set(
        {
          sql: `insert into user_codes (user_id, hash, set_at)
                select cast($1 as text), cast($2 as text), cast($3 as bigint) where ${isThere} and ${isSignedIn('$4')}
                on conflict (user_id) do update set hash = excluded.hash, set_at = excluded.set_at returning user_id`,
          values: [userId, hash ?? null, now, change.tokenHash ?? null],
        },
        userId,
        change,
      ),

    /**
     * Does the same as `put`, but only if `present` is still the stored hash. If the code comes from the configuration,
     * no hash is stored, and `present` is undefined. Resolves to whether the code was changed.
     */
    replace: (
      userId: string,
      present: string | undefined,
      hash: string | undefined,
      now: number,
      change: CodeChange = {},
    ): Promise<boolean> =>
      set(
        {
          sql: `insert into user_codes (user_id, hash, set_at)
                select cast($1 as text), cast($2 as text), cast($3 as bigint) where ${isThere} and ${isSignedIn('$5')}
                on conflict (user_id) do update set hash = excluded.hash, set_at = excluded.set_at
                where user_codes.hash = $4 returning user_id`,
          values: [userId, hash ?? null, now, present ?? null, change.tokenHash ?? null],
        },
        userId,
        change,
      ),

    /**
     * Replaces `present` by a stronger hash of the same code. Does nothing if `present` is no longer the stored hash.
     */
    async replaceHash(userId: string, present: string, stronger: string): Promise<void> {
      await database.step({
        sql: 'update user_codes set hash = $3 where user_id = $1 and hash = $2 returning user_id',
        values: [userId, present, stronger],
      })
    },
  }
}

/** Counts the tries at codes. */
function triesIn(database: Database) {
  return {
    /**
     * Counts a client's try at a user's code before the code is checked, so that simultaneous tries cannot exceed the
     * limit. Resolves to false if one of these counters has reached its limit: that of this client and user, that of
     * the client, or (if `maxTriesPerUser` is set) that of the user. The code must then not be checked.
     */
    async begin(trying: Trying, limits: TryLimits): Promise<boolean> {
      const { userId, at } = trying
      const { sql, values } = noneLocked(trying, limits, 6)
      const counts = countsAt('$3', '$4')
      const first = {
        sql: `insert into user_code_tries (counter, user_id, tries, tried_at)
              select cast($1 as text), cast($2 as text), 1, cast($3 as bigint) where ${sql}
              on conflict (counter) do update set ${oneMore(counts)}
              where user_code_tries.tries < cast($5 as bigint) or not ${counts}
              returning counter`,
        values: [ofPair(trying), userId, at, limits.lockFor, limits.maxTries, ...values],
      }
      return (await database.step(first, { rowKeys: [triesKey(ofPair(trying))] })).length > 0
    },

    /**
     * Counts a wrong try for the client and for the user. Resolves to whether the client may learn the result. It must
     * not if other tries have locked the client or the user since this try began.
     */
    async wrong(trying: Trying, limits: TryLimits): Promise<boolean> {
      const counted = sharedCounters(trying, limits)
      const counts = countsAt('$2', '$3')
      const first = {
        // Every transaction locks the counter of the client before that of the user, so that two transactions cannot
        // deadlock.
        sql: `insert into user_code_tries (counter, user_id, tries, tried_at)
              select counter, user_id, 1, cast($2 as bigint)
              from rows($1) as wrong (counter text, user_id text) where true order by counter
              on conflict (counter) do update set ${oneMore(counts)}
              where not ${counts} or user_code_tries.tries
                < case when user_code_tries.user_id is null then cast($4 as bigint) else cast($5 as bigint) end
              returning counter`,
        values: [
          JSON.stringify(counted.map(({ counter, userId }) => ({ counter, user_id: userId }))),
          trying.at,
          limits.lockFor,
          limits.maxTriesPerClient,
          limits.maxTriesPerUser ?? null,
        ],
      }
      const rowKeys = counted.map(({ counter }) => triesKey(counter))
      return (await database.step(first, { rowKeys })).length === counted.length
    },

    /**
     * Resets the counter of this client and user after a right code. Resolves to whether the client may learn the
     * result. It must not if other tries have locked the client or the user since this try began.
     */
    async right(trying: Trying, limits: TryLimits): Promise<boolean> {
      const { sql, values } = noneLocked(trying, limits, 1)
      const options = { also: [forget(trying)], rowKeys: [triesKey(ofPair(trying))] }
      return (await database.step({ sql: `select 1 as free where ${sql}`, values }, options)).length > 0
    },

    /**
     * Removes at most `atMost` counters of tries that were last changed up to `before`, by the clock of the database.
     * `before` must be so early that these counters lock nothing any more. Resolves to the number of removed counters.
     */
    async forgetTries(before: number, atMost: number): Promise<number> {
      const over = { where: 'tried_at <= $1', by: 'tried_at', values: [before] }
      const old = { table: 'user_code_tries', key: 'counter', ...over }
      return (await database.step(deleteOldest(old, atMost))).length
    },
  }
}

const triesKey = (counter: string) => `tries ${counter}`

/**
 * Returns the counters that this try shares with tries of other clients or at other users' codes: the counter of the
 * client and, if `maxTriesPerUser` is set, the counter of the user. `most` is the number of wrong tries that locks a
 * counter.
 */
function sharedCounters(trying: Trying, { maxTriesPerClient, maxTriesPerUser }: TryLimits) {
  const ofThisClient = { counter: ofClient(trying), userId: null, most: maxTriesPerClient }
  if (maxTriesPerUser === undefined) return [ofThisClient]
  return [ofThisClient, { counter: ofUser(trying), userId: trying.userId, most: maxTriesPerUser }]
}

/**
 * Returns the SQL condition that none of the shared counters is locked. The parameters of the condition are numbered
 * from `first`.
 */
function noneLocked(trying: Trying, limits: TryLimits, first: number): SingleStatement {
  const counters = sharedCounters(trying, limits)
  const locked = counters.map(
    (_, number) =>
      `counter = $${first + 2 + 2 * number} and tries >= cast($${first + 3 + 2 * number} as bigint)
        and ${countsAt(`$${first}`, `$${first + 1}`)}`,
  )
  return {
    sql: `not exists (select 1 from user_code_tries where ${locked.join(' or ')})`,
    values: [trying.at, limits.lockFor, ...counters.flatMap(({ counter, most }) => [counter, most])],
  }
}

/** Returns the SQL condition that the tries of a counter have not expired. They expire `lockFor` after the last try. */
const countsAt = (now: string, lockFor: string) =>
  isNotOver({ begin: 'user_code_tries.tried_at', length: `cast(${lockFor} as bigint)` }, now)

/**
 * Returns the SQL that counts one more try.
 *
 * @param counts SQL: whether the earlier tries have not expired
 */
const oneMore = (counts: string) => `
  tries = case when ${counts} then user_code_tries.tries + 1 else 1 end,
  tried_at = case when ${counts} and user_code_tries.tried_at > excluded.tried_at
    then user_code_tries.tried_at else excluded.tried_at end`

const forget = (trying: Trying): Statement => ({
  sql: 'delete from user_code_tries where counter = $1',
  values: [ofPair(trying)],
})

/** Returns a notification of the other nodes that does not contain the id of the user. */
const ofCodes = (topic: string): Change => ({ topic, key: 'user_codes' })

const forgetTriesAt = (userId: string): Statement => ({
  sql: 'delete from user_code_tries where user_id = $1',
  values: [userId],
})
