/**
 * The schema is changed by numbered files, `migrations/0001_foundation.sql` and so on. Each file is applied once,
 * completely or not at all. A file that has been applied must not be edited: a further change of the schema needs a new
 * file.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../clock.ts'
import { fingerprint } from '../crypto.ts'
import type { Database, Run } from './database.ts'

/** A row of the migration history. `appliedAt` is in milliseconds since 1970. */
export interface AppliedMigration {
  number: number
  name: string
  fingerprint: string
  appliedAt: number
}

/** How the schema of a database compares with the migrations of this program. */
export interface MigrationStatus {
  applied: AppliedMigration[]
  /** Names of migrations that are not applied yet: the program is newer than the schema. */
  pending: string[]
  /** Names of applied migrations for which this program has no file: the schema is newer than the program. */
  unknown: string[]
}

interface Migration {
  number: number
  name: string
  text: string
}

/** The first migration. Only an empty database lacks it. */
export const firstMigration = '0001_foundation'

const ownFolder = fileURLToPath(new URL('./migrations/', import.meta.url))

/**
 * Applies the missing migrations, each in its own transaction.
 *
 * @returns the names of the migrations that this call applied
 * @throws if an applied migration file was changed, or a migration fails
 */
export async function migrate(database: Database, clock: Clock, folder = ownFolder): Promise<string[]> {
  const applied: string[] = []
  const before = await historyOf(database)
  for (const migration of await migrationsIn(folder)) {
    // Usually all migrations are already applied. To check this with one read is faster than with a transaction for
    // each migration.
    if (isIn(before, migration)) continue
    if (await database.exclusively((run) => apply(run, migration, clock))) applied.push(migration.name)
  }
  return applied
}

/** Resolves to the applied, pending and unknown migrations; changes nothing. */
export async function migrationStatus(database: Database, folder = ownFolder): Promise<MigrationStatus> {
  const migrations = await migrationsIn(folder)
  const applied = await historyOf(database)
  return {
    applied,
    pending: migrations.filter(({ number }) => !has(applied, number)).map(({ name }) => name),
    unknown: applied.filter(({ number }) => !has(migrations, number)).map(({ name }) => name),
  }
}

/**
 * Resolves to the SQL of the pending migrations, so that it can be reviewed, or executed by a database administrator with
 * `psql` or `sqlite3`; empty if none is pending. It has the same effect as `migrate`, and also fills the migration
 * history. If a migration fails, neither this migration nor a later one is applied.
 *
 * @throws if an applied migration file was changed
 */
export async function pendingSql(database: Database, folder = ownFolder): Promise<string> {
  const history = await historyOf(database)
  const migrations = await migrationsIn(folder)
  const pending = migrations.filter((migration) => !isIn(history, migration))
  if (pending.length === 0) return ''
  const { head, scriptOf } = scripts[database.engine]
  return [head, ...pending.map((each) => scriptOf(each, migrations[migrations.indexOf(each) - 1]))].join('\n')
}

const scripts = {
  sqlite: {
    // Without `.bail`, the program `sqlite3` would go on after an error, and commit the rest.
    head: '-- Execute with the program sqlite3.\n.bail on\n.timeout 60000\n',
    scriptOf: (migration: Migration) =>
      // Debian's SQLite 3.40 has no function for the time in milliseconds.
      scriptOf(migration, { begin: ['begin immediate;'], now: "strftime('%s', 'now') * 1000" }),
  },
  postgres: {
    head: '-- Execute with: psql --set ON_ERROR_STOP=1 --file …\n',
    scriptOf(migration: Migration, previous: Migration | undefined) {
      // Without ON_ERROR_STOP, `psql` goes on with the next transaction after an error.
      const check = previous && [
        `do $$ begin if not exists (select 1 from doorbell_migrations where number = ${previous.number}) then`,
        ` raise exception 'migration ${previous.name} has to be applied before'; end if; end $$;`,
      ]
      const begin = ['begin;', ...(check ? [check.join('')] : [])]
      return scriptOf(migration, { begin, now: 'extract(epoch from clock_timestamp()) * 1000' })
    },
  },
}

function scriptOf({ number, name, text }: Migration, { begin, now }: { begin: string[]; now: string }): string {
  return [
    `-- ${name}`,
    ...begin,
    ...(name === firstMigration ? [`${historyTable};`] : []),
    text.trim(),
    'insert into doorbell_migrations (number, name, fingerprint, applied_at)',
    `values (${number}, '${name}', '${fingerprint(text)}', cast(${now} as bigint));`,
    'commit;\n',
  ].join('\n')
}

