/** Rules between settings, in the order in which they are complained about. */
import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { ClientMetadata } from '../client/metadata/client-metadata.ts'
import { isLoopback } from '../platform/http/web-address.ts'
import { profiles } from '../platform/security-profile.ts'
import { isPlain } from '../platform/validation.ts'
import { type CheckedConfig, type Config, seesCertificates } from './config.ts'
import { demoClients } from './demo.ts'
import { type GivenSettings, valuesOf } from './schema.ts'
import { secretForm } from './settings/formats.ts'

/** Rules that need more than one setting, or words of their own. */
export interface SettingRule {
  /** The first is the one complained about. If one of these is broken already, the rule is silent. */
  reads: string[]
  /** Whether the rule is broken. */
  unless: (config: CheckedConfig, given: GivenSettings) => boolean
  says: string | ((config: CheckedConfig) => string)
}

/** What a deployment that has promised a profile must be set to. In `core` none of it is asked. */
const profileRules: SettingRule[] = [
  {
    reads: ['issuer', 'profile'],
    unless: ({ issuer, profile }) => promised(profile) && URL.canParse(issuer) && !issuer.startsWith('https:'),
    says: ({ profile }) => `must start with https://, in development too, because the profile is ${profile} (FC-17)`,
  },
  {
    reads: ['tokens.idTokenAlg', 'profile'],
    unless: ({ tokens, profile }) => !profiles[profile].idTokenSigning.includes(tokens.idTokenAlg),
    says: ({ profile }) =>
      `must be ${profiles[profile].idTokenSigning.join(' or ')}, because the profile is ${profile} (FC-15)`,
  },
  {
    reads: ['requests.requireSigned', 'profile'],
    unless: ({ profile }, given) => profiles[profile].signedRequestsOnly && given.requests.requireSigned === false,
    says: ({ profile }) => `must not be false, because the profile is ${profile} (FC-7)`,
  },
  {
    reads: ['hints.tokenIssuers', 'profile'],
    unless: ({ hints, profile }) =>
      hints.tokenIssuers.some(({ algorithms }) =>
        algorithms?.some((each) => !profiles[profile].clientSigning.includes(each)),
      ),
    says: ({ profile }) =>
      `must sign with ${profiles[profile].clientSigning.join(' or ')}, because the profile is ${profile} (FC-15)`,
  },
  {
    reads: ['profile', 'tls', 'proxy.clientCertificateHeader'],
    unless: (config) => profiles[config.profile].boundTokensOnly && !seesCertificates(config),
    says: ({ profile }) =>
      `"${profile}" needs tls or proxy.clientCertificateHeader: tokens are bound to certificates (FI-2)`,
  },
  {
    reads: ['oidc', 'profile'],
    unless: ({ oidc, profile }) => promised(profile) && Object.keys(oidc).length > 0,
    says: ({ profile }) => `must be empty: past Doorbell, nobody checks that it keeps to the profile ${profile}`,
  },
  {
    reads: ['profile'],
    unless: ({ profile, demo }) => promised(profile) && demo,
    says: ({ profile }) =>
      `must be "core" for the demo: its clients have secrets, which ${profile} does not allow (FI-1)`,
  },
]

/** Node would pass over what it cannot read in a list of authorities, and trust nobody for it. */
function isCertificateList(pem: string): boolean {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  return blocks.length > 0 && blocks.every((block) => isCertificate(block))
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem) !== undefined
  } catch {
    return false
  }
}

function complainAboutTls({ key, cert, clientCa }: NonNullable<Config['tls']>): string | undefined {
  try {
    createSecureContext({ key, cert, ...(clientCa !== undefined && { ca: clientCa }) })
    return undefined
  } catch (error) {
    const { code } = error as { code?: string }
    return code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH'
      ? 'and tls.cert do not belong together'
      : 'and tls.cert cannot be used: one of them is not what it should be'
  }
}

function promised(profile: Config['profile']): boolean {
  return profile !== 'core'
}

