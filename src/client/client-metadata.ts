/** What a client says about itself (RFC 7591, CIBA Core §4): read, completed with defaults, and checked as a whole. */
import { isIP } from 'node:net'
import { z } from 'zod'
import { isDistinguishedName, subjectMetadata } from '../client-certificate/subject.ts'
import { isPlain, mustBe, mustBeSecretly, readSettings } from '../complaint.ts'
import { isCostly, mostKeys, withKnownMembers } from '../http/key-members.ts'
import { type Profile, profiles } from '../profile.ts'
import { sectorOf, usesItsKeys } from './sector.ts'

export const CIBA_GRANT = 'urn:openid:params:grant-type:ciba'

/** The scope with which a user's device may see and decide what waits for that user. */
export const DECIDE_SCOPE = 'ciba:decide'

/** The server's own client: the app in which users approve. It is registered at each start. */
export const CONSENT_APP = 'doorbell-consent-app'

export type DeliveryMode = 'poll' | 'ping' | 'push'

/** The ways to say which user is meant (CIBA Core §7.1). */
export const hintKinds = ['login_hint', 'id_token_hint', 'login_hint_token'] as const
export type HintKind = (typeof hintKinds)[number]

export type ClientAuthenticationMethod =
  | 'client_secret_basic'
  | 'client_secret_post'
  | 'client_secret_jwt'
  | 'private_key_jwt'
  | 'tls_client_auth'
  | 'self_signed_tls_client_auth'
  | 'none'

/** A public key, RFC 7517. */
export type PublicJwk = Record<string, unknown> & { kty: 'EC' | 'RSA' | 'OKP' }

/** A client that has been checked: all defaults are filled in, metadata Doorbell does not understand is gone (DR-4). */
export interface ClientMetadata {
  /** 1 to 255 printable ASCII characters, no spaces. */
  client_id: string
  /** In clear, as it was given; hashed before it is stored, unless `client_secret_jwt` needs it. */
  client_secret?: string
  /** What users read when they are asked. */
  client_name?: string
  client_uri?: string
  logo_uri?: string
  policy_uri?: string
  tos_uri?: string
  contacts?: string[]
  application_type?: 'web' | 'native'
  redirect_uris: string[]
  grant_types: string[]
  response_types: string[]
  /** Separated by spaces. Without it the client may ask for every scope of the server. */
  scope?: string
  token_endpoint_auth_method: ClientAuthenticationMethod
  token_endpoint_auth_signing_alg?: string
  /** Whose certificate proves it is the client, with `tls_client_auth`: exactly one of these five. */
  tls_client_auth_subject_dn?: string
  tls_client_auth_san_dns?: string
  tls_client_auth_san_uri?: string
  tls_client_auth_san_ip?: string
  tls_client_auth_san_email?: string
  /** Whether its access tokens are bound to the certificate it collects them with. */
  tls_client_certificate_bound_access_tokens?: boolean
  /** Whether its access tokens are bound to the key of the DPoP proof that it then has to send. */
  dpop_bound_access_tokens?: boolean
  jwks?: { keys: PublicJwk[] }
  jwks_uri?: string
  id_token_signed_response_alg?: 'ES256' | 'RS256' | 'PS256'
  /** In seconds. */
  default_max_age?: number
  /** What it may ask for in detail (RFC 9396 §10). Without it, every type of the server. */
  authorization_details_types?: string[]
  require_auth_time?: boolean
  /** `pairwise`: the client knows users by names of its own (PW-1). */
  subject_type?: 'public' | 'pairwise'
  /** Lists the addresses that belong to one party, which then shares its names for users. */
  sector_identifier_uri?: string
  /** How the client gets its tokens. A client without it cannot ring. */
  backchannel_token_delivery_mode?: DeliveryMode
  /** What its authentication requests are signed with. With it, all of them are. */
  backchannel_authentication_request_signing_alg?: string
  /** Where a ping or push goes. */
  backchannel_client_notification_endpoint?: string
  /** Whether this is a device service, trusted to answer for users it has authenticated itself. */
  backchannel_device_service?: boolean
  /** Whether users have to confirm with a passkey what this client asks of them. */
  backchannel_require_passkey?: boolean
  /** Whether it asks users for their code and sends it. Users who have one are then asked through it no more without. */
  backchannel_user_code_parameter?: boolean
  /** How it may say which user it means; in any way unless told. */
  backchannel_allowed_hints?: HintKind[]
  /** What it hears of a user who is not there: `requests.unknownUsers` unless told. */
  backchannel_unknown_users?: 'error' | 'pretend'
  /** How much this client may ask, in the place of the server's `limits`. Only an operator says it. */
  limits?: ClientLimits
}

