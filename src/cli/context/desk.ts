/** Opens the database for one command. A server may use the same database at the same time. */
import { existsSync } from 'node:fs'
import type { Config } from '../../config/config.ts'
import { createSigningKeyStore } from '../../openid-provider/signing-keys/signing-key-store.ts'
import { signingKeyAad } from '../../openid-provider/signing-keys/signing-keys.ts'
import { type Audit, type AuditEvent, createAudit } from '../../platform/audit.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { createVault, type Vault } from '../../platform/crypto.ts'
import { createLog, type Log } from '../../platform/log.ts'
import type { Database } from '../../platform/storage/database.ts'
import { describePending, migrate, migrationStatus } from '../../platform/storage/migrate.ts'
import { openDatabase } from '../../platform/storage/open.ts'
import { Failure, isDebugging, sentence } from './failure.ts'
import { adviceOnOtherSecret } from './other-secret.ts'
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
  /** Writes to standard error if `isLogged` returns true. If not, log lines are discarded. */
  log: Log
  /**
   * Sends events to the configured audit hook. If `isLogged` returns true, events are also written to standard error.
   */
  audit: Audit
}

/**
 * Opens the database of the configuration, runs `work`, and closes the database. Throws if the database does not exist.
 */
export async function withDatabase<Result>(
  options: SettingOptions,
  work: (context: CommandContext) => Promise<Result>,
): Promise<Result> {
  refuseEmptyFolder(options)
  const settings = await loadSettings(options)
  sayWhich(settings)
  const file = fileOfDatabase(settings.config.database)
  if (file !== undefined && !existsSync(file)) throw noDatabase(nameOfDatabase(settings.config.database))
  return openCommandContext(settings.config, refuseOtherDatabase, work)
}

/**
 * Does the same as `withDatabase`, but creates the database file if it does not exist, as the first start of a server
 * does.
 */
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
  prepare: (context: CommandContext) => Promise<unknown>,
  work: (context: CommandContext) => Promise<Result>,
): Promise<Result> {
  const database = await openFor(config)
  const log = createLog(isLogged(config) ? config.logLevel : 'silent')
  const { audit, heard } = auditOf(config, log)
  try {
    const context = { config, database, vault: createVault(config.secret), clock: systemClock, log, audit }
    await prepare(context)
    const result = await work(context)
    await heard()
    return result
  } finally {
    await database.close()
  }
}

/** Milliseconds that a command waits for the audit hook before the command ends. */
const patience = 5_000

/**
 * Returns whether a command writes log lines to standard error. It writes them if DOORBELL_LOG_LEVEL is set, and in
 * production also if standard error is not a terminal. In all other cases, log lines would disturb the operator or
 * developer, who reads standard error together with the result.
 */
function isLogged({ development }: Config): boolean {
  return Boolean(process.env.DOORBELL_LOG_LEVEL) || !(development || process.stderr.isTTY)
}

function auditOf({ audit: hook }: Config, log: Log): { audit: Audit; heard(): Promise<unknown> } {
  const told: Promise<unknown>[] = []
  const listen = (event: AuditEvent) => {
    const telling = (async () => hook?.(event))()
    told.push(telling.catch(() => {}))
    return telling
  }
  return {
    audit: createAudit({ clock: systemClock, log, listeners: [listen] }),
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
  const log = createLog(isDebugging() ? 'debug' : 'warn')
  return openDatabase(config.database, { log, clock: systemClock, connections: config.postgres.connections })
}

async function bringUpIfFile(context: CommandContext): Promise<void> {
  if (context.database.engine === 'sqlite') await migrate(context.database, systemClock)
  await refuseOtherDatabase(context)
}

/** Throws if the database does not have the schema of this version, or was created with another secret. */
async function refuseOtherDatabase(context: CommandContext): Promise<void> {
  await refuseOtherSchema(context)
  await refuseOtherSecret(context)
}

async function refuseOtherSchema({ database }: CommandContext): Promise<void> {
  const status = await migrationStatus(database)
  const { pending, unknown } = status
  if (pending.length > 0) {
    throw new Failure(`The database ${describePending(status)}. Migrate it first: "npx doorbell migrate".`)
  }
  if (unknown.length > 0) {
    throw new Failure(`The database is newer than this program (${unknown.join(', ')}). Use the newer Doorbell.`)
  }
}

/**
 * Throws if the server has stored signing keys and none of them can be decrypted. The command and the server then have
 * different secrets. The server could not use what the command stores, such as the hash of a client secret, and the
 * command could not decrypt what the server has stored.
 */
async function refuseOtherSecret({ config, database, vault }: CommandContext): Promise<void> {
  const sealed = (await createSigningKeyStore(database).list()).flatMap(({ kid, privateSealed }) =>
    privateSealed === undefined ? [] : [{ privateSealed, place: signingKeyAad(kid) }],
  )
  if (sealed.length === 0) return
  if (sealed.some(({ privateSealed, place }) => vault.openStored(privateSealed, place) !== undefined)) return
  // An application that embeds the server can pass the secret to the server in code. A command does not get this
  // secret.
  const unset = process.env.DOORBELL_SECRET ? '' : ' DOORBELL_SECRET is not set: set it to the secret of the server.'
  throw new Failure(
    `The server of this database uses another secret than this command.${unset}\n${sentence(await adviceOnOtherSecret(config))}`,
  )
}
