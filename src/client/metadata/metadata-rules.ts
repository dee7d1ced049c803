/** Rules that concern several members of client metadata, in the order in which problems are reported. */
import { isLoopback } from '../../platform/http/web-address.ts'
import type { Rule } from '../../platform/input-rule.ts'
import { profiles, secretSigning } from '../../platform/security-profile.ts'
import { subjectMetadata } from '../certificate/subject-name.ts'
import {
  CIBA_GRANT,
  type ClientAuthenticationMethod,
  type ClientMetadata,
  DECIDE_SCOPE,
  needsSecret,
} from './client-metadata.ts'
import { leastSecretLength } from './client-secret-length.ts'
import { tlsMethods } from './metadata-schema.ts'
import { noUsableKey } from './public-keys.ts'
import type { ValidationContext } from './read-client-metadata.ts'
import { sectorOf, usesItsKeys } from './sector.ts'

/** A rule that concerns several members of client metadata. */
export type MetadataRule = Rule<ClientMetadata, ValidationContext, keyof ClientMetadata>

const mode = 'backchannel_token_delivery_mode'
const endpoint = 'backchannel_client_notification_endpoint'
const method = 'token_endpoint_auth_method'
const assertionSigning = 'token_endpoint_auth_signing_alg'
const service = 'backchannel_device_service'
const requestSigning = 'backchannel_authentication_request_signing_alg'
const dpopBound = 'dpop_bound_access_tokens'
const certificateBound = 'tls_client_certificate_bound_access_tokens'