/** 0 is no limit; what is left out is as for everybody. */
export interface ClientLimits {
  perClient?: { open?: number; perMinute?: number; unknownPerMinute?: number }
  perClientAndUser?: { open?: number; perMinute?: number }
}

/** Client metadata as somebody writes it: everything but `client_id` may be left out, unknown metadata is ignored. */
export type ClientMetadataInput = { [Name in keyof ClientMetadata]?: ClientMetadata[Name] | undefined } & {
  client_id: string
  [unknown: string]: unknown
}

export interface ClientCircumstances {
  /** Whether plain http is accepted for addresses on this machine. */
  development: boolean
  /** What the deployment keeps to: `core` if nobody says. */
  profile?: Profile
  /** Whether certificates of clients are seen: they are, unless somebody says that they are not. */
  seesCertificates?: boolean
  /** What may be asked for in detail: anything, unless somebody says. */
  detailTypes?: readonly string[]
}

const lists = [
  'redirect_uris',
  'grant_types',
  'response_types',
  'contacts',
  'authorization_details_types',
  'backchannel_allowed_hints',
] as const satisfies (keyof ClientMetadata)[]

/** Of a list. Each entry may be complained about, which takes a hundred times as long as reading it. */
const mostEntries = 500

/** Every complaint starts with the name of the metadata it is about. None contains a secret. */
export function readClientMetadata(
  input: unknown,
  circumstances: ClientCircumstances,
): { client: ClientMetadata } | { complaints: string[] } {
  if (!isPlain(input)) return { complaints: ['client metadata must be an object'] }
  // RFC 7591 §2: null means left out.
  const given = Object.fromEntries(Object.entries(input).filter(([, value]) => value !== null && value !== undefined))
  const long = lists.filter((name) => Array.isArray(given[name]) && given[name].length > mostEntries)
  if (long.length > 0) return { complaints: long.map((name) => `${name} must have at most ${mostEntries} entries`) }
  const { value, complaints, broken } = readSettings(schemaFor(circumstances), given)
  const client = complete(value)
  const crossed = rules
    .filter(({ reads, unless }) => !reads.some((name) => broken.has(name)) && unless(client, circumstances))
    .map(({ says }) => (typeof says === 'string' ? says : says(client)))
  const breaches = breachesOf(client, circumstances.profile ?? profiles.core)
  const all = [...complaints, ...crossed, ...breaches.filter(({ about }) => !broken.has(about)).map(({ says }) => says)]
  return all.length > 0 ? { complaints: all } : { client }
}

export interface Breach {
  about: keyof ClientMetadata
  says: string
}

