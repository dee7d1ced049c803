/** Finds the configuration for a command, and reports which configuration the command uses. */
import { existsSync } from 'node:fs'
import { basename, relative, resolve } from 'node:path'
import type { Command } from 'commander'
import type { Config, ConfigInput } from '../../config/config.ts'
import { findConfigFile } from '../../config/config-file.ts'
import { loadConfig } from '../../config/load.ts'
import { readPostgresUrl } from '../../platform/storage/postgres-address.ts'
import { Failure } from './failure.ts'
import { note } from './terminal.ts'

export interface SettingOptions {
  config?: string
  demo?: boolean
}

export interface Settings {
  config: Config
  /** The name of the configuration file, or a description of what is used if there is no file. */
  source: string
  hasFile: boolean
}

/**
 * Adds the option `--demo`, for a command that uses a configuration. The option `--config` is declared once, for all
 * commands.
 */
export function withSettings(command: Command): Command {
  return command.option(
    '--demo',
    'use the demo configuration, as "serve --demo" does (the default if there is no file)',
  )
}

/**
 * Resolves to the configuration of a command. If there is no file and the environment does not describe a server, the
 * demo configuration is used. So a command in another terminal can inspect the demo server that `npm start` runs.
 */
export async function loadSettings(options: SettingOptions, overrides: ConfigInput = {}): Promise<Settings> {
  const file = configFile(options)
  const demo = options.demo ?? (file === undefined && !describesServer())
  const config = await loadConfig({ file: options.config, demo, overrides })
  return { config, source: sourceOf(file, demo), hasFile: file !== undefined }
}

export function configFile(options: SettingOptions): string | undefined {
  return findConfigFile(options.config || process.env.DOORBELL_CONFIG, process.cwd())
}

/**
 * Returns whether the environment variables describe a server: they contain its issuer and its secret, or an https
 * issuer. The demo may have an http issuer, and usually makes its own secret.
 */
function describesServer(): boolean {
  const { DOORBELL_ISSUER: issuer, DOORBELL_SECRET: secret } = process.env
  return Boolean(issuer && secret) || issuer?.startsWith('https:') === true
}

function sourceOf(file: string | undefined, demo: boolean): string {
  if (file !== undefined) return demo ? `${basename(file)} with the demo cast` : basename(file)
  return demo ? 'the demo configuration' : 'the environment'
}

export function sayWhich({ config, source, hasFile }: Settings): void {
  const why = hasFile || source === 'the environment' ? '' : ' (there is no doorbell.config.ts here)'
  note(`Using ${source}${why}, database ${nameOfDatabase(config.database)}`)
}

/** Returns the address of a database for messages: without user name and password. */
export function nameOfDatabase(database: string): string {
  const file = fileOfDatabase(database)
  if (file !== undefined) return shortPath(file)
  if (database === 'sqlite::memory:') return 'in memory'
  return readPostgresUrl(database).name
}

export function shortPath(file: string): string {
  const path = relative(process.cwd(), file)
  return path.startsWith('..') ? file : `./${path}`
}

export function fileOfDatabase(database: string): string | undefined {
  if (!database.startsWith('sqlite:') || database === 'sqlite::memory:') return undefined
  return database.slice('sqlite:'.length)
}

/**
 * Throws if there is neither a configuration nor a database. Must be called before the configuration is loaded, because
 * loading can create a file with a secret. A command that only reads must not create such a file in an unrelated
 * folder.
 */
export function refuseEmptyFolder(options: SettingOptions): void {
  const somethingSaid = configFile(options) !== undefined || process.env.DOORBELL_DATABASE
  if (!somethingSaid && !describesServer() && !existsSync(resolve('doorbell.db'))) throw noDatabase('./doorbell.db')
}

export function noDatabase(path: string): Failure {
  return new Failure(
    `There is no database at ${path} yet.\n` +
      'The server creates it: "npx doorbell serve", or "npx doorbell serve --demo" to try things out.\n' +
      'If the server runs already, change to its folder, or name its configuration with --config.',
  )
}