/**
 * Applies the migration if no other process has applied it since the first check. @returns whether it was applied now
 */
async function apply(run: Run, migration: Migration, clock: Clock): Promise<boolean> {
  await run(historyTable)
  if (isIn(await history(run), migration)) return false
  try {
    for (const statement of statementsIn(migration.text)) await run(statement)
  } catch (error) {
    throw new Error(`migration ${migration.name} failed: ${(error as Error).message}`, { cause: error })
  }
  await run('insert into doorbell_migrations (number, name, fingerprint, applied_at) values ($1, $2, $3, $4)', [
    migration.number,
    migration.name,
    fingerprint(migration.text),
    clock.now(),
  ])
  return true
}

/**
 * Returns whether the migration was applied.
 *
 * @throws if a migration of the same number was applied with another name or content
 */
function isIn(history: AppliedMigration[], { number, name, text }: Migration): boolean {
  const before = history.find((each) => each.number === number)
  if (before === undefined) return false
  if (before.name === name && before.fingerprint === fingerprint(text)) return true
  throw new Error(`migration ${before.name} was changed after it had been applied; put the change into a new migration`)
}

const historyTable = `create table if not exists doorbell_migrations (
  number bigint primary key,
  name text not null,
  fingerprint text not null,
  applied_at bigint not null
)`

function history(run: Run): Promise<AppliedMigration[]> {
  return run('select number, name, fingerprint, applied_at as "appliedAt" from doorbell_migrations order by number')
}

async function historyOf(database: Database): Promise<AppliedMigration[]> {
  return (await hasHistory(database)) ? history(database.read) : []
}

async function hasHistory({ engine, read }: Database): Promise<boolean> {
  const sql =
    engine === 'sqlite'
      ? "select 1 from sqlite_master where name = 'doorbell_migrations'"
      : "select 1 where to_regclass('doorbell_migrations') is not null"
  return (await read(sql)).length > 0
}

async function migrationsIn(folder: string): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort()
  const migrations = await Promise.all(names.map((name) => readMigration(folder, name)))
  const twice = migrations.find(({ number }, index) => migrations[index - 1]?.number === number)
  if (twice) throw new Error(`two migrations have the number of ${twice.name}`)
  return migrations
}

/**
 * Reads a migration. Line endings depend on how the files were checked out, so a different line ending does not count
 * as a change.
 */
async function readMigration(folder: string, file: string): Promise<Migration> {
  const number = /^(\d{4})_[a-z0-9_]+\.sql$/.exec(file)?.[1]
  if (!number) throw new Error(`a migration must be named like 0001_foundation.sql, not ${file}`)
  const text = (await readFile(join(folder, file), 'utf8')).replaceAll('\r\n', '\n')
  return { number: Number(number), name: file.slice(0, -'.sql'.length), text }
}

/**
 * Splits a text at each semicolon that ends a line. Comment lines may also end with a semicolon and are removed first.
 */
export function statementsIn(text: string): string[] {
  return text
    .replace(/^\s*--.*$/gm, '')
    .split(/;\s*$/m)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '')
}

function has(list: { number: number }[], number: number): boolean {
  return list.some((one) => one.number === number)
}

/**
 * Throws if the database does not have the schema of this version.
 *
 * @throws {SchemaError} if a migration is pending, or if an applied migration is unknown to this program
 */
export async function refuseOtherSchema(database: Database): Promise<void> {
  const status = await migrationStatus(database)
  const { pending, unknown } = status
  if (pending.length === 0 && unknown.length === 0) return
  throw new SchemaError(
    pending.length > 0
      ? `the database ${describePending(status)}: run "doorbell migrate" with the configuration of this server, or serve with --migrate; an application calls createDoorbell(config, { migrate: true })`
      : `the database is newer than this program (${unknown.join(', ')}): run the newer Doorbell`,
  )
}

/** Returns what the database lacks, as the rest of a sentence that begins with "the database". */
export function describePending({ applied, pending }: MigrationStatus): string {
  return applied.length === 0 ? 'has no tables yet' : `lacks ${pending.join(', ')}`
}

/** Thrown if the database does not have the schema that this program needs. The message says what to do. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError'
}