export const rules: SettingRule[] = [
  {
    reads: ['issuer', 'development'],
    unless: (config, given) => given.issuer === undefined && !config.development,
    says: 'is missing; it must be the https address under which everybody reaches this server',
  },
  {
    reads: ['issuer', 'port'],
    unless: (config, given) => given.issuer === undefined && config.development && config.port === 0,
    says: 'is missing; with port 0 it cannot be guessed',
  },
  {
    reads: ['issuer', 'development'],
    unless: (config, given) => given.issuer !== undefined && complainAboutIssuer(config) !== undefined,
    says: (config) => complainAboutIssuer(config) ?? '',
  },
  {
    // Whoever reaches /dev/decide approves for everybody.
    reads: ['development', 'issuer', 'host'],
    unless: ({ issuer, host }, { development }) =>
      development === true &&
      !((host === '::1' || isLoopback(host)) && isLoopback(URL.parse(issuer)?.hostname ?? 'localhost')),
    says: 'true is for this machine only, and issuer or host is elsewhere: anybody who reaches it could decide everything. If that is what you want, as in a test network, it must be "exposed"',
  },
  {
    reads: ['secret', 'development'],
    unless: (config) => config.secret === undefined && !config.development,
    says: `is missing; it must be ${secretForm()} (set DOORBELL_SECRET; "doorbell init" makes one)`,
  },
  {
    reads: ['clients', 'development'],
    unless: ({ clients, development }) => !development && publishedSecretIn(clients) !== undefined,
    says: ({ clients }) => `must not hold the secret of ${publishedSecretIn(clients)}, which everybody knows`,
  },
  {
    reads: ['oidc', 'development'],
    unless: ({ oidc, development }) => !development && asksForDevInteractions(oidc),
    says: 'must not switch devInteractions on: with them anybody signs in as anybody, by any name and password',
  },
  {
    reads: ['development'],
    unless: (config) => config.demo && !config.development,
    says: 'must be true for the demo: its users and clients have passwords that everybody knows',
  },
  {
    reads: ['requests.defaultExpiry', 'requests.maxExpiry'],
    unless: ({ requests }) => requests.defaultExpiry > requests.maxExpiry,
    says: ({ requests }) =>
      `must be at most requests.maxExpiry (${requests.maxExpiry} seconds); it is ${requests.defaultExpiry}`,
  },
  {
    reads: ['requests.minExpiry', 'requests.defaultExpiry'],
    unless: ({ requests }) =>
      requests.minExpiry > requests.defaultExpiry && requests.defaultExpiry <= requests.maxExpiry,
    says: ({ requests }) =>
      `must be at most requests.defaultExpiry (${requests.defaultExpiry} seconds); it is ${requests.minExpiry}`,
  },
  {
    reads: ['userCodes.maxTriesPerUser', 'userCodes.maxTries'],
    unless: ({ userCodes }) => userCodes.maxTriesPerUser <= userCodes.maxTries,
    says: ({ userCodes }) =>
      `must be more than userCodes.maxTries (${userCodes.maxTries}): else one client could lock a user out at all others`,
  },
  {
    // Their addresses are called: for jwks_uri, for sector_identifier_uri, to be told.
    reads: ['registration.mode', 'notifications.allowPrivateNetworks', 'development'],
    unless: ({ registration, notifications, development }) =>
      registration.mode === 'open' && notifications.allowPrivateNetworks && !development,
    says: 'must not be "open" while notifications.allowPrivateNetworks is true: strangers could make this server call into your network; it may be "token"',
  },
  {
    reads: ['tokens.scopes'],
    unless: ({ tokens }) => !tokens.scopes.includes('openid'),
    says: 'must hold "openid"',
  },
  {
    reads: ['keys.rotateEvery', 'keys.publishAhead'],
    unless: ({ keys }) => keys.rotateEvery !== undefined && keys.rotateEvery <= keys.publishAhead,
    says: ({ keys }) => `must be more than keys.publishAhead (${keys.publishAhead} seconds); it is ${keys.rotateEvery}`,
  },
  needed('email.smtp'),
  needed('email.from'),
  needed('webPush.subject'),
  needed('deviceWebhook.url'),
  needed('deviceWebhook.secret'),
  {
    reads: ['deviceWebhook.url', 'development'],
    unless: ({ development }, { deviceWebhook }) => !development && deviceWebhook?.url?.startsWith('https:') === false,
    says: 'must start with https://',
  },
  ...profileRules,
  {
    reads: ['proxy.clientCertificateHeader', 'proxy.trust'],
    unless: ({ proxy }) => proxy.clientCertificateHeader !== undefined && proxy.trust.length === 0,
    says: 'needs proxy.trust: from anybody else such a header is not believed',
  },
  needed('tls.key'),
  needed('tls.cert'),
  {
    reads: ['tls.key', 'tls.cert', 'tls.clientCa'],
    unless: ({ tls }) => tls !== undefined && complainAboutTls(tls) !== undefined,
    says: ({ tls }) => complainAboutTls(tls!)!,
  },
  {
    reads: ['notifications.ca'],
    unless: ({ notifications }) => notifications.ca !== undefined && !isCertificateList(notifications.ca),
    says: 'holds no certificate that can be read, or one that cannot',
  },
  needed('mutualTls.issuer'),
  {
    reads: ['mutualTls.issuer', 'tls', 'proxy.clientCertificateHeader'],
    unless: (config) => config.mutualTls !== undefined && !seesCertificates(config),
    says: 'needs tls or proxy.clientCertificateHeader: without one of them no certificate is seen',
  },
  {
    reads: ['limits.perUser.open', 'requests.maxOpenPerUser'],
    unless: (_config, { limits, requests }) =>
      limits.perUser.open !== undefined &&
      requests.maxOpenPerUser !== undefined &&
      limits.perUser.open !== requests.maxOpenPerUser,
    says: 'and requests.maxOpenPerUser are two names of one limit; leave one out',
  },
  {
    reads: ['retention.history', 'retention.requests'],
    unless: ({ retention }) => retention.history !== undefined && retention.history < retention.requests,
    says: ({ retention }) => `must be at least retention.requests (${retention.requests} days)`,
  },
  {
    reads: ['metrics.enabled', 'metrics.token', 'metrics.from', 'development'],
    unless: ({ metrics, development }) =>
      metrics.enabled && !development && metrics.token === undefined && metrics.from.length === 0,
    says: 'needs metrics.token or metrics.from: outside development nobody may read it without being named',
  },
  {
    reads: ['hints.tokenIssuers', 'development'],
    unless: ({ hints, development }) =>
      !development && hints.tokenIssuers.some(({ jwksUri }) => jwksUri?.startsWith('https:') === false),
    says: 'must have a jwksUri that starts with https://',
  },
  {
    reads: ['hints.tokenIssuers'],
    unless: ({ hints }) => new Set(hints.tokenIssuers.map(({ issuer }) => issuer)).size < hints.tokenIssuers.length,
    says: 'must name each issuer once',
  },
  {
    reads: ['login.issuer'],
    unless: ({ login, development }) => login.issuer !== 'self' && !isProviderAddress(login.issuer, development),
    says: 'must be "self" or the https address of an OpenID provider',
  },
  {
    reads: ['login.client_id'],
    unless: ({ login }) =>
      login.issuer !== 'self' && (login.client_id === undefined || login.client_secret === undefined),
    says: 'and login.client_secret are needed to sign users in at another provider',
  },
]