/** What of a client its deployment's profile does not allow, each named with the clause. A client may have been registered before there was one. */
export function breachesOf(client: ClientMetadata, profile: Profile): Breach[] {
  const rings = client[mode] !== undefined
  const may = (
    name: keyof ClientMetadata,
    allowedBy: (profile: Profile) => readonly string[],
    clause: string,
  ): Breach[] => {
    const value = String(client[name])
    // What no profile allows is complained about anyway.
    if (allowedBy(profile).includes(value) || !allowedBy(profiles.core).includes(value)) return []
    const says = `${name} must be ${orOf(allowedBy(profile))}, because the profile is ${profile.name} (${clause})`
    return [{ about: name, says }]
  }
  const bound = 'tls_client_certificate_bound_access_tokens'
  const signing = 'backchannel_authentication_request_signing_alg'
  const unsigned = rings && profile.signedRequestsOnly && client[signing] === undefined
  const unbound = profile.boundTokensOnly && client[bound] === false && client[dpopBound] !== true
  return [
    ...(unbound
      ? [
          {
            about: bound,
            says: `${bound} must be true, or ${dpopBound} be, because the profile is ${profile.name} (FI-2)`,
          } as const,
        ]
      : []),
    ...may(mode, (allows) => allows.deliveryModes, 'FC-4'),
    ...may(method, (allows) => allows.clientAuthentication, 'FI-1'),
    ...may('token_endpoint_auth_signing_alg', (allows) => allows.clientSigning, 'FC-15'),
    ...may('id_token_signed_response_alg', (allows) => allows.idTokenSigning, 'FC-15'),
    ...may(signing, (allows) => allows.clientSigning, 'FC-15'),
    ...(unsigned
      ? [
          {
            about: signing,
            says: `${signing} is missing; the profile ${profile.name} wants every request signed: ${orOf(profile.clientSigning)} (FC-7)`,
          } as const,
        ]
      : []),
  ]
}

