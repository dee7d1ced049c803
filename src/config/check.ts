/** Completes and checks the configuration, and reports all problems at once. */
import { violationsOf } from '../platform/input-rule.ts'
import { profiles } from '../platform/security-profile.ts'
import { readSettings } from '../platform/validation.ts'
import { readDetailTypes, readResources } from './authorization-details.ts'
import { readClients, scopesOf } from './clients.ts'
import { type CheckedConfig, freeze, type Limits, seesCertificates } from './config.ts'
import { rules } from './rules.ts'
import { declarations, type GivenSettings, knownSettings, schema, usualValue } from './schema.ts'
import { readUsers } from './users.ts'

export interface ValidationContext {
  /** Whether the demo was requested, so that the input contains the demo clients and users. */
  demo?: boolean
  /**
   * Returns the name of a setting for a message about a problem, for instance with the environment variable from which
   * the setting was read.
   */
  nameOf?: (path: string) => string
}

/**
 * Completes `input` with defaults and checks each setting and the rules between settings. No problem contains a secret.
 */
export function checkConfig(
  input: Record<string, unknown>,
  { demo = false, nameOf = (path) => path }: ValidationContext = {},
): { config: CheckedConfig } | { problems: string[] } {
  const { value, problems, broken } = readSettings(schema, spelledOut(input), { known: knownSettings, nameOf })
  const { types, ...details } = readDetailTypes(value.authorizationDetails.types)
  const ownScopes = isBroken('tokens.scopes', broken) ? undefined : scopesOf(value)
  const { resources, ...resourceReading } = readResources(value.resources, ownScopes)
  const clients = readClients(value.clients, {
    // If the setting `development` is invalid, clients are checked as in development, so that no problem is reported
    // that exists only in production.
    development: value.development !== false || broken.has('development'),
    profile: broken.has('profile') ? profiles.core : profiles[value.profile],
    seesCertificates: broken.has('tls') || seesCertificates(value),
    ...(details.problems.length === 0 && { detailTypes: Object.keys(types) }),
    scopes: 'scopes' in value.oidc || 'claims' in value.oidc ? undefined : ownScopes,
  })
  const users = readUsers(value.users)
  const { email, webPush, deviceWebhook, tls, mutualTls, limits, metrics, ...always } = value
  const config: CheckedConfig = {
    ...always,
    ...(isWhole(tls, ['key', 'cert']) && { tls }),
    ...(isWhole(mutualTls, ['issuer']) && { mutualTls: { issuer: mutualTls.issuer.replace(/\/+$/, '') } }),
    ...(isWhole(email, ['smtp', 'from']) && { email }),
    ...(isWhole(webPush, ['subject']) && { webPush }),
    ...(isWhole(deviceWebhook, ['url', 'secret']) && { deviceWebhook }),
    issuer: value.issuer ?? `http://localhost:${value.port}`,
    development: value.development !== false,
    strictAssertionAudience: value.strictAssertionAudience ?? profiles[value.profile].issuerAsAudience,
    requests: {
      ...value.requests,
      minExpiry: value.requests.minExpiry ?? leastExpiryOf(value),
      longestInterval:
        value.requests.longestInterval ??
        Math.max(usualValue('requests.longestInterval', value), value.requests.interval),
      maxOpenPerUser:
        value.requests.maxOpenPerUser ?? limits.perUser.open ?? usualValue('requests.maxOpenPerUser', value),
      requireSigned: value.requests.requireSigned ?? profiles[value.profile].signedRequestsOnly,
    },
    userCodes: {
      ...value.userCodes,
      maxTriesPerUser: value.userCodes.maxTriesPerUser ?? 4 * value.userCodes.maxTries,
    },
    limits: limitsIn(value),
    shutdown: { delay: value.shutdown.delay ?? usualValue('shutdown.delay', value) },
    metrics: {
      ...metrics,
      enabled:
        metrics.enabled ?? (value.development !== false || metrics.token !== undefined || metrics.from.length > 0),
    },
    clients: clients.clients,
    ...(clients.unused.length > 0 && { unused: clients.unused }),
    users: users.users,
    authorizationDetails: { types },
    resources,
    demo,
  }
  const violations = violationsOf(rules, config, value, (path) => isBroken(path, broken))
  const all = [
    ...problems,
    ...violations.map(({ setting, message }) => `${nameOf(setting)} ${message}`),
    ...details.problems,
    ...resourceReading.problems,
    ...clients.problems,
    ...users.problems,
  ]
  if (all.length > 0) return { problems: all }
  return { config: freeze(config) }
}

/** Replaces `true` and `false` by the sections that they stand for: `metrics: true` by `metrics: { enabled: true }`. */
function spelledOut(input: Record<string, unknown>): Record<string, unknown> {
  const short = declarations.filter(({ path, info }) => info.shortFor && typeof input[path] === 'boolean')
  const sections = short.map(({ path, info }) => [path, { [info.shortFor!]: input[path] }])
  return { ...input, ...Object.fromEntries(sections) }
}

/** Returns the default of `requests.minExpiry`. It never exceeds the other expiry settings. */
function leastExpiryOf(given: GivenSettings): number {
  const { defaultExpiry, maxExpiry } = given.requests
  return Math.min(usualValue('requests.minExpiry', given), defaultExpiry, maxExpiry)
}

function limitsIn(given: GivenSettings): Limits {
  const usual = (setting: string) => usualValue(`limits.${setting}`, given)
  const { perUser, perClient, perClientAndUser, pauseAfterDenial } = given.limits
  return {
    ...given.limits,
    perUser: { perMinute: perUser.perMinute ?? usual('perUser.perMinute') },
    perClient: { ...perClient, unknownPerMinute: perClient.unknownPerMinute ?? usual('perClient.unknownPerMinute') },
    perClientAndUser: {
      open: perClientAndUser.open ?? usual('perClientAndUser.open'),
      perMinute: perClientAndUser.perMinute ?? usual('perClientAndUser.perMinute'),
    },
    pauseAfterDenial: { ...pauseAfterDenial, first: pauseAfterDenial.first ?? usual('pauseAfterDenial.first') },
  }
}

function isBroken(path: string, broken: Set<string>): boolean {
  return broken.has(path) || broken.has(path.split('.')[0]!)
}

/** Returns whether a section has the settings that it needs. If settings are missing, a rule reports them. */
function isWhole<Section extends object>(
  section: Section | undefined,
  names: (keyof Section)[],
): section is Required<Section> {
  return section !== undefined && names.every((name) => section[name] !== undefined)
}
