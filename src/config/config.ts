import type { z } from 'zod'
import type { DetailType } from '../authorization-details/detail-types.ts'
import type { Resources } from '../authorization-details/resources.ts'
import type { ClientMetadata } from '../client/metadata/client-metadata.ts'
import { isPlain } from '../platform/validation.ts'
import type { ConfiguredUser, UserHooks } from '../user/user.ts'
import type { EditorHelp, MetricsHelp } from './editor-help.ts'
import type { GivenSettings, schema } from './schema.ts'

/** `Settings` in which the settings `Names` are required. */
type With<Settings, Names extends keyof Settings> = Settings & Required<Pick<Settings, Names>>
type SectionOf<Name extends keyof GivenSettings> = NonNullable<GivenSettings[Name]>

/** Settings that are completed from other settings, or that are not validated by the schema alone. */
interface CompletedSettings {
  issuer: string
  /** Whether this is a configuration for development. Also true if the setting `development` is `"exposed"`. */
  development: boolean
  /** At least 32 bytes, base64url. The keys that encrypt and hash stored values are derived from it. */
  secret: string
  tls?: With<SectionOf<'tls'>, 'key' | 'cert'>
  mutualTls?: With<SectionOf<'mutualTls'>, 'issuer'>
  email?: With<SectionOf<'email'>, 'smtp' | 'from'>
  webPush?: With<SectionOf<'webPush'>, 'subject'>
  deviceWebhook?: With<SectionOf<'deviceWebhook'>, 'url' | 'secret'>
  strictAssertionAudience: boolean
  requests: With<SectionOf<'requests'>, 'minExpiry' | 'longestInterval' | 'maxOpenPerUser' | 'requireSigned'>
  userCodes: With<SectionOf<'userCodes'>, 'maxTriesPerUser'>
  limits: Limits
  shutdown: With<SectionOf<'shutdown'>, 'delay'>
  metrics: With<SectionOf<'metrics'>, 'enabled'>
  authorizationDetails: { types: Record<string, DetailType> }
  resources: Resources
  clients: ClientMetadata[]
  /** A list of users, or hooks of the application that find users. */
  users: ConfiguredUser[] | UserHooks
  /** The members of configured clients that the server does not use; absent if there are none. */
  unused?: UnusedSetting[]
}

/** A member of a configured client that the server does not use: probably a misspelt name. */
export interface UnusedSetting {
  /** The name of the member, with the position of the client, such as `clients[0].backchannel_requires_passkey`. */
  setting: string
  /** What is wrong, as the rest of a sentence that begins with the name. It contains no value of the configuration. */
  problem: string
}

type GivenLimits = SectionOf<'limits'>

/** The limits after completion. `perUser.open` is an alias of `requests.maxOpenPerUser`, and is removed here. */
export interface Limits extends Omit<GivenLimits, 'perUser' | 'perClient' | 'perClientAndUser' | 'pauseAfterDenial'> {
  perUser: Required<Omit<GivenLimits['perUser'], 'open'>>
  perClient: Required<GivenLimits['perClient']>
  perClientAndUser: Required<GivenLimits['perClientAndUser']>
  pauseAfterDenial: Required<GivenLimits['pauseAfterDenial']>
}

/**
 * The checked configuration: complete and frozen. Each setting is described where it is declared, in settings/, and in
 * docs/configuration.md.
 */
export interface Config extends Omit<GivenSettings, keyof CompletedSettings>, CompletedSettings {
  /** Whether the demo clients and users are added: an option (`--demo`), not a setting. */
  demo: boolean
}

/**
 * The input of a schema. Each setting of a section may be left out; a setting that is `undefined` counts as left out.
 */
type InputOf<Schema> =
  Schema extends z.ZodObject<infer Shape>
    ? { [Name in keyof Shape]?: InputOf<Shape[Name]> | undefined }
    : Schema extends z.ZodDefault<infer Inner> | z.ZodPrefault<infer Inner> | z.ZodExactOptional<infer Inner>
      ? InputOf<Inner>
      : z.input<Schema>

type SchemaInput = InputOf<typeof schema>

/**
 * The configuration as it is written. Every setting may be left out; a setting that is `undefined` counts as left out.
 */
export type ConfigInput = Omit<SchemaInput, 'metrics'> &
  EditorHelp & { metrics?: boolean | (SchemaInput['metrics'] & MetricsHelp) }

/**
 * Gives an editor the names and types of the settings. This function neither changes nor checks the settings: the
 * server checks them when it starts, and reports all problems at once.
 *
 * @example
 * // doorbell.config.ts
 * import { defineConfig } from 'doorbell-ciba'
 *
 * export default defineConfig({
 *   issuer: 'https://id.example.com',
 *   database: 'postgres://doorbell@localhost/doorbell',
 *   requests: { defaultExpiry: 120 }, // seconds
 * })
 */
export function defineConfig(input: ConfigInput): ConfigInput {
  return input
}

/**
 * A complete configuration, in which only the secret may be missing. In development, a missing secret is read from a
 * file later.
 */
export type CheckedConfig = Omit<Config, 'secret'> & { secret?: string }

/**
 * Freezes the configuration, except hooks and the settings of oidc-provider: these objects belong to the application.
 */
export function freeze<Settings extends Omit<CheckedConfig, 'secret'>>(config: Settings): Settings {
  for (const [name, value] of Object.entries(config)) {
    if (name === 'oidc' || (name === 'users' && !Array.isArray(value))) continue
    freezeDeeply(value)
  }
  return Object.freeze(config)
}

function freezeDeeply(value: unknown): void {
  if (Array.isArray(value) || isPlain(value)) {
    for (const inner of Object.values(value)) freezeDeeply(inner)
    Object.freeze(value)
  }
}

/** Returns whether the server can receive client certificates: over its own TLS connections, or from a proxy. */
export function seesCertificates({
  tls,
  proxy,
}: {
  tls?: object
  proxy: Pick<Config['proxy'], 'clientCertificateHeader'>
}): boolean {
  return tls !== undefined || proxy.clientCertificateHeader !== undefined
}