function orOf(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

function complete(draft: Draft): ClientMetadata {
  const mode = draft.backchannel_token_delivery_mode
  const grants = draft.grant_types ?? defaultGrants(mode, draft.backchannel_device_service === true)
  return {
    ...draft,
    client_id: draft.client_id ?? '',
    redirect_uris: draft.redirect_uris ?? [],
    grant_types: grants,
    response_types: draft.response_types ?? (grants.includes('authorization_code') ? ['code'] : []),
    token_endpoint_auth_method: draft.token_endpoint_auth_method ?? 'client_secret_basic',
  }
}

function defaultGrants(mode: DeliveryMode | undefined, isDeviceService: boolean): string[] {
  if (mode === 'poll' || mode === 'ping') return [CIBA_GRANT]
  // A push client is given its tokens and a device service needs none: neither uses the token endpoint (RG-2).
  if (mode === 'push' || isDeviceService) return []
  return ['authorization_code']
}

const methods = [
  'client_secret_basic',
  'client_secret_post',
  'client_secret_jwt',
  'private_key_jwt',
  'tls_client_auth',
  'self_signed_tls_client_auth',
  'none',
] as const
const tlsMethods: string[] = ['tls_client_auth', 'self_signed_tls_client_auth']
/** Whether a method rests on a secret that both sides know. */
export const needsSecret = (authentication: unknown): boolean => secretMethods.includes(authentication)

// Of whatever JSON may hold: an object can be made so that it cannot become a text.
const secretMethods: unknown[] = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt']
const keySigningAlgs = ['ES256', 'RS256', 'PS256', 'Ed25519', 'EdDSA']
const keyTypes: unknown[] = ['EC', 'RSA', 'OKP']
type Schema = ReturnType<typeof makeSchema>
type Draft = z.output<Schema>

/** Making one takes longer than reading a client, and a configuration may hold a thousand clients. */
const made: { development: boolean; profile: Profile; schema: Schema }[] = []

function schemaFor({ development, profile = profiles.core }: ClientCircumstances): Schema {
  const known = made.find((each) => each.development === development && each.profile === profile)
  if (known) return known.schema
  const schema = makeSchema(development, profile)
  made.push({ development, profile, schema })
  return schema
}

function makeSchema(development: boolean, profile: Profile) {
  const webAddress = secretText('an http or https address', isWebAddress)
  const loopback = development ? ', or http on this machine' : ''
  const httpsAddress = (refused: string) =>
    secretText(`an https address${loopback}, without ${refused}`, (address) => isSafeAddress(address, development))

  return z.object({
    client_id: text('1 to 255 printable ASCII characters without spaces', (id) =>
      /^[\x21-\x7e]{1,255}$/.test(id),
    ).exactOptional(),
    client_secret: secretText('printable ASCII characters', (secret) => /^[\x20-\x7e]+$/.test(secret)).exactOptional(),
    client_name: text('1 to 255 characters, none of them invisible controls', isShowable).exactOptional(),
    client_uri: webAddress.exactOptional(),
    logo_uri: webAddress.exactOptional(),
    policy_uri: webAddress.exactOptional(),
    tos_uri: webAddress.exactOptional(),
    contacts: z.array(z.string(mustBe('a text')), mustBe('a list of texts')).exactOptional(),
    application_type: z.enum(['web', 'native'], mustBe('"web" or "native"')).exactOptional(),
    redirect_uris: z
      .array(secretText('an absolute address without a fragment', isRedirectAddress), mustBe('a list of addresses'))
      .exactOptional(),
    grant_types: z
      .array(
        z.enum([CIBA_GRANT, 'authorization_code', 'refresh_token'], {
          error: ({ input }) =>
            `must be "${CIBA_GRANT}", "authorization_code" or "refresh_token"; it is ${typeof input === 'string' ? JSON.stringify(input.slice(0, 60)) : 'not a text'}`,
        }),
        mustBe('a list of grant types'),
      )
      .exactOptional(),
    response_types: z.array(z.enum(['code'], mustBe('"code"')), mustBe('a list of response types')).exactOptional(),
    scope: text('scopes separated by single spaces', isScope).exactOptional(),
    token_endpoint_auth_method: z.enum(methods, mustBe(`one of ${methods.join(', ')}`)).exactOptional(),
    token_endpoint_auth_signing_alg: z
      .enum(['HS256', ...keySigningAlgs], mustBe(`one of HS256, ${keySigningAlgs.join(', ')}`))
      .exactOptional(),
    tls_client_auth_subject_dn: text(
      'a distinguished name, like "CN=till, O=Bank, C=DE"',
      isDistinguishedName,
    ).exactOptional(),
    tls_client_auth_san_dns: text('a host name', (name) => /^[a-z0-9][a-z0-9.-]{0,252}$/i.test(name)).exactOptional(),
    tls_client_auth_san_uri: text('an absolute address', isTidy).exactOptional(),
    tls_client_auth_san_ip: text('an IP address', (address) => isIP(address) !== 0).exactOptional(),
    tls_client_auth_san_email: text('a mail address', (address) => /^[^\s@]+@[^\s@]+$/.test(address)).exactOptional(),
    tls_client_certificate_bound_access_tokens: yesOrNo().exactOptional(),
    dpop_bound_access_tokens: yesOrNo().exactOptional(),
    jwks: z.custom<{ keys: PublicJwk[] }>().superRefine(complainAboutKeys).transform(onlyKnownMembers).exactOptional(),
    jwks_uri: httpsAddress('user name and fragment').exactOptional(),
    id_token_signed_response_alg: z
      .enum(['ES256', 'RS256', 'PS256'], mustBe('one of ES256, RS256, PS256'))
      .exactOptional(),
    default_max_age: z
      .number(mustBe('a whole number of seconds, at least 0'))
      .refine((age) => Number.isSafeInteger(age) && age >= 0, mustBe('a whole number of seconds, at least 0'))
      .exactOptional(),
    authorization_details_types: z
      .array(z.string(mustBe('a text')), mustBe('a list of types of authorization details'))
      .exactOptional(),
    require_auth_time: yesOrNo().exactOptional(),
    subject_type: z.enum(['public', 'pairwise'], mustBe('"public" or "pairwise"')).exactOptional(),
    sector_identifier_uri: httpsAddress('user name and fragment').exactOptional(),
    backchannel_token_delivery_mode: z
      .preprocess(
        (mode) => (typeof mode === 'string' ? mode.toLowerCase() : mode),
        z.enum(['poll', 'ping', 'push'], mustBe('"poll", "ping" or "push"')),
      )
      .exactOptional(),
    backchannel_client_notification_endpoint: httpsAddress('user name and fragment').exactOptional(),
    backchannel_device_service: yesOrNo().exactOptional(),
    backchannel_require_passkey: yesOrNo().exactOptional(),
    limits: z
      .strictObject(
        {
          perClient: numbersOf('open', 'perMinute', 'unknownPerMinute'),
          perClientAndUser: numbersOf('open', 'perMinute'),
        },
        mustBe('an object with perClient and perClientAndUser'),
      )
      .exactOptional(),
    backchannel_user_code_parameter: yesOrNo().exactOptional(),
    backchannel_allowed_hints: z
      .array(z.enum(hintKinds, mustBe(`one of ${hintKinds.join(', ')}`)), mustBe('a list of kinds of hints'))
      .min(1, { error: 'must hold at least one kind of hint; without any the client could ask nobody' })
      .exactOptional(),
    backchannel_unknown_users: z.enum(['error', 'pretend'], mustBe('"error" or "pretend"')).exactOptional(),
    backchannel_authentication_request_signing_alg: z
      .enum(profile.clientSigning, mustBe(`one of ${profile.clientSigning.join(', ')}`))
      .exactOptional(),
  })
}

function text(what: string, holds: (value: string) => boolean) {
  return z.string(mustBe(what)).refine(holds, mustBe(what))
}

/** For secrets, and for addresses, which may hold one. */
function secretText(what: string, holds: (value: string) => boolean) {
  return z.string(mustBeSecretly(what)).refine(holds, mustBeSecretly(what))
}

function numbersOf<const Name extends string>(...names: Name[]) {
  const what = 'a whole number of requests, at least 0 and at most 1000000'
  const requests = z
    .number(mustBe(what))
    .refine((number) => Number.isInteger(number) && number >= 0 && number <= 1_000_000, mustBe(what))
    .exactOptional()
  const shape = Object.fromEntries(names.map((name) => [name, requests])) as Record<Name, typeof requests>
  return z.strictObject(shape, mustBe(`an object with ${orOf(names).replace(' or ', ' and ')}`)).exactOptional()
}

function yesOrNo() {
  return z.boolean(mustBe('true or false'))
}

/** A name is shown to somebody who decides by it: nothing that reorders or hides its letters. */
function isShowable(name: string): boolean {
  return /^[^\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]{1,255}$/u.test(name) && name.trim() !== ''
}

function isScope(scope: string): boolean {
  return scope.split(' ').every((token) => /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(token))
}

function isWebAddress(address: string): boolean {
  return /^https?:\/\//.test(address) && isTidy(address)
}

/** Where secrets are sent: https, or this very machine in development. */
function isSafeAddress(address: string, development: boolean): boolean {
  if (!isWebAddress(address) || address.includes('#')) return false
  const url = new URL(address)
  if (url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (development && isLoopback(url.hostname))
}

function isRedirectAddress(address: string): boolean {
  return isTidy(address) && !address.includes('#') && !/^(javascript|data|vbscript|file|blob|about):/i.test(address)
}

/** URL parsers forgive spaces, line breaks and backslashes, each in its own way; we want one reading only. */
function isTidy(address: string): boolean {
  return address.length <= 2048 && /^[\x21-\x5b\x5d-\x7e]+$/.test(address) && URL.canParse(address)
}

/** @param hostname as `URL` has it, IPv6 addresses in brackets */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}

const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/** For a schema: a JWK Set with nothing private in it. */
export function complainAboutKeys(jwks: unknown, context: z.RefinementCtx): void {
  const complain = (message: string) => context.addIssue({ code: 'custom', message })
  const keys = isPlain(jwks) ? jwks.keys : undefined
  if (!Array.isArray(keys) || keys.length === 0) {
    complain('must be a JWK Set: an object with a list "keys" of at least one key')
    return
  }
  if (keys.length > mostKeys) complain(`must hold at most ${mostKeys} keys; it holds ${keys.length}`)
  for (const [index, key] of keys.slice(0, mostKeys).entries()) {
    const which = `must hold public keys only, but key ${index}`
    const member = isPlain(key) ? privateMembers.find((name) => name in key) : undefined
    if (member !== undefined) complain(`${which} has the private member "${member}"`)
    else if (!isPlain(key) || !keyTypes.includes(key.kty)) complain(`${which} is of no known kind`)
    else if (isCostly(key))
      complain(`must hold RSA keys with an exponent of 32 bits and 8192 bits at most, unlike key ${index}`)
    else if (isWeak(key)) complain(`must hold RSA keys of at least 2048 bits, but key ${index} is shorter (FI-6)`)
  }
}

function onlyKnownMembers({ keys }: { keys: PublicJwk[] }): { keys: PublicJwk[] } {
  return { keys: keys.map((key) => withKnownMembers(key) as PublicJwk) }
}

/** No curve that is known is too short. */
function isWeak({ kty, n }: Record<string, unknown>): boolean {
  return kty === 'RSA' && (typeof n !== 'string' || Buffer.from(n, 'base64url').length < 2048 / 8)
}

/** Rules between several metadata. */
interface Rule {
  /** If one of these was already complained about, the rule is silent. */
  reads: (keyof ClientMetadata)[]
  /** Whether the rule is broken. */
  unless: (client: ClientMetadata, circumstances: ClientCircumstances) => boolean
  says: string | ((client: ClientMetadata) => string)
}

const mode = 'backchannel_token_delivery_mode'
const endpoint = 'backchannel_client_notification_endpoint'
const method = 'token_endpoint_auth_method'
const service = 'backchannel_device_service'
const dpopBound = 'dpop_bound_access_tokens'

const rules: Rule[] = [
  {
    reads: ['client_id'],
    unless: (client) => client.client_id === '',
    says: 'client_id is missing',
  },
  {
    reads: [mode, 'grant_types'],
    unless: (client) => ['poll', 'ping'].includes(client[mode] ?? '') && !client.grant_types.includes(CIBA_GRANT),
    says: (client) => `grant_types must hold "${CIBA_GRANT}", because ${mode} is ${client[mode]} (RG-2)`,
  },
  {
    reads: [mode, 'grant_types'],
    unless: (client) => client[mode] === undefined && client.grant_types.includes(CIBA_GRANT),
    says: `${mode} is missing; a client with the grant "${CIBA_GRANT}" needs poll, ping or push (RG-1)`,
  },
  {
    reads: [mode, endpoint],
    unless: (client) => ['ping', 'push'].includes(client[mode] ?? '') && client[endpoint] === undefined,
    says: (client) => `${endpoint} is missing; ${mode} ${client[mode]} needs it (RG-3)`,
  },
  {
    reads: [mode, endpoint],
    unless: (client) => client[mode] === 'poll' && client[endpoint] !== undefined,
    says: `${endpoint} must be left out, because ${mode} is poll`,
  },
  {
    reads: [mode, endpoint],
    unless: (client) => client[mode] === undefined && client[endpoint] !== undefined,
    says: `${endpoint} must be left out, or ${mode} set to ping or push`,
  },
  {
    reads: [mode, service],
    unless: (client) => client[service] === true && client[mode] !== undefined,
    says: `${mode} must be left out: a device service answers, it does not ring`,
  },
  {
    reads: [mode, method],
    unless: (client) => client[method] === 'none' && client[mode] !== undefined,
    says: `${method} must not be none: a client that rings authenticates itself (EP-11)`,
  },
  {
    reads: [service, method],
    unless: (client) => client[method] === 'none' && client[service] === true,
    says: `${method} must not be none: a device service authenticates itself`,
  },
  {
    reads: [mode, 'scope'],
    unless: (client) => client[mode] !== undefined && scopesOf(client).includes(DECIDE_SCOPE),
    says: `scope must not hold ${DECIDE_SCOPE}: a client that rings never decides`,
  },
  {
    reads: ['client_secret', method],
    unless: (client) => secretMethods.includes(client[method]) && client.client_secret === undefined,
    says: (client) => `client_secret is missing; ${method} ${client[method]} needs it`,
  },
  {
    reads: ['client_secret', method],
    // HMAC with SHA-256 asks for a key at least as long as its output (RFC 7518 §3.2).
    unless: (client) =>
      client[method] === 'client_secret_jwt' && client.client_secret !== undefined && client.client_secret.length < 32,
    says: (client) =>
      `client_secret must be at least 32 bytes for client_secret_jwt; it is ${client.client_secret?.length} bytes long`,
  },
  {
    reads: ['jwks', 'jwks_uri', method],
    unless: (client) =>
      client[method] === 'private_key_jwt' && client.jwks === undefined && client.jwks_uri === undefined,
    says: `jwks or jwks_uri is missing; ${method} private_key_jwt needs one of them (DR-9)`,
  },
  {
    reads: ['jwks', 'jwks_uri', 'backchannel_authentication_request_signing_alg'],
    unless: (client) =>
      client.backchannel_authentication_request_signing_alg !== undefined &&
      client.jwks === undefined &&
      client.jwks_uri === undefined,
    says: 'jwks or jwks_uri is missing; backchannel_authentication_request_signing_alg needs one of them (DR-9)',
  },
  {
    reads: ['subject_type', 'sector_identifier_uri', mode, endpoint, 'jwks_uri', 'redirect_uris'],
    unless: (client) => client.subject_type === 'pairwise' && sectorOf(client) === undefined,
    says: (client) =>
      ['poll', 'ping'].includes(client[mode] ?? '')
        ? 'jwks_uri or sector_identifier_uri is missing; subject_type pairwise needs one of them (RG-8, RG-10)'
        : 'sector_identifier_uri is missing; subject_type pairwise needs it (RG-11)',
  },
  {
    reads: ['subject_type', mode, method],
    unless: (client) =>
      client.subject_type === 'pairwise' && ['poll', 'ping'].includes(client[mode] ?? '') && !usesItsKeys(client),
    says: 'subject_type pairwise needs signed requests, private_key_jwt or self_signed_tls_client_auth: the client has to prove that jwks_uri is its own (RG-12)',
  },
  {
    reads: ['subject_type', 'redirect_uris', 'sector_identifier_uri', mode, endpoint, 'jwks_uri'],
    unless: (client) =>
      client.subject_type === 'pairwise' &&
      client.sector_identifier_uri === undefined &&
      client.redirect_uris.some((uri) => new URL(uri).host !== (sectorOf(client) ?? new URL(uri).host)),
    says: 'redirect_uris must all have the host of the sector for subject_type pairwise, or sector_identifier_uri list them (PW-2)',
  },
  {
    reads: [method],
    unless: (client, { seesCertificates }) => seesCertificates === false && tlsMethods.includes(client[method]),
    says: (client) => `${method} ${client[method]} needs tls or proxy.clientCertificateHeader in the configuration`,
  },
  {
    reads: ['tls_client_certificate_bound_access_tokens'],
    unless: (client, { seesCertificates }) =>
      seesCertificates === false && client.tls_client_certificate_bound_access_tokens === true,
    says: 'tls_client_certificate_bound_access_tokens needs tls or proxy.clientCertificateHeader in the configuration',
  },
  {
    reads: [dpopBound, 'tls_client_certificate_bound_access_tokens'],
    // RFC 7800 §3.1: a token confirms one key, and whoever checks it has to know which.
    unless: (client) => client[dpopBound] === true && client.tls_client_certificate_bound_access_tokens === true,
    says: `${dpopBound} and tls_client_certificate_bound_access_tokens must not both be true: a token is bound to one key`,
  },
  {
    reads: [method, ...subjectMetadata],
    unless: (client) => subjectsOf(client).length !== (client[method] === 'tls_client_auth' ? 1 : 0),
    says: (client) =>
      client[method] === 'tls_client_auth'
        ? `exactly one of ${subjectMetadata.join(', ')} is needed for tls_client_auth (ML-3)`
        : `${subjectsOf(client).join(', ')} must be left out, or ${method} set to tls_client_auth (ML-3)`,
  },
  {
    reads: ['jwks', 'jwks_uri', method],
    unless: (client) =>
      client[method] === 'self_signed_tls_client_auth' &&
      client.jwks_uri === undefined &&
      !client.jwks?.keys.some(({ x5c }) => Array.isArray(x5c)),
    says: 'jwks or jwks_uri is missing; self_signed_tls_client_auth needs a key with its certificate in x5c (ML-5)',
  },
  {
    reads: ['jwks', 'jwks_uri'],
    unless: (client) => client.jwks !== undefined && client.jwks_uri !== undefined,
    says: 'jwks and jwks_uri must not both be set (DR-5)',
  },
  {
    reads: ['token_endpoint_auth_signing_alg', method],
    unless: (client) => {
      const alg = client.token_endpoint_auth_signing_alg
      return alg !== undefined && !signingAlgsOf(client[method]).includes(alg)
    },
    says: (client) => `token_endpoint_auth_signing_alg does not fit ${method} ${client[method]}`,
  },
  {
    reads: [mode, service, 'grant_types', 'redirect_uris'],
    unless: (client) => client.grant_types.includes('authorization_code') && client.redirect_uris.length === 0,
    says: `redirect_uris is missing; the grant authorization_code needs it (a client that rings needs ${mode} instead)`,
  },
  {
    reads: [mode, service, 'grant_types', 'response_types'],
    unless: (client) => client.grant_types.includes('authorization_code') !== client.response_types.includes('code'),
    says: 'response_types must hold "code" exactly if grant_types holds "authorization_code"',
  },
  {
    reads: ['authorization_details_types'],
    unless: (client, { detailTypes }) =>
      detailTypes !== undefined &&
      client.authorization_details_types?.every((type) => detailTypes.includes(type)) === false,
    says: 'authorization_details_types holds a type that this server does not know (RA-8)',
  },
  {
    reads: ['application_type', 'redirect_uris'],
    unless: (client, { development }) => client.redirect_uris.some((uri) => !fitsKind(uri, client, development)),
    says: (client) =>
      client.application_type === 'native'
        ? 'redirect_uris must be https, http on this machine, or a scheme of your own with a dot in it'
        : 'redirect_uris must be https (http on this machine is for development and for application_type native)',
  },
]

function scopesOf(client: ClientMetadata): string[] {
  return client.scope?.split(' ') ?? []
}

function subjectsOf(client: ClientMetadata): string[] {
  return subjectMetadata.filter((name) => client[name] !== undefined)
}

function signingAlgsOf(authentication: ClientAuthenticationMethod): string[] {
  if (authentication === 'client_secret_jwt') return ['HS256']
  return authentication === 'private_key_jwt' ? keySigningAlgs : []
}

function fitsKind(uri: string, client: ClientMetadata, development: boolean): boolean {
  const { protocol, hostname } = new URL(uri)
  const isNative = client.application_type === 'native'
  if (protocol === 'https:') return true
  if (protocol === 'http:') return isLoopback(hostname) && (isNative || development)
  // RFC 8252 §7.1: a scheme of one's own is a domain name turned round.
  return isNative && protocol.includes('.')
}
