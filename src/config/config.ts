/** The settings: what each means, what it is when nobody says, and what it may be. */
import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import { z } from 'zod'
import type { DetailType } from '../authorization-details/detail-types.ts'
import type { Resource, Resources } from '../authorization-details/resources.ts'
import type { TokenIssuer } from '../ciba/user-hint/hint-token.ts'
import {
  type ClientMetadata,
  type ClientMetadataInput,
  CONSENT_APP,
  DECIDE_SCOPE,
} from '../client/metadata/client-metadata.ts'
import { complainAboutKeys } from '../client/metadata/public-keys.ts'
import { type ClientCircumstances, readClientMetadata } from '../client/metadata/read-client-metadata.ts'
import type { AuditEvent } from '../platform/audit.ts'
import { isLoopback } from '../platform/http/web-address.ts'
import { profiles } from '../platform/security-profile.ts'
import { isPlain, mustBe, mustBeSecretly, readSettings } from '../platform/validation.ts'
import type { ConfiguredUser, UserHooks } from '../user/user.ts'
import { type DetailTypeInput, readDetailTypes, readResources } from './authorization-details.ts'
import { demoClients } from './demo.ts'
import { type ConfiguredUserInput, readUsers } from './users.ts'

/** The checked configuration: everything resolved, nothing left to guess, frozen. */
export interface Config {
  /** The provider's name and the start of all its addresses. No trailing slash. https unless in development. */
  issuer: string
  /** The address to listen on. */
  host: string
  /** The TCP port to listen on; 0 means any free one. */
  port: number
  /** http issuer, callbacks on this machine, mailbox, demo hook. Never in production. */
  development: boolean
  /** `sqlite:<absolute path>`, `sqlite::memory:` or `postgres://…`. May hold a password. */
  database: string
  /** At least 32 bytes, base64url. Everything at rest is sealed and hashed with keys made from it. */
  secret: string
  profile: 'core' | 'fapi-ciba'
  /** Own TLS: PEM texts, or the files they are in. `clientCa`: whose word is good for `tls_client_auth`. */
  tls?: { key: string; cert: string; clientCa?: string }
  proxy: {
    /** Addresses and CIDR ranges of the proxies whose `X-Forwarded-*` headers are believed. */
    trust: string[]
    /** The header in which such a proxy hands on the certificate that a client showed it. */
    clientCertificateHeader?: string
    /** Whose word is good for `tls_client_auth` where a proxy ends TLS: PEM certificates, or their file. */
    clientCa?: string
  }
  /** Where clients find the same endpoints with mutual TLS, if that is another address: `mtls_endpoint_aliases`. */
  mutualTls?: { issuer: string }
  /**
   * Whether the `aud` of client assertions has to be the issuer and nothing else, as RFC 7523's successor and FAPI 2.0
   * want it, against CIBA §7.1. True in the profile `fapi-ciba` unless set.
   */
  strictAssertionAudience: boolean
  /** Whether DPoP proofs have to hold a nonce of the server, so that none can be made in advance. */
  dpop: { requireNonce: boolean }
  requests: {
    /** Seconds a request waits for its user when the client does not say. */
    defaultExpiry: number
    /** Seconds a request waits at most, whatever the client says. */
    maxExpiry: number
    /** Seconds a request waits at least, whatever the client says: a user needs time to look at it. */
    minExpiry: number
    /** Seconds a client pauses between two polls. */
    interval: number
    /** In characters. */
    maxBindingMessageLength: number
    /** Seconds a poll is held while its user has not decided; 0 answers at once. */
    longPoll: number
    /** How many polls one process holds at the same time; those beyond are answered at once. */
    maxHeldPolls: number
    /** How many requests of one user may wait at the same time. */
    maxOpenPerUser: number
    /**
     * What a client is told whose hint leads to nobody: the truth, or what it would hear of a user who never answers.
     * A client's `backchannel_unknown_users` wins.
     */
    unknownUsers: 'error' | 'pretend'
    /** Whether every request has to be signed. A client that registered an algorithm always signs. */
    requireSigned: boolean
    /**
     * Whether users pick the number that the client shows, where the binding message is one. `required`: every binding
     * message has to be one.
     */
    numberMatching: boolean | 'required'
  }
  /** Whose word is good for who is meant by a `login_hint_token`. */
  hints: { tokenIssuers: TokenIssuer[] }
  /** How many wrong user codes there may be before no code passes for `lockSeconds`. */
  userCodes: {
    /** Of one client about one user. */
    maxTries: number
    /** Of one client, about all users. */
    maxTriesPerClient: number
    /** About one user, of all clients this user has never approved; an approved one is judged by itself. */
    maxTriesPerUser: number
    lockSeconds: number
  }
  /** How long users stay signed in here, in seconds: without using it, and since they were authenticated. */
  sessions: { idleTtl: number; absoluteTtl: number }
  tokens: {
    /** Life of an access token in seconds. */
    accessTtl: number
    /** Life of an ID token in seconds. */
    idTtl: number
    /** Life of a refresh token in seconds. */
    refreshTtl: number
    /** How ID tokens are signed for clients that do not say. */
    idTokenAlg: 'ES256' | 'RS256' | 'PS256'
    /** What clients may ask for. `ciba:decide` is always there and need not be named. */
    scopes: string[]
  }
  /** The keys that tokens are signed with. */
  keys: {
    /** Seconds a key is published before it signs. Clients may keep a key set for half of that. */
    publishAhead: number
    /** Seconds a key signs before the next one does; left out, keys are changed by command only. */
    rotateEvery?: number
    /** Seconds that ID tokens are good as hints after their key has signed its last. */
    keepForHints: number
  }
  /** What clients may ask for in detail (RFC 9396), by the name of its type. */
  authorizationDetails: { types: Record<string, DetailType> }
  /** What access tokens may be for (RFC 8707), by the address clients name. */
  resources: Resources
  notifications: {
    /** Seconds a client has to answer a ping or push. */
    timeout: number
    /** How often one is tried before it is parked. */
    attempts: number
    /** Whether notifications may go to addresses of private networks. Not where anybody may register. */
    allowPrivateNetworks: boolean
    /** Whose certificates are trusted besides those of Node's own list: PEM certificates, or their file. */
    ca?: string
  }
  /** How much may be asked, and tried. 0 is no limit. What a limit of requests refuses reaches nobody. */
  limits: Limits
  /** How many days what is finished is kept before it is pruned; what is left out is kept for ever. */
  retention: {
    /** Authentication requests after they were denied, redeemed or had expired. Longer, while tokens of them live. */
    requests: number
    /** Notifications after they were delivered or parked. */
    notifications: number
    /** The consent history, which users look back on. */
    history?: number
    /** Signed authentication requests as they were received: evidence. */
    signedRequests?: number
  }
  /** Numbers for Prometheus at `/metrics`, never for everybody. */
  metrics: {
    /** On in development, and wherever `token` or `from` says who may read it. */
    enabled: boolean
    /** Whoever brings it as a bearer token may read: at least 32 characters. */
    token?: string
    /** Addresses and CIDR ranges that may read without one. In development this machine may. */
    from: string[]
  }
  /** Hears of every event of the audit stream (docs/audit.md). What it throws changes nothing. */
  audit?: (event: AuditEvent) => unknown
  /** Whether clients register themselves at `/oauth/register`: with an initial access token, or `open` to anybody. */
  registration: {
    mode: 'off' | 'token' | 'open'
    /** How many clients one address may register in an hour where it is open. */
    perHour: number
  }
  /** How users are told by mail: the server, `smtp://user:password@host:port` or `smtps://…`, and who it comes from. */
  email?: { smtp: string; from: string }
  /** Telling users on browsers they subscribe with. `subject`: where push services reach the operator, mailto: or https:. */
  webPush?: { subject: string }
  /** A service of yours that hears of every request, and the secret its calls are signed with. */
  deviceWebhook?: { url: string; secret: string }
  /** A folder with texts that replace Doorbell's own, one `<language>.json` each; absolute once loaded. */
  texts?: string
  /** Seconds for which browsers use https only (RFC 6797), where the issuer is https and outside development. */
  hsts: { maxAge: number }
  /** How the server ends: seconds that it still serves after the signal, saying that it is not ready any more. */
  shutdown: { delay: number }
  /** Where users sign in: `self`, or another OpenID provider, by its issuer. */
  login: { issuer: string; client_id?: string; client_secret?: string }
  clients: ClientMetadata[]
  /** A list, or an application's own hooks. */
  users: ConfiguredUser[] | UserHooks
  /** Passed to oidc-provider as it is; `features` one by one, those that are not named stay as they are. */
  oidc: Record<string, unknown>
  /** How much is logged. */
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'
  /** Whether the demo cast is on stage: an option of the command, not a setting. */
  demo: boolean
}

