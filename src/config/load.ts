/**
 * Loads the configuration. Merges the defaults, the demo, the file, the environment, and the overrides of the caller.
 */
import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { ConfigError, isPlain } from '../platform/validation.ts'
import { checkConfig } from './check.ts'
import { type Config, type ConfigInput, freeze } from './config.ts'
import { findConfigFile, readConfigFile } from './config-file.ts'
import { withDemo } from './demo.ts'
import { keepSecret } from './development-secret.ts'
import { type Environment, readEnvironment } from './environment.ts'
import { declarations, settingsIn } from './schema.ts'

export { ConfigError } from '../platform/validation.ts'

export interface LoadOptions {
  /**
   * The configuration file, relative to `cwd`. Default: `DOORBELL_CONFIG`, else `doorbell.config.ts`, `.js` or `.json`.
   */
  file?: string | undefined
  /** The working directory. Default: the working directory of the process. */
  cwd?: string | undefined
  /** The environment with the `DOORBELL_*` variables. Default: the environment of the process. */
  env?: Environment | undefined
  /** Settings that override all others, e.g. options of a command. */
  overrides?: ConfigInput | undefined
  /** Whether the demo clients and users are added. */
  demo?: boolean | undefined
}

/**
 * Resolves to the configuration of this process. Throws a `ConfigError` with all problems at once.
 *
 * If no secret is set in development, a secret is generated and kept in a file.
 */
export async function loadConfig(options: LoadOptions = {}): Promise<Config> {
  const { cwd = process.cwd(), env = process.env, overrides = {}, demo = false } = options
  const path = findConfigFile(options.file || env.DOORBELL_CONFIG, cwd)
  const file = path === undefined ? { input: {}, problems: [] } : await readConfigFile(path)
  const environment = readEnvironment(env)
  const earlierProblems = [...file.problems, ...environment.problems]
  // If the configuration file could not be read, only its problems are reported. Without its settings, further checks
  // would be misleading.
  if (file.problems.length > 0) throw new ConfigError(earlierProblems)

  const input = merge(merge(file.input, environment.input), overrides)
  return resolveConfig(input, {
    cwd,
    folder: path === undefined ? cwd : dirname(path),
    demo,
    sources: environment.sources,
    earlierProblems,
  })
}

export interface ResolveOptions {
  /**
   * The folder in which the development secret is kept, if the database is Postgres. Default: the working directory of
   * the process.
   */
  cwd?: string | undefined
  /** The folder to which relative paths of the database, of texts and of PEM files refer. Default: `cwd`. */
  folder?: string | undefined
  demo?: boolean | undefined
  /**
   * For each setting that was read from an environment variable: its dotted path and the name of the variable, for
   * messages.
   */
  sources?: ReadonlyMap<string, string> | undefined
  /** Problems that were found while the input was read. */
  earlierProblems?: string[] | undefined
}

/**
 * Completes and checks the settings in `input`. Does not read the configuration file or the environment. Reads the
 * files whose names are in settings, and in development also the file with the secret.
 */
export async function resolveConfig(input: ConfigInput, options: ResolveOptions = {}): Promise<Config> {
  const { cwd = process.cwd(), demo = false, sources, earlierProblems = [] } = options
  const folder = options.folder ?? cwd
  const given = readPemFiles(merge({}, input), folder)
  const checked = checkConfig(demo ? withDemo(given) : given, {
    demo,
    nameOf: (setting) => (sources?.has(setting) ? `${setting} (${sources.get(setting)})` : setting),
  })
  if ('problems' in checked) throw new ConfigError([...earlierProblems, ...checked.problems])
  if (earlierProblems.length > 0) throw new ConfigError(earlierProblems)
  const texts = checked.config.texts && { texts: locateTexts(checked.config.texts, folder) }

  const database = locate(checked.config.database, folder)
  const secret = checked.config.secret ?? (await keepSecret(database, cwd))
  return freeze({ ...checked.config, ...texts, database, secret })
}

function locate(database: string, folder: string): string {
  if (!database.startsWith('sqlite:') || database === 'sqlite::memory:') return database
  return `sqlite:${resolve(folder, database.slice('sqlite:'.length))}`
}

/**
 * Returns the absolute path of the folder with texts. Throws if the folder does not exist: a mistyped path must not
 * count as an empty folder.
 */
function locateTexts(texts: string, folder: string): string {
  const place = resolve(folder, texts)
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) {
    throw new ConfigError([`texts must be a folder; there is none at ${place}`])
  }
  return place
}

/** The section and the name of each setting whose value may be the name of a file. */
const fileSettings = settingsIn(declarations)
  .filter(({ info }) => info.isFile)
  .map(({ path }) => path.split('.') as [string, string])

/**
 * Replaces file names in PEM settings by the contents of the files. If a file cannot be read, its name stays, and is
 * rejected later because it is not PEM.
 */
function readPemFiles(input: Record<string, unknown>, folder: string): Record<string, unknown> {
  const read = { ...input }
  for (const [section, name] of fileSettings) {
    const given = read[section]
    if (isPlain(given) && name in given) read[section] = { ...given, [name]: readPem(given[name], folder) }
  }
  return read
}

function readPem(value: unknown, folder: string): unknown {
  if (typeof value !== 'string' || value.startsWith('-----BEGIN ')) return value
  try {
    return readFileSync(resolve(folder, value), 'utf8').trim()
  } catch {
    return value
  }
}

/** Settings that `merge` replaces as a whole, because they are lists or belong to the application. */
const wholes = ['clients', 'users', 'oidc']

/**
 * Returns the settings of `under` and `over`. A setting in `over` overrides the same setting in `under`, section by
 * section. A setting that is `undefined` counts as left out.
 */
function merge(under: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged = new Map(Object.entries(under))
  for (const [name, value] of Object.entries(over)) {
    if (value === undefined) continue
    const below = merged.get(name)
    const isSection = isPlain(value) && !wholes.includes(name)
    merged.set(name, isSection ? merge(isPlain(below) ? below : {}, value) : value)
  }
  return Object.fromEntries(merged)
}
