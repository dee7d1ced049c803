import type { Database, Statement } from '../platform/storage/database.ts'
import type { RowOf } from '../platform/storage/row.ts'
import { type OnUnreadable, parseStored, throwUnreadable } from '../platform/unreadable-values.ts'
import { plainNumber, plainNumberIn, storedNumber } from './phone-number.ts'
import { signOutLock } from './token-validity-store.ts'
import type { User } from './user.ts'

/** A user of the built-in directory, with the hash of the password. */
export interface KnownUser extends User {
  passwordHash?: string
}

type UserRow = RowOf<Omit<KnownUser, 'has_user_code'>>

/** Whether and by whom the id of a new user was used before. */
export interface Addition {
  /**
   * The values under which a removed user with this id may be stored: the id itself, and the keyed hash that replaces
   * the id of an erased user.
   */
  usedIds?: readonly string[]
  /** Whether the id belonged to the same person before. If so, the user is added although the id was used. */
  isSamePerson?: boolean
}

export type UserStore = ReturnType<typeof createUserStore>

/** The built-in user directory, for users added by command, or created when they first signed in elsewhere. */
export function createUserStore(database: Database, onUnreadable = throwUnreadable) {
  const toUser = (row: UserRow) => readUser(row, onUnreadable)

  return {
    async find(id: string): Promise<KnownUser | undefined> {
      const [row] = await database.read<UserRow>('select * from users where id = $1', [id])
      return row && toUser(row)
    },

    /**
     * Finds a user by an identifier that a client may send: id, username, e-mail address or phone number. If the stored
     * identifier is in small letters, it is found in any letter case; a user whose identifier has the same letter case
     * comes first. A phone number may have other visual separators than the stored number. If two users have the same
     * number with different separators, a user is found only if the identifier is spelt exactly like the stored number.
     */
    async findByIdentifier(identifier: string): Promise<KnownUser | undefined> {
      const [row, next] = await database.read<UserRow & { is_exact: number }>(
        `select users.*, case when id in ($1, $2) or username in ($1, $2) or email = $2 or phone_number = $1 then 1 else 0 end as is_exact
         from users
         where id in ($1, $2) or username in ($1, $2) or email = $2 or phone_number = $1 or ${plainNumberIn('phone_number')} = $3
         order by case when id = $1 then 0 when username = $1 then 1 else 2 end, is_exact desc limit 2`,
        [identifier, identifier.toLowerCase(), plainNumber(identifier) ?? null],
      )
      return row === undefined || (row.is_exact === 0 && next !== undefined) ? undefined : toUser(row)
    },

    async list(): Promise<KnownUser[]> {
      const rows = await database.read<UserRow>('select * from users order by id')
      return rows.map(toUser)
    },

    /**
     * Replaces `present` by a stronger hash of the same password. Does nothing if `present` is no longer the stored
     * hash.
     */
    async replacePasswordHash(id: string, present: string, stronger: string): Promise<void> {
      await database.step({
        sql: 'update users set password_hash = $3 where id = $1 and password_hash = $2 returning id',
        values: [id, present, stronger],
      })
    },

    /**
     * Adds a user. Resolves to whether the user was added. The user is not added if the id or one of the identifiers is
     * taken, or if the id belonged to another person before.
     */
    async add(
      user: KnownUser,
      now: number,
      { usedIds = [user.id], isSamePerson = false }: Addition = {},
    ): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `insert into users (id, username, email, phone_number, name, locale, password_hash, disabled, claims, created_at)
                select cast($1 as text), cast($2 as text), cast($3 as text), cast($4 as text), cast($5 as text),
                  cast($6 as text), cast($7 as text), cast($8 as bigint), cast($9 as text), cast($10 as bigint)
                where (cast($11 as bigint) = 1 or not exists (
                  select 1 from user_generations where is_closed = 1 and user_id in (select value from each($12))))
                  and not exists (select 1 from users where ${plainNumberIn('phone_number')} = $13)
                on conflict do nothing returning id`,
          values: [
            user.id,
            user.username ?? null,
            user.email?.toLowerCase() ?? null,
            user.phone_number === undefined ? null : storedNumber(user.phone_number),
            user.name ?? null,
            user.locale ?? null,
            user.passwordHash ?? null,
            user.disabled ? 1 : 0,
            user.claims ? JSON.stringify(user.claims) : null,
            now,
            isSamePerson ? 1 : 0,
            JSON.stringify(usedIds),
            plainNumber(user.phone_number ?? '') ?? null,
          ],
        },
        // Another transaction may be removing a user with this id. Without this lock, this transaction could wait for a
        // row that the removal changes, and then use outdated values of the row.
        { also: [reopening(user.id, usedIds, now)], lockKeys: signOutLock(user.id) },
      )
      return rows.length > 0
    },

    /**
     * Unlocks a user. Sessions, tokens and requests that the lock revoked stay revoked. Resolves to whether the user
     * exists.
     */
    async unlock(id: string, now: number): Promise<boolean> {
      const rows = await database.step(
        { sql: 'update users set disabled = 0 where id = $1 returning id', values: [id] },
        { also: [reopening(id, [id], now)] },
      )
      return rows.length > 0
    },

    /**
     * Returns the statement that sets a password. It is executed in the transaction that revokes all sessions and
     * tokens of the user.
     */
    settingPassword: (id: string, passwordHash: string): Statement => ({
      sql: 'update users set password_hash = $2 where id = $1',
      values: [id, passwordHash],
    }),
  }
}

/**
 * Returns the statement that unlocks a user, or makes the id of a removed user usable again. The generation stays the
 * same, because the lock or the removal has already begun a new generation.
 *
 * @param usedIds as in `Addition`
 */
function reopening(id: string, usedIds: readonly string[], now: number): Statement {
  return {
    sql: `update user_generations set user_id = $1, is_closed = 0, changed_at = $3, erased_at = null, removed_at = null
          where user_id in (select value from each($2))
            and (user_id = $1 or not exists (select 1 from user_generations known where known.user_id = $1))`,
    // The list of used ids includes the id itself, because Postgres would read the whole table for `user_id = $1 or
    // user_id in (…)`.
    values: [id, JSON.stringify([...new Set([id, ...usedIds])]), now],
  }
}

/** Converts a row. Claims that cannot be read are reported and left out. */
function readUser(row: UserRow, onUnreadable: OnUnreadable): KnownUser {
  const claims =
    row.claims === null ? undefined : parseStored<Record<string, unknown>>(row.claims, `users/${row.id}`, onUnreadable)
  return {
    id: row.id,
    ...(row.username !== null && { username: row.username }),
    ...(row.email !== null && { email: row.email }),
    ...(row.phone_number !== null && { phone_number: row.phone_number }),
    ...(row.name !== null && { name: row.name }),
    ...(row.locale !== null && { locale: row.locale }),
    ...(claims !== undefined && { claims }),
    ...(row.password_hash !== null && { passwordHash: row.password_hash }),
    disabled: row.disabled === 1,
  }
}