export const rules: MetadataRule[] = [
  {
    settings: ['client_id'],
    requires: (client) => client.client_id !== '',
    message: 'client_id is missing',
  },
  {
    settings: [mode, 'grant_types'],
    requires: (client) => !usesTokenEndpoint(client) || client.grant_types.includes(CIBA_GRANT),
    message: (client) => `grant_types must contain "${CIBA_GRANT}", because ${mode} is ${client[mode]} (RG-2)`,
  },
  {
    settings: [mode, 'grant_types'],
    requires: (client) => client[mode] !== undefined || !client.grant_types.includes(CIBA_GRANT),
    message: `${mode} is missing; a client with the grant "${CIBA_GRANT}" needs poll, ping or push (RG-1)`,
  },
  {
    settings: [mode, endpoint],
    requires: (client) => !isNotified(client) || client[endpoint] !== undefined,
    message: (client) => `${endpoint} is missing; ${mode} ${client[mode]} needs it (RG-3)`,
  },
  {
    settings: [mode, endpoint],
    requires: (client) => client[mode] !== 'poll' || client[endpoint] === undefined,
    message: `${endpoint} must be left out, because ${mode} is poll`,
  },
  {
    settings: [mode, endpoint],
    requires: (client) => client[mode] !== undefined || client[endpoint] === undefined,
    message: `${endpoint} must be left out, or ${mode} set to ping or push`,
  },
  {
    settings: [mode, service],
    requires: (client) => client[service] !== true || client[mode] === undefined,
    message: `${mode} must be left out: a device service does not send authentication requests`,
  },
  {
    settings: [mode, method],
    requires: (client) => client[method] !== 'none' || client[mode] === undefined,
    message: `${method} must not be none: a client that sends authentication requests must authenticate itself (EP-11)`,
  },
  {
    settings: [service, method],
    requires: (client) => client[method] !== 'none' || client[service] !== true,
    message: `${method} must not be none: a device service must authenticate itself`,
  },
  {
    settings: [mode, 'scope'],
    requires: (client) => client[mode] === undefined || !scopesOf(client).includes(DECIDE_SCOPE),
    message: `scope must not contain ${DECIDE_SCOPE}: a client that sends authentication requests never decides them`,
  },
  {
    settings: ['client_secret', method],
    requires: (client) => !needsSecret(client[method]) || client.client_secret !== undefined,
    message: (client) => `client_secret is missing; ${method} ${client[method]} needs it`,
  },
  {
    settings: ['client_secret', method, assertionSigning],
    // The key of an HMAC must be at least as long as the hash (RFC 7518 §3.2).
    requires: (client) =>
      client[method] !== 'client_secret_jwt' ||
      client.client_secret === undefined ||
      client.client_secret.length >= leastSecretLength(client[assertionSigning]),
    message: (client) =>
      `client_secret must be at least ${leastSecretLength(client[assertionSigning])} bytes for client_secret_jwt; it is ${client.client_secret?.length} bytes long`,
  },
  {
    settings: ['jwks', 'jwks_uri', method],
    requires: (client) => client[method] !== 'private_key_jwt' || hasKeys(client),
    message: (client) => missingKeys(client, `${method} private_key_jwt`),
  },
  {
    settings: ['jwks', 'jwks_uri', requestSigning],
    requires: (client) => client[requestSigning] === undefined || hasKeys(client),
    message: (client) => missingKeys(client, requestSigning),
  },
  {
    settings: ['subject_type', 'sector_identifier_uri', mode, endpoint, 'jwks_uri', 'redirect_uris'],
    requires: (client) => client.subject_type !== 'pairwise' || sectorOf(client) !== undefined,
    message: (client) =>
      usesTokenEndpoint(client)
        ? 'jwks_uri or sector_identifier_uri is missing; subject_type pairwise needs one of them (RG-8, RG-10)'
        : 'sector_identifier_uri is missing; subject_type pairwise needs it (RG-11)',
  },
  {
    settings: ['subject_type', mode, method],
    requires: (client) => client.subject_type !== 'pairwise' || !usesTokenEndpoint(client) || usesItsKeys(client),
    message:
      'subject_type pairwise needs signed requests, private_key_jwt or self_signed_tls_client_auth: the client has to prove that jwks_uri is its own (RG-12)',
  },
  {
    settings: ['subject_type', 'redirect_uris', 'sector_identifier_uri', mode, endpoint, 'jwks_uri'],
    requires: (client) =>
      client.subject_type !== 'pairwise' || client.sector_identifier_uri !== undefined || redirectsToItsSector(client),
    message:
      'redirect_uris must all have the host of the sector for subject_type pairwise, or be listed by sector_identifier_uri (PW-2)',
  },
  {
    settings: [method],
    requires: (client, { seesCertificates }) => seesCertificates !== false || !tlsMethods.includes(client[method]),
    message: (client) => `${method} ${client[method]} needs tls or proxy.clientCertificateHeader in the configuration`,
  },
  {
    settings: [certificateBound],
    requires: (client, { seesCertificates }) => seesCertificates !== false || client[certificateBound] !== true,
    message: `${certificateBound} needs tls or proxy.clientCertificateHeader in the configuration`,
  },
  {
    settings: [dpopBound, certificateBound],
    // A token is bound to one key, and a resource server must know which key this is (RFC 7800 §3.1).
    requires: (client) => client[dpopBound] !== true || client[certificateBound] !== true,
    message: `${dpopBound} and ${certificateBound} must not both be true: a token is bound to one key`,
  },
  {
    settings: [method, ...subjectMetadata],
    requires: (client) => subjectsOf(client).length === (client[method] === 'tls_client_auth' ? 1 : 0),
    message: (client) =>
      client[method] === 'tls_client_auth'
        ? `exactly one of ${subjectMetadata.join(', ')} is needed for tls_client_auth (ML-3)`
        : `${subjectsOf(client).join(', ')} must be left out, or ${method} set to tls_client_auth (ML-3)`,
  },
  {
    settings: ['jwks', 'jwks_uri', method],
    requires: (client) =>
      client[method] !== 'self_signed_tls_client_auth' ||
      client.jwks_uri !== undefined ||
      client.jwks?.keys.some(({ x5c }) => Array.isArray(x5c)) === true,
    message: 'jwks or jwks_uri is missing; self_signed_tls_client_auth needs a key with its certificate in x5c (ML-5)',
  },
  {
    settings: ['jwks', 'jwks_uri'],
    requires: (client) => client.jwks === undefined || client.jwks_uri === undefined,
    message: 'jwks and jwks_uri must not both be set (DR-5)',
  },
  {
    settings: [assertionSigning, method],
    requires: (client) => {
      const alg = client[assertionSigning]
      return alg === undefined || signingAlgsOf(client[method]).includes(alg)
    },
    message: (client) => `${assertionSigning} does not fit ${method} ${client[method]}`,
  },
  {
    settings: [mode, service, 'grant_types', 'redirect_uris'],
    requires: (client) => !client.grant_types.includes('authorization_code') || client.redirect_uris.length > 0,
    message: `redirect_uris is missing; the grant authorization_code needs it (a CIBA client needs ${mode} instead)`,
  },
  {
    settings: [mode, service, 'grant_types', 'response_types'],
    requires: (client) => client.grant_types.includes('authorization_code') === client.response_types.includes('code'),
    message: 'response_types must contain "code" if grant_types contains "authorization_code", and only then',
  },
  {
    settings: ['authorization_details_types'],
    requires: ({ authorization_details_types: types = [] }, { detailTypes }) =>
      detailTypes === undefined || types.every((type) => detailTypes.includes(type)),
    message: 'authorization_details_types contains a type that this server does not support (RA-8)',
  },
  {
    settings: ['application_type', 'redirect_uris'],
    requires: (client, { development }) => client.redirect_uris.every((uri) => fitsKind(uri, client, development)),
    message: (client) =>
      client.application_type === 'native'
        ? 'redirect_uris must be https, http on this machine, or a scheme of your own with a dot in it'
        : 'redirect_uris must be https (http on this machine is for development and for application_type native)',
  },
]

