/** What each setting may be, by itself, and what it is when it is left out. */
import { z } from 'zod'
import { complainAboutKeys } from '../client/metadata/public-keys.ts'
import type { AuditEvent } from '../platform/audit.ts'
import { profiles } from '../platform/security-profile.ts'
import { isPlain, mustBe, mustBeSecretly } from '../platform/validation.ts'
import { choice, list, number, section, text, whole, yesOrNo } from './fields.ts'
import {
  databaseForms,
  isDatabase,
  isHost,
  isPem,
  isPlainUrl,
  isRange,
  isScope,
  isSecret,
  isSender,
  isSmtp,
  isSubject,
  metricsTokenForm,
  pemForm,
  secretForm,
  senderForm,
  smtpForms,
  subjectForm,
  webhookForm,
  webhookSecretForm,
} from './formats.ts'

const latest = 14 * 86_400
const year = 365 * 86_400
/** In days. */
const century = 36_525

/** Settings of later versions have their place already, so that they get a sentence of their own and not "unknown". */
export const schema = z.strictObject({
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

/** What a setting of the environment is turned into. */
export type SettingKind = 'text' | 'number' | 'yes or no' | 'list' | 'structure'

/** Every single setting by its dotted path. */
export const settingKinds: ReadonlyMap<string, SettingKind> = new Map(leavesOf(schema, []))

/** What may be named: every setting, and every section. */
export const knownSettings = [...settingKinds.keys()].flatMap((path) =>
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

/** What was given, each setting checked by itself. */
export type GivenSettings = z.output<typeof schema>
