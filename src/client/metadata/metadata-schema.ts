/** The schema of each member of client metadata. */
import { isIP } from 'node:net'
import { z } from 'zod'
import { isNormalized, isRedirectAddress, isSafeAddress, isWebAddress } from '../../platform/http/web-address.ts'
import { assertionAlgorithms, type Profile, profiles } from '../../platform/security-profile.ts'
import { expectation, secretExpectation } from '../../platform/validation.ts'
import { isDistinguishedName } from '../certificate/subject-name.ts'
import { CIBA_GRANT, hintKinds, type PublicJwk } from './client-metadata.ts'
import { orOf } from './profile-violations.ts'
import { keysProblem, onlyKnownKeys } from './public-keys.ts'

interface SchemaContext {
  development: boolean
  profile?: Profile
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
/** The client authentication methods that use a client certificate. */
export const tlsMethods: string[] = ['tls_client_auth', 'self_signed_tls_client_auth']

/**
 * The algorithms of client assertions. The authentication method of a client and the security profile may allow fewer.
 */
const assertionAlgs = assertionAlgorithms(profiles.core)

export type MetadataSchema = ReturnType<typeof makeSchema>
/**
 * Client metadata in which each member is valid by itself. Defaults are not added yet, and rules between members are
 * not checked yet.
 */
export type MetadataDraft = z.output<MetadataSchema>

/**
 * The cached schemas. They are cached, because the creation of a schema takes longer than the validation of a client,
 * and a configuration may contain a thousand clients.
 */
const made: { development: boolean; profile: Profile; schema: MetadataSchema }[] = []

/** Returns the schema for this context, from the cache if it exists. */
export function schemaFor({ development, profile = profiles.core }: SchemaContext): MetadataSchema {
  const known = made.find((each) => each.development === development && each.profile === profile)
  if (known) return known.schema
  const schema = makeSchema(development, profile)
  made.push({ development, profile, schema })
  return schema
}

function makeSchema(development: boolean, profile: Profile) {
  const loopback = development ? ', or http on this machine' : ''
  const httpsAddress = (refused: string) =>
    secretText(`an https address${loopback}, without ${refused}`, (address) => isSafeAddress(address, development))
  return z.object({
    ...generalMembers(),
    ...authenticationMembers(httpsAddress),
    ...openidMembers(httpsAddress),
    ...cibaMembers(httpsAddress, profile),
    ...encryptionMembers(),
  })
}

type HttpsAddress = (refused: string) => ReturnType<typeof secretText>

/** Members of RFC 7591 that do not concern client authentication. */
function generalMembers() {
  const webAddress = secretText('an http or https address', isWebAddress)
  return {
    client_id: text('1 to 255 printable ASCII characters without spaces', (id) =>
      /^[\x21-\x7e]{1,255}$/.test(id),
    ).exactOptional(),
    client_secret: secretText('printable ASCII characters', (secret) => /^[\x20-\x7e]+$/.test(secret)).exactOptional(),
    client_name: text('1 to 255 characters, none of them invisible controls', isShowable).exactOptional(),
    client_uri: webAddress.exactOptional(),
    logo_uri: webAddress.exactOptional(),
    policy_uri: webAddress.exactOptional(),
    tos_uri: webAddress.exactOptional(),
    contacts: z.array(z.string(expectation('a string')), expectation('a list of strings')).exactOptional(),
    application_type: z.enum(['web', 'native'], expectation('"web" or "native"')).exactOptional(),
    redirect_uris: z
      .array(
        secretText('an absolute address without a fragment', isRedirectAddress),
        expectation('a list of addresses'),
      )
      .exactOptional(),
    grant_types: z
      .array(
        z.enum([CIBA_GRANT, 'authorization_code', 'refresh_token'], {
          error: ({ input }) =>
            `must be "${CIBA_GRANT}", "authorization_code" or "refresh_token"; it is ${typeof input === 'string' ? JSON.stringify(input.slice(0, 60)) : 'not a string'}`,
        }),
        expectation('a list of grant types'),
      )
      .exactOptional(),
    response_types: z
      .array(z.enum(['code'], expectation('"code"')), expectation('a list of response types'))
      .exactOptional(),
    scope: text('scopes separated by single spaces', isScope).exactOptional(),
  }
}

/** Members for client authentication. */
function authenticationMembers(httpsAddress: HttpsAddress) {
  return {
    token_endpoint_auth_method: z.enum(methods, expectation(`one of ${methods.join(', ')}`)).exactOptional(),
    token_endpoint_auth_signing_alg: z
      .enum(assertionAlgs, expectation(`one of ${assertionAlgs.join(', ')}`))
      .exactOptional(),
    tls_client_auth_subject_dn: text(
      'a distinguished name, like "CN=till, O=Bank, C=DE"',
      isDistinguishedName,
    ).exactOptional(),
    tls_client_auth_san_dns: text('a host name', (name) => /^[a-z0-9][a-z0-9.-]{0,252}$/i.test(name)).exactOptional(),
    tls_client_auth_san_uri: text('an absolute address', isNormalized).exactOptional(),
    tls_client_auth_san_ip: text('an IP address', (address) => isIP(address) !== 0).exactOptional(),
    tls_client_auth_san_email: text('a mail address', (address) => /^[^\s@]+@[^\s@]+$/.test(address)).exactOptional(),
    tls_client_certificate_bound_access_tokens: yesOrNo().exactOptional(),
    dpop_bound_access_tokens: yesOrNo().exactOptional(),
    jwks: z.custom<{ keys: PublicJwk[] }>().superRefine(keysProblem).transform(onlyKnownKeys).exactOptional(),
    jwks_uri: httpsAddress('user name and fragment').exactOptional(),
  }
}

function openidMembers(httpsAddress: HttpsAddress) {
  return {
    id_token_signed_response_alg: z
      .enum(['ES256', 'RS256', 'PS256'], expectation('one of ES256, RS256, PS256'))
      .exactOptional(),
    default_max_age: z
      .number(expectation('a whole number of seconds, at least 0'))
      .refine((age) => Number.isSafeInteger(age) && age >= 0, expectation('a whole number of seconds, at least 0'))
      .exactOptional(),
    authorization_details_types: z
      .array(z.string(expectation('a string')), expectation('a list of types of authorization details'))
      .exactOptional(),
    require_auth_time: yesOrNo().exactOptional(),
    subject_type: z.enum(['public', 'pairwise'], expectation('"public" or "pairwise"')).exactOptional(),
    sector_identifier_uri: httpsAddress('user name and fragment').exactOptional(),
  }
}

/** Members that CIBA Core §4 defines, and members that only Doorbell defines. */
function cibaMembers(httpsAddress: HttpsAddress, profile: Profile) {
  return {
    backchannel_token_delivery_mode: z
      .preprocess(
        (mode) => (typeof mode === 'string' ? mode.toLowerCase() : mode),
        z.enum(['poll', 'ping', 'push'], expectation('"poll", "ping" or "push"')),
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
        expectation('an object with perClient and perClientAndUser'),
      )
      .exactOptional(),
    backchannel_user_code_parameter: yesOrNo().exactOptional(),
    backchannel_allowed_hints: z
      .array(z.enum(hintKinds, expectation(`one of ${hintKinds.join(', ')}`)), expectation('a list of kinds of hints'))
      .min(1, { error: 'must contain at least one kind of hint; without one the client could not name a user' })
      .exactOptional(),
    backchannel_unknown_users: z.enum(['error', 'pretend'], expectation('"error" or "pretend"')).exactOptional(),
    backchannel_authentication_request_signing_alg: z
      .enum(profile.clientSigning, expectation(`one of ${profile.clientSigning.join(', ')}`))
      .exactOptional(),
  }
}

/**
 * Members that request encrypted responses. They are refused, because if they were ignored, claims about users would be
 * sent without the encryption that the client relies on.
 */
function encryptionMembers() {
  const refused = (what: string) =>
    z.never({ error: `must be left out: this server does not encrypt ${what}` }).exactOptional()
  return {
    id_token_encrypted_response_alg: refused('ID tokens'),
    id_token_encrypted_response_enc: refused('ID tokens'),
    userinfo_encrypted_response_alg: refused('userinfo responses'),
    userinfo_encrypted_response_enc: refused('userinfo responses'),
    introspection_encrypted_response_alg: refused('introspection responses'),
    introspection_encrypted_response_enc: refused('introspection responses'),
    authorization_encrypted_response_alg: refused('authorization responses'),
    authorization_encrypted_response_enc: refused('authorization responses'),
  }
}

function text(what: string, holds: (value: string) => boolean) {
  return z.string(expectation(what)).refine(holds, expectation(what))
}

/**
 * Returns the schema of a string that must not appear in an error message: a secret, or an address, which may contain a
 * secret.
 */
function secretText(what: string, holds: (value: string) => boolean) {
  return z.string(secretExpectation(what)).refine(holds, secretExpectation(what))
}

function numbersOf<const Name extends string>(...names: Name[]) {
  const what = 'a whole number of requests, at least 0 and at most 1000000'
  const requests = z
    .number(expectation(what))
    .refine((number) => Number.isInteger(number) && number >= 0 && number <= 1_000_000, expectation(what))
    .exactOptional()
  const shape = Object.fromEntries(names.map((name) => [name, requests])) as Record<Name, typeof requests>
  return z.strictObject(shape, expectation(`an object with ${orOf(names).replace(' or ', ' and ')}`)).exactOptional()
}

function yesOrNo() {
  return z.boolean(expectation('true or false'))
}

/**
 * Whether a client may have this name. Users see the name when they decide requests, so it must not contain characters
 * that reorder or hide letters.
 */
function isShowable(name: string): boolean {
  return /^[^\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]{1,255}$/u.test(name) && name.trim() !== ''
}

function isScope(scope: string): boolean {
  return scope.split(' ').every((token) => /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(token))
}