/** With poll and ping, a client gets its tokens at the token endpoint (CIBA Core §10.1). */
function usesTokenEndpoint(client: ClientMetadata): boolean {
  return client[mode] === 'poll' || client[mode] === 'ping'
}

function isNotified(client: ClientMetadata): boolean {
  return client[mode] === 'ping' || client[mode] === 'push'
}

function hasKeys({ jwks, jwks_uri }: ClientMetadata): boolean {
  return (jwks !== undefined && jwks.keys.length > 0) || jwks_uri !== undefined
}

/**
 * Returns the error for missing keys. `jwks` is possibly empty, because the schema removes keys that the server cannot
 * use.
 */
function missingKeys({ jwks }: ClientMetadata, need: string): string {
  return jwks === undefined
    ? `jwks or jwks_uri is missing; ${need} needs one of them (DR-9)`
    : `jwks ${noUsableKey}; ${need} needs one (DR-9)`
}

/**
 * Whether every redirect URI has the host of the client's sector. True if the client has no sector, because another
 * rule reports a missing sector.
 */
function redirectsToItsSector(client: ClientMetadata): boolean {
  const sector = sectorOf(client)
  return sector === undefined || client.redirect_uris.every((uri) => new URL(uri).host === sector)
}

function scopesOf(client: ClientMetadata): string[] {
  return client.scope?.split(' ') ?? []
}

function subjectsOf(client: ClientMetadata): string[] {
  return subjectMetadata.filter((name) => client[name] !== undefined)
}

/**
 * Returns the algorithms that may sign the assertions of this authentication method. A security profile may allow
 * fewer.
 */
function signingAlgsOf(authentication: ClientAuthenticationMethod): readonly string[] {
  if (authentication === 'client_secret_jwt') return secretSigning
  return authentication === 'private_key_jwt' ? profiles.core.clientSigning : []
}

function fitsKind(uri: string, client: ClientMetadata, development: boolean): boolean {
  const { protocol, hostname } = new URL(uri)
  const isNative = client.application_type === 'native'
  if (protocol === 'https:') return true
  if (protocol === 'http:') return isLoopback(hostname) && (isNative || development)
  // RFC 8252 §7.1: a private-use scheme is a domain name in reverse order, so it contains a dot.
  return isNative && protocol.includes('.')
}
