import type { Database } from '../storage/database.ts'
import type { User } from './user.ts'
import { forgetCodeOf } from './user-code-store.ts'

/** A user of the built-in directory, with the hash of the password. */
export interface KnownUser extends User {
  passwordHash?: string
}

interface UserRow {
  id: string
  username: string | null
  email: string | null
  phone_number: string | null
  name: string | null
  locale: string | null
  password_hash: string | null
  disabled: number
  claims: string | null
}

export type UserStore = ReturnType<typeof createUserStore>

/** The built-in user directory, for users added by command. */
export function createUserStore(database: Database) {
  return {
    async find(id: string): Promise<KnownUser | undefined> {
      const [row] = await database.read<UserRow>('select * from users where id = $1', [id])
      return row && toUser(row)
    },

    /** Finds by what a client may know of a user: id, username, e-mail address or phone number. */
    async findByIdentifier(identifier: string): Promise<KnownUser | undefined> {
      const [row] = await database.read<UserRow>(
        `select * from users where id = $1 or username = $1 or email = $2 or phone_number = $1
         order by case when id = $1 then 0 else 1 end limit 1`,
        [identifier, identifier.toLowerCase()],
      )
      return row && toUser(row)
    },

    async list(): Promise<KnownUser[]> {
      const rows = await database.read<UserRow>('select * from users order by id')
      return rows.map(toUser)
    },

    /** Answers whether the user was added: not if the id or one of the identifiers is taken. */
    async add(user: KnownUser, now: number): Promise<boolean> {
      const rows = await database.step({
        sql: `insert into users (id, username, email, phone_number, name, locale, password_hash, disabled, claims, created_at)
              values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing returning id`,
        values: [
          user.id,
          user.username ?? null,
          user.email?.toLowerCase() ?? null,
          user.phone_number ?? null,
          user.name ?? null,
          user.locale ?? null,
          user.passwordHash ?? null,
          user.disabled ? 1 : 0,
          user.claims ? JSON.stringify(user.claims) : null,
          now,
        ],
      })
      return rows.length > 0
    },

    /** A disabled user is not asked, decides nothing, signs in nowhere and gets no tokens, from now on. */
    async setDisabled(id: string, disabled: boolean): Promise<boolean> {
      const rows = await database.step({
        sql: 'update users set disabled = $2 where id = $1 returning id',
        values: [id, disabled ? 1 : 0],
      })
      return rows.length > 0
    },

    /** Puts a stronger hash of the same password in the place of `present`. Not if the password was changed meanwhile. */
    async replacePasswordHash(id: string, present: string, stronger: string): Promise<void> {
      await database.step({
        sql: 'update users set password_hash = $3 where id = $1 and password_hash = $2 returning id',
        values: [id, present, stronger],
      })
    },

    async remove(id: string): Promise<boolean> {
      const rows = await database.step(
        { sql: 'delete from users where id = $1 returning id', values: [id] },
        { also: [forgetCodeOf(id)] },
      )
      return rows.length > 0
    },
  }
}

function toUser(row: UserRow): KnownUser {
  return {
    id: row.id,
    ...(row.username !== null && { username: row.username }),
    ...(row.email !== null && { email: row.email }),
    ...(row.phone_number !== null && { phone_number: row.phone_number }),
    ...(row.name !== null && { name: row.name }),
    ...(row.locale !== null && { locale: row.locale }),
    ...(row.claims !== null && { claims: JSON.parse(row.claims) as Record<string, unknown> }),
    ...(row.password_hash !== null && { passwordHash: row.password_hash }),
    disabled: row.disabled === 1,
  }
}
