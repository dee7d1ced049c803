/** Opens the database for one command, beside a running server. */
import { existsSync } from 'node:fs'
import type { Config } from '../../config/config.ts'
import { type Audit, type AuditEvent, createAudit } from '../../platform/audit.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { createVault, type Vault } from '../../platform/crypto.ts'
import { createLog } from '../../platform/log.ts'
import type { Database } from '../../platform/storage/database.ts'
import { migrate, migrationStatus } from '../../platform/storage/migrate.ts'
import { openDatabase } from '../../platform/storage/open.ts'
import { Failure, isDebugging } from './failure.ts'
import {
  fileOfDatabase,
  loadSettings,
  nameOfDatabase,
  noDatabase,
  refuseEmptyFolder,
  type SettingOptions,
  sayWhich,
} from './settings.ts'

export interface CommandContext {
  config: Config
  database: Database
  vault: Vault
  clock: Clock
  /** Sends events to the configured audit hook and, if standard error is the log, to standard error. */
  audit: Audit
}

/** Runs `work` on a database that must exist. */
export async function withDatabase<Result>(
  options: SettingOptions,
  work: (context: CommandContext) => Promise<Result>,
): Promise<Result> {
  refuseEmptyFolder(options)
  const settings = await loadSettings(options)
  sayWhich(settings)
  const file = fileOfDatabase(settings.config.database)
  if (file !== undefined && !existsSync(file)) throw noDatabase(nameOfDatabase(settings.config.database))
  return openCommandContext(settings.config, refuseOtherSchema, work)
}

/** Runs `work` on a database. If its file does not exist, it is created, as by the first start of a server. */
export async function withNewDatabase<Result>(
  options: SettingOptions,
  work: (context: CommandContext) => Promise<Result>,
): Promise<Result> {
  const settings = await loadSettings(options)
  sayWhich(settings)
  return openCommandContext(settings.config, bringUpIfFile, work)
}

export async function openCommandContext<Result>(
  config: Config,
  prepare: (database: Database) => Promise<unknown>,
  work: (context: CommandContext) => Promise<Result>,
): Promise<Result> {
  const database = await openFor(config)
  const { audit, heard } = auditOf(config)
  try {
    await prepare(database)
    const result = await work({ config, database, vault: createVault(config.secret), clock: systemClock, audit })
    await heard()
    return result
  } finally {
    await database.close()
  }
}

/** Milliseconds that the command waits for the audit hook before it ends. */
const patience = 5_000

/**
 * Whether standard error is the log of a command: in production, unless it is a terminal, or if the environment asks for a
 * log. Otherwise a person reads it, together with the result.
 */
function isLogged({ development }: Config): boolean {
  return Boolean(process.env.DOORBELL_LOG_LEVEL) || !(development || process.stderr.isTTY)
}

function auditOf(config: Config): { audit: Audit; heard(): Promise<unknown> } {
  const { audit: hook, logLevel } = config
  const told: Promise<unknown>[] = []
  const listen = (event: AuditEvent) => {
    const telling = (async () => hook?.(event))()
    told.push(telling.catch(() => {}))
    return telling
  }
  return {
    audit: createAudit({
      clock: systemClock,
      log: createLog(isLogged(config) ? logLevel : 'silent'),
      listeners: [listen],
    }),
    async heard() {
      let cancel = () => {}
      const tooLong = new Promise<void>((resolve) => {
        cancel = systemClock.after(patience, resolve)
      })
      await Promise.race([Promise.all(told), tooLong])
      cancel()
    },
  }
}

export function openFor(config: Config): Promise<Database> {
  if (config.database === 'sqlite::memory:') {
    throw new Failure(
      'This configuration keeps everything in memory (sqlite::memory:), where only the server can read it.\n' +
        'Set "database" to "sqlite:./doorbell.db", for example.',
    )
  }
  return openDatabase(config.database, { log: createLog(isDebugging() ? 'debug' : 'warn'), clock: systemClock })
}

async function bringUpIfFile(database: Database): Promise<void> {
  if (database.engine === 'sqlite') await migrate(database, systemClock)
  await refuseOtherSchema(database)
}

async function refuseOtherSchema(database: Database): Promise<void> {
  const { pending, unknown } = await migrationStatus(database)
  if (pending.length > 0) {
    throw new Failure(`The database lacks ${pending.join(', ')}. Migrate it first: "npx doorbell migrate".`)
  }
  if (unknown.length > 0) {
    throw new Failure(`The database is newer than this program (${unknown.join(', ')}). Use the newer Doorbell.`)
  }
}
