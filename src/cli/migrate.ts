/** `doorbell migrate`: migrates the database to the schema of this version. */
import { existsSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { type MigrationStatus, migrate, migrationStatus, pendingSql } from '../platform/storage/migrate.ts'
import { type CommandContext, openCommandContext } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import {
  fileOfDatabase,
  loadSettings,
  nameOfDatabase,
  noDatabase,
  refuseEmptyFolder,
  type SettingOptions,
  sayWhich,
  withSettings,
} from './context/settings.ts'
import { examples, fromNow, iso, print, printJson, table } from './context/terminal.ts'

interface MigrateOptions extends SettingOptions {
  status?: boolean
  print?: boolean
  to?: string
  json?: boolean
}

export function addMigrate(program: Command): void {
  const command = program
    .command('migrate')
    .description('Migrate the database to the newest schema. (The server migrates a SQLite file at every start.)')
    .option('--status', 'only show which migrations have been applied')
    .option('--print', 'only print the SQL of the missing migrations, to review it or to execute it yourself')
    .addOption(new Option('--to <migration>', 'is refused').hideHelp())
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(withSettings(command), [
    ['npx doorbell migrate', 'apply missing migrations'],
    ['npx doorbell migrate --print > migration.sql', 'the SQL, for a review'],
    ['npx doorbell migrate --status --json', 'the applied migrations, for a script'],
  ])
}

async function run(options: MigrateOptions): Promise<void> {
  if (options.to !== undefined) throw new Failure(noOtherSchema)
  const onlyReads = options.status || options.print
  if (onlyReads) refuseEmptyFolder(options)
  const settings = await loadSettings(options)
  sayWhich(settings)
  const file = fileOfDatabase(settings.config.database)
  if (onlyReads && file !== undefined && !existsSync(file)) throw noDatabase(nameOfDatabase(settings.config.database))
  const work = options.status ? tell : options.print ? printSql : apply
  await openCommandContext(
    settings.config,
    async () => {},
    (context) => work(context, options),
  )
}

const noOtherSchema =
  'A version of Doorbell works with the schema of that version only, so "migrate" has no --to.\n' +
  'To use an older version again, restore the backup that was made before the upgrade.'

async function tell({ database }: CommandContext, { json }: MigrateOptions): Promise<void> {
  const status = await migrationStatus(database)
  if (json) printJson(forScripts(status))
  else print(table(['MIGRATION', 'APPLIED'], rowsOf(status)))
}

function forScripts({ applied, pending, unknown }: MigrationStatus) {
  return { applied: applied.map(({ name, appliedAt }) => ({ name, applied_at: iso(appliedAt) })), pending, unknown }
}

function rowsOf({ applied, pending, unknown }: MigrationStatus): string[][] {
  return [
    ...applied.map(({ name, appliedAt }) => {
      const remark = unknown.includes(name) ? '; unknown to this program' : ''
      return [name, `${iso(appliedAt)} (${fromNow(appliedAt)})${remark}`]
    }),
    ...pending.map((name) => [name, 'not applied: run "npx doorbell migrate"']),
  ]
}

/** Prints SQL comments, not sentences, so that the whole output can be executed. */
async function printSql({ database }: CommandContext, { json }: MigrateOptions): Promise<void> {
  await refuseNewer(database)
  const sql = await pendingSql(database)
  if (json) printJson({ sql })
  else print(sql === '' ? '-- Nothing to do: the schema is up to date.' : sql.trimEnd())
}

async function apply({ database, clock }: CommandContext, { json }: MigrateOptions): Promise<void> {
  await refuseNewer(database)
  const applied = await migrate(database, clock)
  if (json) printJson({ applied })
  else print(applied.length > 0 ? `Applied ${applied.join(', ')}.` : 'Nothing to do: the schema is up to date.')
}

async function refuseNewer(database: CommandContext['database']): Promise<void> {
  const { unknown } = await migrationStatus(database)
  if (unknown.length > 0) {
    throw new Failure(`The database is newer than this program (${unknown.join(', ')}). Use the newer Doorbell.`)
  }
}