export interface Limits {
  /** Calls of clients that one process has in work at the same time, and as many of users: more are answered 503. */
  inFlight: number
  /** How many requests of one user may wait is `requests.maxOpenPerUser`; `perMinute`: how many are accepted. */
  perUser: { perMinute: number }
  /** One client's requests: how many may wait, and how many are accepted within any sixty seconds. */
  /** `unknownPerMinute`: how often it is told that nobody is there; then it waits, so that it cannot find out who is. */
  perClient: { open: number; perMinute: number; unknownPerMinute: number }
  /** One client's requests about one user. */
  perClientAndUser: { open: number; perMinute: number }
  /**
   * Seconds a client waits before it may ask a user again who denied it, or who left a request unanswered that ran out
   * within a minute: twice as long each time, until an approval.
   */
  pauseAfterDenial: { first: number; longest: number }
  signIn: {
    /**
     * Attempts with a password that fail before they have to pause: for one user or name, or of a browser in which the
     * user has signed in before; from one address (an IPv6 /64); from one network (a /24, a /48).
     */
    perName: number
    perAddress: number
    perNetwork: number
    /** Seconds of the first pause; each further attempt that fails makes it twice as long, up to the longest. */
    pause: number
    longestPause: number
    /** Sign-ins that were begun and not ended: of one network, and of all at this process. */
    openPerNetwork: number
    openInAll: number
  }
  /** Pages that listen for news at the same time, at this process: of one session, of one user, and in all. */
  streams: { perSession: number; perUser: number; inAll: number }
}

