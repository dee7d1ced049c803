/** Reads settings from environment variables: `requests.defaultExpiry` is `DOORBELL_REQUESTS_DEFAULT_EXPIRY`. */
import { didYouMean, nearest } from '../platform/validation.ts'
import { type SettingKind, settingKinds } from './schema.ts'

export type Environment = Record<string, string | undefined>

/** The settings that were read from the environment, the name of the variable of each setting, and the problems. */
export interface EnvironmentReading {
  input: Record<string, unknown>
  /** For each setting that was read: its dotted path and the name of its variable. */
  sources: Map<string, string>
  problems: string[]
}

const pathsByName = new Map([...settingKinds.keys()].map((path) => [environmentName(path), path]))

/** Returns the name of the environment variable of a setting. @param path the dotted path of the setting */
export function environmentName(path: string): string {
  return `DOORBELL_${path
    .replaceAll('.', '_')
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toUpperCase()}`
}

/** Reads the settings in the environment. An empty variable counts as not set. */
export function readEnvironment(environment: Environment): EnvironmentReading {
  const reading: EnvironmentReading = { input: {}, sources: new Map(), problems: [] }
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || value === '' || !isOurs(name, value)) continue
    const path = pathsByName.get(name)
    const kind = path === undefined ? undefined : settingKinds.get(path)
    if (path === undefined || kind === undefined) {
      reading.problems.push(`${name} is not a setting${didYouMean(nearest(name, settable()))}`)
    } else if (kind === 'structure') {
      reading.problems.push(`${name} cannot be an environment variable; set ${path} in the configuration file`)
    } else {
      place(reading.input, path.split('.'), parse(value, kind))
      reading.sources.set(path, name)
    }
  }
  return reading
}

function isOurs(name: string, value: string): boolean {
  if (!name.startsWith('DOORBELL_') || name === 'DOORBELL_CONFIG' || name.startsWith('DOORBELL_TEST_')) return false
  // Kubernetes sets these variables in every container that can reach a service called "doorbell". So they are ignored.
  if (/^DOORBELL_(SERVICE_HOST|SERVICE_PORT|PORT_\d+_(TCP|UDP))(_|$)/.test(name)) return false
  return !(name === 'DOORBELL_PORT' && /^(tcp|udp):\/\//.test(value))
}

function settable(): string[] {
  return [...pathsByName].filter(([, path]) => settingKinds.get(path) !== 'structure').map(([name]) => name)
}

/**
 * Converts the value of a variable to the type of its setting. A value that cannot be converted stays a string: the
 * later check of the setting reports which values are valid.
 */
function parse(value: string, kind: SettingKind): unknown {
  if (kind === 'number') return /^-?\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : value
  if (kind === 'yes or no') return parseYesOrNo(value)
  if (kind === 'list') return value.split(',').map((entry) => entry.trim())
  return value
}

function parseYesOrNo(value: string): boolean | string {
  if (value === 'true' || value === '1') return true
  return value === 'false' || value === '0' ? false : value
}

function place(input: Record<string, unknown>, [first = '', ...rest]: string[], value: unknown): void {
  if (rest.length === 0) {
    input[first] = value
    return
  }
  const section = (input[first] ?? {}) as Record<string, unknown>
  input[first] = section
  place(section, rest, value)
}
