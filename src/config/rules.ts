/** Rules between settings, in the order in which problems are reported. */
import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { ClientMetadata } from '../client/metadata/client-metadata.ts'
import { isLoopback } from '../platform/http/web-address.ts'
import type { Rule } from '../platform/input-rule.ts'
import { profiles } from '../platform/security-profile.ts'
import { isPlain } from '../platform/validation.ts'
import { type CheckedConfig, type Config, seesCertificates } from './config.ts'
import { demoClientWithSecret } from './demo.ts'
import { issuerPathProblem } from './issuer-path.ts'
import { type GivenSettings, valuesOf } from './schema.ts'
import { secretForm } from './settings/formats.ts'

/**
 * A rule that concerns more than one setting, or needs a message of its own. `requires` gets two arguments: the
 * settings with all defaults, and the settings without the defaults that depend on other settings (`GivenSettings`).
 * The message is written after the name of the first of the `settings`.
 */
export type SettingRule = Rule<CheckedConfig, GivenSettings>

/** The requirements of security profiles for a deployment. The profile `core` has no requirements. */
const profileRules: SettingRule[] = [
  {
    settings: ['issuer', 'profile'],
    requires: ({ issuer, profile }) => profile === 'core' || !URL.canParse(issuer) || issuer.startsWith('https:'),
    message: ({ profile }) => `must start with https://, in development too, because the profile is ${profile} (FC-17)`,
  },
  {
    settings: ['tokens.idTokenAlg', 'profile'],
    requires: ({ tokens, profile }) => profiles[profile].idTokenSigning.includes(tokens.idTokenAlg),
    message: ({ profile }) =>
      `must be ${profiles[profile].idTokenSigning.join(' or ')}, because the profile is ${profile} (FC-15)`,
  },
  {
    settings: ['requests.requireSigned', 'profile'],
    requires: ({ profile }, { requests }) => !profiles[profile].signedRequestsOnly || requests.requireSigned !== false,
    message: ({ profile }) => `must not be false, because the profile is ${profile} (FC-7)`,
  },
  {
    settings: ['hints.tokenIssuers', 'profile'],
    requires: ({ hints, profile }) =>
      hints.tokenIssuers.every(({ algorithms = [] }) =>
        algorithms.every((each) => profiles[profile].clientSigning.includes(each)),
      ),
    message: ({ profile }) =>
      `must sign with ${profiles[profile].clientSigning.join(' or ')}, because the profile is ${profile} (FC-15)`,
  },
  {
    settings: ['profile', 'tls', 'proxy.clientCertificateHeader'],
    requires: (config) => !profiles[config.profile].boundTokensOnly || seesCertificates(config),
    message: ({ profile }) =>
      `"${profile}" needs tls or proxy.clientCertificateHeader: tokens are bound to certificates (FI-2)`,
  },
  {
    settings: ['oidc', 'profile'],
    requires: ({ oidc, profile }) => profile === 'core' || Object.keys(oidc).length === 0,
    message: ({ profile }) => `must be empty: Doorbell cannot check whether it conforms to the profile ${profile}`,
  },
  {
    settings: ['profile'],
    requires: ({ profile, demo }) => profile === 'core' || !demo,
    message: ({ profile }) =>
      `must be "core" for the demo: its clients have secrets, which ${profile} does not allow (FI-1)`,
  },
]

/**
 * Returns whether the text contains certificates, and all of them can be read. Node silently ignores a certificate that
 * it cannot read.
 */
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

/**
 * Returns what is wrong with the key and the certificates, as the rest of a message that begins with `tls.key`. Returns
 * undefined if they can be used.
 */
function tlsProblem({ key, cert, clientCa }: NonNullable<Config['tls']>): string | undefined {
  try {
    createSecureContext({ key, cert, ...(clientCa !== undefined && { ca: clientCa }) })
    return undefined
  } catch (error) {
    const { code } = error as { code?: string }
    return code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH'
      ? 'and tls.cert do not match'
      : 'and tls.cert cannot be used: one of them is not valid'
  }
}

