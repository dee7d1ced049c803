/** What has to fit together in client metadata, in the order in which it is complained about. */
import { isLoopback } from '../../platform/http/web-address.ts'
import { subjectMetadata } from '../certificate/subject-name.ts'
import {
  CIBA_GRANT,
  type ClientAuthenticationMethod,
  type ClientMetadata,
  DECIDE_SCOPE,
  needsSecret,
} from './client-metadata.ts'
import { keySigningAlgs, tlsMethods } from './metadata-schema.ts'
import type { ClientCircumstances } from './read-client-metadata.ts'
import { sectorOf, usesItsKeys } from './sector.ts'

/** Rules between several metadata. */
export interface MetadataRule {
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

export const rules: MetadataRule[] = [
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
    unless: (client) => needsSecret(client[method]) && client.client_secret === undefined,
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