type LimitsInput = { inFlight?: number | undefined } & {
  [Section in keyof Omit<Limits, 'inFlight'>]?: Optional<Limits[Section]> | undefined
} & {
  perUser?: { open?: number | undefined } | undefined
}

type Sections =
  | 'tls'
  | 'proxy'
  | 'requests'
  | 'hints'
  | 'userCodes'
  | 'sessions'
  | 'tokens'
  | 'keys'
  | 'notifications'
  | 'email'
  | 'webPush'
  | 'mutualTls'
  | 'dpop'
  | 'registration'
  | 'retention'
  | 'deviceWebhook'
  | 'shutdown'
  | 'hsts'
  | 'login'
type Optional<Settings> = { [Name in keyof Settings]?: Settings[Name] | undefined }

/** The configuration as somebody writes it: everything may be left out, `undefined` counts as left out. */
export type ConfigInput = Optional<
  Omit<
    Config,
    | Sections
    | 'development'
    | 'clients'
    | 'users'
    | 'demo'
    | 'authorizationDetails'
    | 'resources'
    | 'limits'
    | 'metrics'
  >
> & {
  [Section in Sections]?: Optional<NonNullable<Config[Section]>> | undefined
} & {
  /**
   * http issuer, callbacks on this machine, mailbox, demo hook; on this machine only, unless it is said to be
   * `exposed`: whoever reaches it then may decide everything. Never in production.
   */
  development?: boolean | 'exposed' | undefined
  limits?: LimitsInput | undefined
  /** `true` is `{ enabled: true }`. */
  metrics?: boolean | Optional<Config['metrics']> | undefined
  /** Registered at start: RFC 7591 metadata with `client_id` and, where one is needed, `client_secret`. */
  clients?: ClientMetadataInput[] | undefined
  /** A list, or an application's own hooks. */
  users?: ConfiguredUserInput[] | UserHooks | undefined
  /** What clients may ask for in detail, by the name of its type. */
  authorizationDetails?: { types?: Record<string, DetailTypeInput> | undefined } | undefined
  /** What access tokens may be for, by the address clients name. */
  resources?: Record<string, Optional<Resource>> | undefined
}

/**
 * Gives an editor the names and types of the settings. It changes and checks nothing: that happens when the server
 * starts, with all complaints at once.
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

export interface Circumstances {
  /** Whether the demo cast was asked for. */
  demo?: boolean
  /** How a setting is called in a complaint, e.g. with the environment variable it came from. */
  nameOf?: (path: string) => string
}

/** A configuration that is complete but for the secret, which development finds in a file. */
export type CheckedConfig = Omit<Config, 'secret'> & { secret?: string }

