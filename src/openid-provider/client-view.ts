/** Converts a client to oidc-provider's format: without its CIBA metadata, and with a hash instead of its secret. */
import type { AdapterPayload, Provider } from 'oidc-provider'
import { CIBA_GRANT, type ClientMetadata } from '../client/metadata/client-metadata.ts'
import { isBoundToCertificate } from '../client/sender-constraint/mtls-constraint.ts'

/** A registered client, with the hash of its secret. */
export interface KnownClient {
  metadata: ClientMetadata
  secretHash: string | undefined
}

/** Defaults for clients whose metadata does not contain these values. */
export interface TokenDefaults {
  idTokenAlg: string
  scopes: readonly string[]
}

/**
 * Returns a client in oidc-provider's format, without its CIBA metadata.
 *
 * @param boundTokens whether the deployment issues no bearer tokens to this client
 */
export function asOidcProviderSeesIt(
  { metadata, secretHash }: KnownClient,
  { idTokenAlg, scopes }: TokenDefaults,
  boundTokens: boolean,
): AdapterPayload {
  const {
    backchannel_token_delivery_mode,
    backchannel_authentication_request_signing_alg,
    backchannel_client_notification_endpoint,
    backchannel_device_service,
    backchannel_require_passkey,
    backchannel_user_code_parameter,
    backchannel_allowed_hints,
    backchannel_unknown_users,
    sector_identifier_uri,
    authorization_details_types,
    limits,
    ...rest
  } = metadata
  return {
    id_token_signed_response_alg: idTokenAlg,
    // This default does not contain `ciba:decide`. A client gets that scope only if its own registration contains it.
    scope: scopes.join(' '),
    // oidc-provider adds members to each key of the client. So oidc-provider gets a copy, because other calls use the
    // cached metadata too.
    ...structuredClone(rest),
    ...(boundTokens &&
      isBoundToCertificate({ metadata }, true) && { tls_client_certificate_bound_access_tokens: true }),
    grant_types: metadata.grant_types.filter((grant) => grant !== CIBA_GRANT),
    client_secret: secretHash,
  } as AdapterPayload
}

/**
 * If this server issues no refresh tokens, removes the grant type `refresh_token` from the client. oidc-provider would
 * reject a client with this grant type as invalid.
 */
export function onlyWithGrants(client: AdapterPayload, scopes: readonly string[]): AdapterPayload {
  if (scopes.includes('offline_access')) return client
  return { ...client, grant_types: (client.grant_types as string[]).filter((grant) => grant !== 'refresh_token') }
}

/**
 * Returns a function that applies oidc-provider's rules to a client that our own rules have accepted. The function
 * resolves to the description of the error, or undefined if the client is valid.
 */
export function createAcceptance(provider: () => Provider, tokens: TokenDefaults) {
  return async (client: KnownClient): Promise<string | undefined> => {
    const seen = asOidcProviderSeesIt(client, tokens, false)
    try {
      await provider().Client.validate(seen as never)
      return undefined
    } catch (error) {
      return (
        (error as { error_description?: string }).error_description ??
        'this combination of client metadata is not allowed'
      )
    }
  }
}