/** The demo client whose secret a client of the configuration has. */
function publishedSecretIn(clients: ClientMetadata[]): string | undefined {
  const taken = clients.map(({ client_secret: secret }) => secret)
  return demoClients('').find(({ client_secret: secret }) => secret !== undefined && taken.includes(secret))?.client_id
}

/** oidc-provider takes a feature that is named for one that is on. */
function asksForDevInteractions({ features }: Record<string, unknown>): boolean {
  const asked = isPlain(features) ? features.devInteractions : undefined
  return isPlain(asked) && asked.enabled !== false
}

/** The section of a setting is there or not; if it is, it needs this setting. */
function needed(path: string): SettingRule {
  const [section, name] = path.split('.') as [keyof GivenSettings, string]
  const lacks = (settings: unknown) => isPlain(settings) && !(name in settings)
  return {
    reads: [path],
    unless: (_config, given) => lacks(given[section]),
    says: `is missing; it must be ${valuesOf(path)}`,
  }
}

/** The issuer is compared letter by letter, by us and by every client: only its plainest spelling is accepted. */
function complainAboutIssuer({ issuer, development }: CheckedConfig): string | undefined {
  if (!URL.canParse(issuer) || !/^https?:\/\//i.test(issuer)) return 'must be an address that starts with https://'
  const url = new URL(issuer)
  if (url.username !== '' || url.password !== '') return 'must not hold a user name or password'
  if (url.protocol !== 'https:' && !development) {
    const hint = isLoopback(url.hostname) ? ' (to try things out, set development to true)' : ''
    return `must start with https://${hint}`
  }
  if (/[?#]/.test(issuer)) return 'must have no query and no fragment'
  const plainest = url.href.replace(/\/+$/, '')
  return issuer === plainest
    ? undefined
    : `must be spelled "${plainest}", which is its plainest form without a slash at the end`
}

function isProviderAddress(address: string, development: boolean): boolean {
  if (!URL.canParse(address)) return false
  const { protocol, username } = new URL(address)
  return username === '' && (protocol === 'https:' || (development && protocol === 'http:'))
}
