import type { DetailType } from '../authorization-details/detail-types.ts'
import type { Resource, Resources } from '../authorization-details/resources.ts'
import type { TokenIssuer } from '../ciba/user-hint/hint-token.ts'
import type { ClientMetadata, ClientMetadataInput } from '../client/metadata/client-metadata.ts'
import type { AuditEvent } from '../platform/audit.ts'
import { isPlain } from '../platform/validation.ts'
import type { ConfiguredUser, UserHooks } from '../user/user.ts'
import type { DetailTypeInput } from './authorization-details.ts'
import type { ConfiguredUserInput } from './users.ts'

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
