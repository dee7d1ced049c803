/** The privileges that migrations need on Postgres. */
import type { Database } from './database.ts'

/** What a role lacks. `statement` is for an administrator of Postgres. */
export type LackingPrivilege = { statement: string } | { owner: string }

/**
 * Resolves to what the role of this connection lacks for migrations, or to undefined if it lacks nothing:
 *
 * - `owner`: the role to which the tables belong. Only this role can change the tables
 * - `statement`: an SQL statement that creates the first schema of the `search_path`, or permits the role of this
 *   connection to use the schema and to create tables in it. Since Postgres 15, only the owner of a database may create
 *   tables in the schema `public`
 */
export async function lackingPrivilege({ engine, read }: Database): Promise<LackingPrivilege | undefined> {
  if (engine !== 'postgres') return undefined
  const [row] = await read<Privileges>(
    `select role, schema, "mayCreate", "otherOwner", wanted, to_regnamespace(wanted) is not null as "isWantedThere"
     from (
       select quote_ident(current_user) as role, quote_ident(current_schema()) as schema,
         has_schema_privilege(current_schema(), 'create') as "mayCreate",
         (select quote_ident(tableowner) from pg_tables where schemaname = current_schema()
           and tablename = 'doorbell_migrations' and not pg_has_role(tableowner, 'usage')) as "otherOwner",
         case when first = '"$user"' then quote_ident(current_user) else first end as wanted
       from (select trim(split_part(current_setting('search_path'), ',', 1)) as first) as path
     ) as each`,
  )
  const { role, schema, mayCreate, otherOwner, wanted, isWantedThere } = row!
  if (otherOwner !== null) return { owner: otherOwner }
  if (schema === null) {
    const statement = isWantedThere
      ? `grant usage, create on schema ${wanted} to ${role}`
      : `create schema ${wanted} authorization ${role}`
    return { statement }
  }
  return mayCreate ? undefined : { statement: `grant create on schema ${schema} to ${role}` }
}

/** Resolves to the statement that permits the role of this connection to use the tables of its schema. */
export async function statementThatPermitsUse({ read }: Database): Promise<string> {
  const [row] = await read<{ role: string; schema: string }>(
    'select quote_ident(current_user) as role, quote_ident(current_schema()) as schema',
  )
  return `grant select, insert, update, delete on all tables in schema ${row!.schema} to ${row!.role}`
}

interface Privileges {
  role: string
  /** The schema in which tables are created; null if there is none. */
  schema: string | null
  mayCreate: number | null
  /** The owner of the tables, if it is another role whose privileges this role does not have. */
  otherOwner: string | null
  /** The first schema of the `search_path`. */
  wanted: string
  isWantedThere: number
}