/** Completes `input` with defaults and checks it, alone and together. No complaint contains a secret. */
export function checkConfig(
  input: Record<string, unknown>,
  { demo = false, nameOf = (path) => path }: Circumstances = {},
): { config: CheckedConfig } | { complaints: string[] } {
  const { value, complaints, broken } = readSettings(schema, spelledOut(input), { known: knownSettings, nameOf })
  const { types, ...details } = readDetailTypes(value.authorizationDetails.types)
  const ownScopes = isBroken('tokens.scopes', broken) ? undefined : scopesOf(value)
  const { resources, ...resourceReading } = readResources(value.resources, ownScopes)
  const clients = readClients(value.clients, {
    // While nobody knows which it is, complaints that production would have are only noise.
    development: value.development !== false || broken.has('development'),
    profile: broken.has('profile') ? profiles.core : profiles[value.profile],
    seesCertificates: broken.has('tls') || seesCertificates(value),
    ...(details.complaints.length === 0 && { detailTypes: Object.keys(types) }),
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
      maxOpenPerUser: value.requests.maxOpenPerUser ?? limits.perUser.open ?? 5,
      requireSigned: value.requests.requireSigned ?? profiles[value.profile].signedRequestsOnly,
    },
    userCodes: {
      ...value.userCodes,
      maxTriesPerUser: value.userCodes.maxTriesPerUser ?? 4 * value.userCodes.maxTries,
    },
    limits: limitsIn(value),
    // Whoever develops wants it to end; no balancer has to hear of it.
    shutdown: { delay: value.shutdown.delay ?? (value.development === false ? 5 : 0) },
    metrics: {
      ...metrics,
      enabled:
        metrics.enabled ?? (value.development !== false || metrics.token !== undefined || metrics.from.length > 0),
    },
    clients: clients.clients,
    users: users.users,
    authorizationDetails: { types },
    resources,
    demo,
  }
  const crossed = rules
    .filter(({ reads, unless }) => !reads.some((path) => isBroken(path, broken)) && unless(config, value))
    .map(({ reads, says }) => `${nameOf(reads[0]!)} ${typeof says === 'string' ? says : says(config)}`)
  const all = [
    ...complaints,
    ...crossed,
    ...details.complaints,
    ...resourceReading.complaints,
    ...clients.complaints,
    ...users.complaints,
  ]
  if (all.length > 0) return { complaints: all }
  return { config: freeze(config) }
}

function spelledOut(input: Record<string, unknown>): Record<string, unknown> {
  return typeof input.metrics === 'boolean' ? { ...input, metrics: { enabled: input.metrics } } : input
}

/** An operator who has requests run out sooner than usual does not have to say it twice. */
function leastExpiryOf({ requests: { defaultExpiry, maxExpiry }, development }: Value): number {
  return Math.min(development ? 1 : 30, defaultExpiry, maxExpiry)
}

/** Whoever develops asks the same user again and again, and denies: there it is limited only on demand. */
function limitsIn({ limits, development }: Value): Limits {
  const usual = (value: number) => (development ? 0 : value)
  const { perUser, perClient, perClientAndUser, pauseAfterDenial } = limits
  return {
    ...limits,
    perUser: { perMinute: perUser.perMinute ?? usual(10) },
    perClient: { ...perClient, unknownPerMinute: perClient.unknownPerMinute ?? usual(30) },
    perClientAndUser: {
      open: perClientAndUser.open ?? usual(2),
      perMinute: perClientAndUser.perMinute ?? usual(5),
    },
    pauseAfterDenial: { ...pauseAfterDenial, first: pauseAfterDenial.first ?? usual(30) },
  }
}

function isBroken(path: string, broken: Set<string>): boolean {
  return broken.has(path) || broken.has(path.split('.')[0]!)
}

const smtpForms = '"smtp://user:password@host:port" or "smtps://…", user, password and port as needed'
const senderForm = 'a mail address, like "no-reply@example.com" or "Doorbell <no-reply@example.com>"'
const subjectForm = '"mailto:" and a mail address, or an https address'
const webhookForm = 'an https address, without user name and fragment'
const webhookSecretForm = 'at least 32 characters'
const metricsTokenForm = 'at least 32 printable ASCII characters without spaces'

const latest = 14 * 86_400
const year = 365 * 86_400
/** In days. */
const century = 36_525