export const rules: SettingRule[] = [
  {
    settings: ['issuer', 'development'],
    requires: ({ development }, given) => given.issuer !== undefined || development,
    message: 'is missing; it must be the https address at which clients and users reach this server',
  },
  {
    settings: ['issuer', 'port'],
    requires: ({ development, port }, given) => given.issuer !== undefined || !development || port !== 0,
    message: 'is missing; with port 0 it cannot be derived',
  },
  {
    settings: ['issuer', 'development'],
    requires: (config, given) => given.issuer === undefined || issuerProblem(config) === undefined,
    message: (config) => issuerProblem(config)!,
  },
  {
    settings: ['mutualTls.issuer'],
    requires: ({ mutualTls }) => mutualTls === undefined || issuerPathProblem(mutualTls.issuer) === undefined,
    message: ({ mutualTls }) => issuerPathProblem(mutualTls!.issuer)!,
  },
  {
    // The reason for this rule: in development, every caller that reaches `/dev/decide` can approve every request.
    settings: ['development', 'issuer', 'host'],
    requires: ({ issuer, host }, { development }) =>
      development !== true ||
      ((host === '::1' || isLoopback(host)) && isLoopback(URL.parse(issuer)?.hostname ?? 'localhost')),
    message:
      'true is for this machine only, but issuer or host is not on this machine: every caller that reaches the server could decide all requests. If that is intended, as in a test network, set it to "exposed"',
  },
  {
    settings: ['secret', 'development'],
    requires: ({ secret, development }) => secret !== undefined || development,
    message: `is missing; it must be ${secretForm()} (set DOORBELL_SECRET; "doorbell init" creates one)`,
  },
  {
    settings: ['clients', 'development'],
    requires: ({ clients, development }) => development || publishedSecretIn(clients) === undefined,
    message: ({ clients }) => `must not contain the secret of ${publishedSecretIn(clients)}, which is public`,
  },
  {
    settings: ['oidc', 'development'],
    requires: ({ oidc, development }) => development || !asksForDevInteractions(oidc),
    message: 'must not enable devInteractions: with them any name and password signs in as any user',
  },
  {
    settings: ['development'],
    requires: ({ demo, development }) => !demo || development,
    message: 'must be true for the demo: its users and clients have public passwords',
  },
  {
    settings: ['requests.defaultExpiry', 'requests.maxExpiry'],
    requires: ({ requests }) => requests.defaultExpiry <= requests.maxExpiry,
    message: ({ requests }) =>
      `must be at most requests.maxExpiry (${requests.maxExpiry} seconds); it is ${requests.defaultExpiry}`,
  },
  {
    settings: ['requests.minExpiry', 'requests.defaultExpiry'],
    // If `defaultExpiry` exceeds `maxExpiry`, only the rule above reports a problem.
    requires: ({ requests }) =>
      requests.minExpiry <= requests.defaultExpiry || requests.defaultExpiry > requests.maxExpiry,
    message: ({ requests }) =>
      `must be at most requests.defaultExpiry (${requests.defaultExpiry} seconds); it is ${requests.minExpiry}`,
  },
  {
    settings: ['requests.longestInterval', 'requests.interval'],
    requires: ({ requests }) => requests.longestInterval >= requests.interval,
    message: ({ requests }) =>
      `must be at least requests.interval (${requests.interval} seconds); it is ${requests.longestInterval}`,
  },
  {
    settings: ['userCodes.maxTriesPerUser', 'userCodes.maxTries'],
    requires: ({ userCodes }) => userCodes.maxTriesPerUser > userCodes.maxTries,
    message: ({ userCodes }) =>
      `must be more than userCodes.maxTries (${userCodes.maxTries}): otherwise one client could lock a user out at all other clients`,
  },
  {
    // With `registration.mode` `open`, any client can register addresses that the server calls: `jwks_uri`,
    // `sector_identifier_uri` and the notification endpoint. These must not be in the operator's private network.
    settings: ['registration.mode', 'notifications.allowPrivateNetworks', 'development'],
    requires: ({ registration, notifications, development }) =>
      registration.mode !== 'open' || !notifications.allowPrivateNetworks || development,
    message:
      'must not be "open" while notifications.allowPrivateNetworks is true: any client could make this server call into your network; use "token"',
  },
  {
    settings: ['tokens.scopes'],
    requires: ({ tokens }) => tokens.scopes.includes('openid'),
    message: 'must contain "openid"',
  },
  {
    settings: ['keys.rotateEvery', 'keys.publishAhead'],
    requires: ({ keys }) => keys.rotateEvery === undefined || keys.rotateEvery > keys.publishAhead,
    message: ({ keys }) =>
      `must be more than keys.publishAhead (${keys.publishAhead} seconds); it is ${keys.rotateEvery}`,
  },
  needed('email.smtp'),
  needed('email.from'),
  needed('webPush.subject'),
  needed('deviceWebhook.url'),
  needed('deviceWebhook.secret'),
  {
    settings: ['deviceWebhook.url', 'development'],
    requires: ({ development }, { deviceWebhook }) =>
      development || deviceWebhook?.url === undefined || deviceWebhook.url.startsWith('https:'),
    message: 'must start with https://',
  },
  ...profileRules,
  {
    settings: ['proxy.clientCertificateHeader', 'proxy.trust'],
    requires: ({ proxy }) => proxy.clientCertificateHeader === undefined || proxy.trust.length > 0,
    message: 'needs proxy.trust: this header is accepted from trusted proxies only',
  },
  {
    settings: ['proxy.clientCertificateChainHeader', 'proxy.clientCertificateHeader'],
    requires: ({ proxy }) =>
      proxy.clientCertificateChainHeader === undefined || proxy.clientCertificateHeader !== undefined,
    message: 'needs proxy.clientCertificateHeader: a chain belongs to the certificate of a client',
  },
  needed('tls.key'),
  needed('tls.cert'),
  {
    settings: ['tls.key', 'tls.cert', 'tls.clientCa'],
    requires: ({ tls }) => tls === undefined || tlsProblem(tls) === undefined,
    message: ({ tls }) => tlsProblem(tls!)!,
  },
  {
    settings: ['notifications.ca'],
    requires: ({ notifications }) => notifications.ca === undefined || isCertificateList(notifications.ca),
    message: 'must contain only valid PEM certificates, at least one',
  },
  {
    settings: ['email.ca'],
    requires: ({ email }) => email?.ca === undefined || isCertificateList(email.ca),
    message: 'must contain only valid PEM certificates, at least one',
  },
  needed('mutualTls.issuer'),
  {
    settings: ['mutualTls.issuer', 'tls', 'proxy.clientCertificateHeader'],
    requires: (config) => config.mutualTls === undefined || seesCertificates(config),
    message: 'needs tls or proxy.clientCertificateHeader: without one of them the server receives no certificates',
  },
  {
    settings: ['limits.perUser.open', 'requests.maxOpenPerUser'],
    requires: (_config, { limits, requests }) =>
      limits.perUser.open === undefined ||
      requests.maxOpenPerUser === undefined ||
      limits.perUser.open === requests.maxOpenPerUser,
    message: 'and requests.maxOpenPerUser are two names of the same limit; leave one out',
  },
  {
    settings: ['retention.history', 'retention.requests'],
    requires: ({ retention }) => retention.history === undefined || retention.history >= retention.requests,
    message: ({ retention }) => `must be at least retention.requests (${retention.requests} days)`,
  },
  {
    settings: ['metrics.enabled', 'metrics.token', 'metrics.from', 'development'],
    requires: ({ metrics, development }) =>
      !metrics.enabled || development || metrics.token !== undefined || metrics.from.length > 0,
    message: 'needs metrics.token or metrics.from: outside development readers must be configured',
  },
  {
    settings: ['hints.tokenIssuers', 'development'],
    requires: ({ hints, development }) =>
      development || hints.tokenIssuers.every(({ jwksUri }) => jwksUri === undefined || jwksUri.startsWith('https:')),
    message: 'must have a jwksUri that starts with https://',
  },
  {
    settings: ['hints.tokenIssuers'],
    requires: ({ hints }) => new Set(hints.tokenIssuers.map(({ issuer }) => issuer)).size === hints.tokenIssuers.length,
    message: 'must name each issuer once',
  },
  {
    settings: ['login.issuer'],
    requires: ({ login, development }) => login.issuer === 'self' || isProviderAddress(login.issuer, development),
    message: 'must be "self" or the https address of an OpenID provider',
  },
  {
    settings: ['login.client_id'],
    requires: ({ login }) =>
      login.issuer === 'self' || (login.client_id !== undefined && login.client_secret !== undefined),
    message: 'and login.client_secret are needed to sign users in at another provider',
  },
  {
    settings: ['login.createUsers', 'login.issuer'],
    requires: ({ login }) => !login.createUsers || login.issuer !== 'self',
    message: 'must not be true without login.issuer: users who sign in here must exist already',
  },
  {
    settings: ['login.createUsers', 'users'],
    requires: ({ login, users }) => !login.createUsers || Array.isArray(users),
    message:
      'must not be true if users are hooks: your application creates its users itself, for instance in the hook findByHint, which gets the claims of the person',
  },
]