/** Settings of later versions have their place already, so that they get a sentence of their own and not "unknown". */
const schema = z.strictObject({
  issuer: z.string(mustBeSecretly('an address')).exactOptional(),
  host: text('a host name or an IP address, without scheme and port', isHost).default('127.0.0.1'),
  port: number('a port number, 0 to 65535', 0, 65_535).default(4000),
  development: yesOrNo('exposed').default(false),
  database: z
    .string(mustBeSecretly(databaseForms()))
    .refine(isDatabase, mustBeSecretly(databaseForms()))
    .default('sqlite:./doorbell.db'),
  secret: z.string(mustBeSecretly(secretForm())).refine(isSecret, mustBeSecretly(secretForm())).exactOptional(),
  profile: choice(['core', 'fapi-ciba']).default('core'),
  tls: section({
    key: z
      .string(mustBeSecretly(pemForm('key')))
      .refine(isPem, mustBeSecretly(pemForm('key')))
      .exactOptional(),
    cert: text(pemForm('certificate'), isPem).exactOptional(),
    clientCa: text(pemForm('certificates'), isPem).exactOptional(),
  }).exactOptional(),
  mutualTls: section({
    issuer: text('an https address', (address) => /^https:\/\//.test(address) && URL.canParse(address)).exactOptional(),
  }).exactOptional(),
  strictAssertionAudience: yesOrNo().exactOptional(),
  dpop: section({ requireNonce: yesOrNo().default(false) }).prefault({}),
  proxy: section({
    trust: list('an IP address or a range like "10.0.0.0/8"', isRange).default([]),
    clientCertificateHeader: text('the name of a header', (name) => /^[\w-]+$/.test(name)).exactOptional(),
    clientCa: text(pemForm('certificates'), isPem).exactOptional(),
  }).prefault({}),
  requests: section({
    // Timers of Node run for 24 days at most; a request must be able to expire on one.
    defaultExpiry: whole('seconds', 1, latest).default(600),
    maxExpiry: whole('seconds', 1, latest).default(86_400),
    minExpiry: whole('seconds', 1, latest).exactOptional(),
    interval: whole('seconds', 1, 3600).default(5),
    maxBindingMessageLength: whole('characters', 1, 1024).default(128),
    longPoll: whole('seconds', 0, 30).default(0),
    maxHeldPolls: whole('polls', 1, 1_000_000).default(10_000),
    maxOpenPerUser: whole('requests', 1, 1000).exactOptional(),
    unknownUsers: choice(['error', 'pretend']).default('error'),
    requireSigned: yesOrNo().exactOptional(),
    numberMatching: yesOrNo('required').default(false),
  }).prefault({}),
  hints: section({
    tokenIssuers: z.array(tokenIssuer(), mustBe('a list of issuers')).default([]),
  }).prefault({}),
  userCodes: section({
    maxTries: whole('tries', 1, 100).default(5),
    maxTriesPerClient: whole('tries', 1, 1_000_000).default(100),
    maxTriesPerUser: whole('tries', 2, 1_000_000).exactOptional(),
    lockSeconds: whole('seconds', 1, 30 * 86_400).default(900),
  }).prefault({}),
  sessions: section({
    idleTtl: whole('seconds', 60, year).default(86_400),
    absoluteTtl: whole('seconds', 60, year).default(1_209_600),
  }).prefault({}),
  tokens: section({
    accessTtl: whole('seconds', 1, year).default(600),
    idTtl: whole('seconds', 1, year).default(3600),
    refreshTtl: whole('seconds', 1, 10 * year).default(1_209_600),
    idTokenAlg: choice(['ES256', 'RS256', 'PS256']).default('ES256'),
    scopes: list('a scope: printable ASCII without spaces', isScope).default([
      'openid',
      'profile',
      'email',
      'phone',
      'offline_access',
    ]),
  }).prefault({}),
  keys: section({
    publishAhead: whole('seconds', 60, year).default(3600),
    rotateEvery: whole('seconds', 3600, 10 * year).exactOptional(),
    keepForHints: whole('seconds', 0, 10 * year).default(year),
  }).prefault({}),
  // Types and resources are read in authorization-details.ts.
  authorizationDetails: section({ types: z.unknown().default({}) }).prefault({}),
  resources: z.unknown().default({}),
  notifications: section({
    timeout: whole('seconds', 1, 60).default(5),
    attempts: whole('attempts', 1, 50).default(8),
    allowPrivateNetworks: yesOrNo().default(false),
    ca: text(pemForm('certificates'), isPem).exactOptional(),
  }).prefault({}),
  limits: section({
    inFlight: whole('calls', 0, 1_000_000).default(1000),
    perUser: section({
      // The other name of requests.maxOpenPerUser.
      open: whole('requests', 1, 1000).exactOptional(),
      perMinute: whole('requests', 0, 1_000_000).exactOptional(),
    }).prefault({}),
    perClient: section({
      open: whole('requests', 0, 1_000_000).default(0),
      perMinute: whole('requests', 0, 1_000_000).default(0),
      unknownPerMinute: whole('requests', 0, 1_000_000).exactOptional(),
    }).prefault({}),
    perClientAndUser: section({
      open: whole('requests', 0, 1_000_000).exactOptional(),
      perMinute: whole('requests', 0, 1_000_000).exactOptional(),
    }).prefault({}),
    pauseAfterDenial: section({
      first: whole('seconds', 0, 86_400).exactOptional(),
      longest: whole('seconds', 1, 86_400).default(3600),
    }).prefault({}),
    signIn: section({
      perName: whole('attempts', 1, 1000).default(5),
      perAddress: whole('attempts', 1, 100_000).default(50),
      perNetwork: whole('attempts', 1, 1_000_000).default(200),
      pause: whole('seconds', 1, 3600).default(30),
      longestPause: whole('seconds', 1, 86_400).default(900),
      openPerNetwork: whole('sign-ins', 1, 100_000).default(100),
      openInAll: whole('sign-ins', 1, 1_000_000).default(10_000),
    }).prefault({}),
    streams: section({
      perSession: whole('streams', 1, 1000).default(10),
      perUser: whole('streams', 1, 1000).default(20),
      inAll: whole('streams', 1, 1_000_000).default(10_000),
    }).prefault({}),
  }).prefault({}),
  retention: section({
    requests: whole('days', 1, century).default(30),
    notifications: whole('days', 1, century).default(30),
    history: whole('days', 1, century).exactOptional(),
    signedRequests: whole('days', 1, century).exactOptional(),
  }).prefault({}),
  metrics: section({
    enabled: yesOrNo().exactOptional(),
    token: z
      .string(mustBeSecretly(metricsTokenForm))
      .refine((token) => /^[\x21-\x7e]{32,}$/.test(token), mustBeSecretly(metricsTokenForm))
      .exactOptional(),
    from: list('an IP address or a range like "10.0.0.0/8"', isRange).default([]),
  }).prefault({}),
  audit: z
    .custom<(event: AuditEvent) => unknown>((hook) => typeof hook === 'function', mustBe('a function'))
    .exactOptional(),
  registration: section({
    mode: choice(['off', 'token', 'open']).default('off'),
    perHour: whole('clients', 1, 100_000).default(10),
  }).prefault({}),
  email: section({
    smtp: z.string(mustBeSecretly(smtpForms)).refine(isSmtp, mustBeSecretly(smtpForms)).exactOptional(),
    from: text(senderForm, isSender).exactOptional(),
  }).exactOptional(),
  webPush: section({ subject: text(subjectForm, isSubject).exactOptional() }).exactOptional(),
  deviceWebhook: section({
    url: z.string(mustBeSecretly(webhookForm)).refine(isPlainUrl, mustBeSecretly(webhookForm)).exactOptional(),
    secret: z
      .string(mustBeSecretly(webhookSecretForm))
      .refine((secret) => secret.length >= 32, mustBeSecretly(webhookSecretForm))
      .exactOptional(),
  }).exactOptional(),
  hsts: section({ maxAge: whole('seconds', 0, 10 * year).default(year) }).prefault({}),
  shutdown: section({ delay: whole('seconds', 0, 300).exactOptional() }).prefault({}),
  texts: text('a folder', (folder) => folder !== '').exactOptional(),
  login: section({
    issuer: text('"self"', (issuer) => issuer !== '').default('self'),
    client_id: z.string(mustBe('a text')).exactOptional(),
    client_secret: z.string(mustBeSecretly('a text')).exactOptional(),
  }).prefault({}),
  clients: z.array(z.unknown(), mustBe('a list of clients')).default([]),
  // Lists and hooks are read in users.ts.
  users: z.unknown().default([]),
  oidc: z.custom<Record<string, unknown>>(isPlain, mustBe('an object')).default({}),
  logLevel: choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
})

function tokenIssuer() {
  return section({
    issuer: text('its "iss": a text', (issuer) => issuer !== ''),
    jwks: z.custom<{ keys: Record<string, unknown>[] }>().superRefine(complainAboutKeys).exactOptional(),
    jwksUri: text('an https address, or http in development', isPlainUrl).exactOptional(),
    audience: text('a text', (audience) => audience !== '').exactOptional(),
    algorithms: z
      .array(choice(profiles.core.clientSigning), mustBe('a list of algorithms'))
      .min(1, mustBe('a list of at least one algorithm'))
      .exactOptional(),
    subject: text('the name of a claim', (claim) => claim !== '').exactOptional(),
  }).superRefine(({ jwks, jwksUri }, context) => {
    if ((jwks === undefined) === (jwksUri === undefined)) {
      context.addIssue({ code: 'custom', message: 'must have either jwks or jwksUri' })
    }
  })
}

function section<Shape extends z.core.$ZodShape>(shape: Shape) {
  return z.strictObject(shape, mustBe('an object of settings'))
}

function whole(unit: string, least: number, most: number) {
  return number(`a whole number of ${unit}, at least ${least} and at most ${most}`, least, most)
}

function number(what: string, least: number, most: number) {
  return z
    .number(mustBe(what))
    .refine((value) => Number.isInteger(value) && value >= least && value <= most, mustBe(what))
}

function text(what: string, holds: (value: string) => boolean) {
  return z.string(mustBe(what)).refine(holds, mustBe(what))
}

function list(what: string, holds: (value: string) => boolean) {
  return z.array(text(what, holds), mustBe(`a list; each entry is ${what}`))
}

function choice<const Word extends string>(words: readonly Word[]) {
  return z.enum(words, mustBe(`one of ${words.map((word) => `"${word}"`).join(', ')}`))
}

function yesOrNo(): z.ZodBoolean
function yesOrNo<const Word extends string>(word: Word): z.ZodLiteral<boolean | Word>
function yesOrNo(word?: string) {
  if (word === undefined) return z.boolean(mustBe('true or false'))
  return z.literal([true, false, word], mustBe(`true, false or "${word}"`))
}

function isHost(host: string): boolean {
  return isIP(host) !== 0 || (host.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(host))
}

function databaseForms(): string {
  return '"sqlite:<file>", "sqlite::memory:" or "postgres://user:password@host/name"'
}

function isDatabase(address: string): boolean {
  if (/^postgres(ql)?:\/\//.test(address)) return URL.canParse(address)
  // sqlite://file looks like a host name to some and like a path to others.
  return /^sqlite:./.test(address) && !/^sqlite:\/\/(?!\/)/.test(address)
}

function secretForm(): string {
  return 'at least 32 bytes in base64url, which are 43 characters'
}

/** Whether this can be the configured secret: at least 32 bytes, base64url. */
export function isSecret(secret: string): boolean {
  return /^[A-Za-z0-9_-]+$/.test(secret) && Buffer.from(secret, 'base64url').length >= 32
}

/** A slip in here would be found out with the first mail only. */
function isSmtp(address: string): boolean {
  const url = URL.parse(address)
  return (
    url !== null &&
    ['smtp:', 'smtps:'].includes(url.protocol) &&
    url.hostname !== '' &&
    ['', '/'].includes(url.pathname) &&
    url.search === '' &&
    url.hash === '' &&
    isDecodable(url.username) &&
    isDecodable(url.password)
  )
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

const mailAddress = /[^\s@<>()[\],;:"\\]+@[^\s@<>()[\],;:"\\]+/.source
const sender = new RegExp(`^(${mailAddress}|("[^"\\\\\r\n]*"|[^<>"@,;:\r\n]+) ?<${mailAddress}>)$`)

function isSender(from: string): boolean {
  return sender.test(from)
}

function isSubject(subject: string): boolean {
  if (/^mailto:/.test(subject)) return new RegExp(`^${mailAddress}$`).test(subject.slice('mailto:'.length))
  return isPlainUrl(subject) && subject.startsWith('https:')
}

function isPlainUrl(address: string): boolean {
  const url = URL.parse(address)
  return (
    url !== null &&
    ['http:', 'https:'].includes(url.protocol) &&
    url.username === '' &&
    url.password === '' &&
    !address.includes('#')
  )
}

/** Whether a section has what it is useless without; the rules complain if not. */
function isWhole<Section extends object>(
  section: Section | undefined,
  names: (keyof Section)[],
): section is Required<Section> {
  return section !== undefined && names.every((name) => section[name] !== undefined)
}

function pemForm(what: string): string {
  return `a file with ${what === 'certificates' ? '' : 'a '}PEM ${what}, or its text`
}

function isPem(text: string): boolean {
  return text.startsWith('-----BEGIN ')
}

function isRange(range: string): boolean {
  const [address = '', bits, ...rest] = range.split('/')
  const version = isIP(address)
  if (version === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128))
}

function isScope(scope: string): boolean {
  return /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)
}

/** What a setting of the environment is turned into. */
export type SettingKind = 'text' | 'number' | 'yes or no' | 'list' | 'structure'

/** Every single setting by its dotted path. */
export const settingKinds: ReadonlyMap<string, SettingKind> = new Map(leavesOf(schema, []))

const knownSettings = [...settingKinds.keys()].flatMap((path) =>
  path.includes('.') ? [path.split('.')[0]!, path] : [path],
)

function leavesOf(type: z.core.$ZodType, path: string[]): [string, SettingKind][] {
  if (type instanceof z.ZodDefault || type instanceof z.ZodPrefault || type instanceof z.ZodOptional) {
    return leavesOf(type.unwrap(), path)
  }
  if (type instanceof z.ZodExactOptional) return leavesOf(type.unwrap(), path)
  if (type instanceof z.ZodObject) {
    return Object.entries<z.core.$ZodType>(type.shape).flatMap(([name, inner]) => leavesOf(inner, [...path, name]))
  }
  return [[path.join('.'), kindOf(type)]]
}

function kindOf(type: z.core.$ZodType): SettingKind {
  if (type instanceof z.ZodNumber) return 'number'
  if (type instanceof z.ZodBoolean || type instanceof z.ZodLiteral) return 'yes or no'
  if (type instanceof z.ZodString || type instanceof z.ZodEnum) return 'text'
  return type instanceof z.ZodArray && type.element instanceof z.ZodString ? 'list' : 'structure'
}

type Value = z.output<typeof schema>

/** Rules that need more than one setting, or words of their own. */
interface Rule {
  /** The first is the one complained about. If one of these is broken already, the rule is silent. */
  reads: string[]
  /** Whether the rule is broken. */
  unless: (config: CheckedConfig, given: Value) => boolean
  says: string | ((config: CheckedConfig) => string)
}

/** What a deployment that has promised a profile must be set to. In `core` none of it is asked. */
const profileRules: Rule[] = [
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

/** Whether certificates of clients can be seen at all. */
export function seesCertificates({
  tls,
  proxy,
}: {
  tls?: object
  proxy: Pick<Config['proxy'], 'clientCertificateHeader'>
}): boolean {
  return tls !== undefined || proxy.clientCertificateHeader !== undefined
}

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

const rules: Rule[] = [
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
  needed('email', 'smtp', smtpForms),
  needed('email', 'from', senderForm),
  needed('webPush', 'subject', subjectForm),
  needed('deviceWebhook', 'url', webhookForm),
  needed('deviceWebhook', 'secret', webhookSecretForm),
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
  needed('tls', 'key', pemForm('key')),
  needed('tls', 'cert', pemForm('certificate')),
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
  needed('mutualTls', 'issuer', 'an https address'),
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

/** A section is there or not; if it is, it needs this setting. */
function needed(
  section: 'email' | 'webPush' | 'deviceWebhook' | 'tls' | 'mutualTls',
  name: string,
  form: string,
): Rule {
  const lacks = (settings: Record<string, unknown> | undefined) => settings !== undefined && !(name in settings)
  return {
    reads: [`${section}.${name}`],
    unless: (_config, given) => lacks(given[section]),
    says: `is missing; it must be ${form}`,
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

interface ClientReading extends Required<Omit<ClientCircumstances, 'detailTypes'>> {
  detailTypes?: readonly string[]
  /** What clients may be registered for; nothing if the application adds scopes of its own. */
  scopes: string[] | undefined
}

function readClients(
  inputs: unknown[],
  { scopes, ...circumstances }: ClientReading,
): { clients: ClientMetadata[]; complaints: string[] } {
  const complaints: string[] = []
  const clients: ClientMetadata[] = []
  const owners = new Map<string, number>()
  for (const [index, input] of inputs.entries()) {
    const place = `clients[${index}]`
    if (!isPlain(input)) {
      complaints.push(`${place} must be an object`)
      continue
    }
    const read = readClientMetadata(input, circumstances)
    if ('complaints' in read) complaints.push(...read.complaints.map((complaint) => `${place}.${complaint}`))
    else {
      clients.push(read.client)
      const strange = read.client.scope?.split(' ').find((scope) => scopes?.includes(scope) === false)
      if (strange !== undefined) complaints.push(`${place}.scope holds "${strange}", which is not in tokens.scopes`)
    }
    if (input.client_id === CONSENT_APP)
      complaints.push(`${place}.client_id is that of Doorbell's own client; take another`)
    const owner = owners.get(String(input.client_id))
    if (owner !== undefined) complaints.push(`${place}.client_id is the same as clients[${owner}].client_id`)
    else if (typeof input.client_id === 'string') owners.set(input.client_id, index)
  }
  return { clients, complaints }
}

function scopesOf(config: Pick<Config, 'tokens'>): string[] {
  return [...new Set([...config.tokens.scopes, DECIDE_SCOPE])]
}

/** Hooks and what goes to oidc-provider stay as they are: they belong to the application. */
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