/**
 * Returns the id of a demo client whose secret is also the secret of a configured client, or undefined if there is
 * none. The secrets of the demo are public.
 */
function publishedSecretIn(clients: ClientMetadata[]): string | undefined {
  const published = clients.map(({ client_secret: secret }) => secret && demoClientWithSecret(secret))
  return published.find((id) => id !== undefined)
}

/**
 * Returns whether the settings of oidc-provider enable the feature `devInteractions`. A feature that is in the settings
 * is enabled, except if its `enabled` is false.
 */
function asksForDevInteractions({ features }: Record<string, unknown>): boolean {
  const asked = isPlain(features) ? features.devInteractions : undefined
  return isPlain(asked) && asked.enabled !== false
}

/** Returns the rule that requires a setting if the configuration contains the section of the setting. */
function needed(path: string): SettingRule {
  const [section, name] = path.split('.') as [keyof GivenSettings, string]
  const lacks = (settings: unknown) => isPlain(settings) && !(name in settings)
  return {
    settings: [path],
    requires: (_config, given) => !lacks(given[section]),
    message: `is missing; it must be ${valuesOf(path)}`,
  }
}

/**
 * Returns what is wrong with the issuer, or undefined if it is valid. Clients and this server compare the issuer
 * character by character, so only its normalized form is accepted.
 */
function issuerProblem({ issuer, development }: CheckedConfig): string | undefined {
  if (!URL.canParse(issuer) || !/^https?:\/\//i.test(issuer)) return 'must be an address that starts with https://'
  const url = new URL(issuer)
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password'
  if (url.protocol !== 'https:' && !development) {
    const hint = isLoopback(url.hostname) ? ' (to try things out, set development to true)' : ''
    return `must start with https://${hint}`
  }
  if (/[?#]/.test(issuer)) return 'must have no query and no fragment'
  const plainest = url.href.replace(/\/+$/, '')
  return issuer === plainest
    ? issuerPathProblem(issuer)
    : `must be written "${plainest}": in normalized form, without a slash at the end`
}

function isProviderAddress(address: string, development: boolean): boolean {
  if (!URL.canParse(address)) return false
  const { protocol, username } = new URL(address)
  return username === '' && (protocol === 'https:' || (development && protocol === 'http:'))
}
