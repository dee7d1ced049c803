/** A client as oidc-provider sees it: without its CIBA metadata, and with a hash in place of its secret. */
import type { AdapterPayload, Provider } from 'oidc-provider'
import { CIBA_GRANT, type ClientMetadata } from '../client/metadata/client-metadata.ts'
import { isBoundToCertificate } from '../client/sender-constraint/mtls-constraint.ts'

/** A registered client, with its secret or the hash of it. */
export interface KnownClient {
  metadata: ClientMetadata
  secretHash: string | undefined
  /** Only where the authentication method needs it. */
  secret: string | undefined
}

/** The defaults for clients that do not specify them. */
export interface TokenDefaults {
  idTokenAlg: string
  scopes: readonly string[]
}

/**
 * Returns a client without its CIBA metadata. Where only a hash of its secret is stored, the hash takes the secret's
 * place; `compareHashedSecrets` compares it.
 */
export function asOidcProviderSeesIt(
  { metadata, secret, secretHash }: KnownClient,
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
    // Without the scope for decisions: only a client whose own registration names it gets that one.
    scope: scopes.join(' '),
    // A copy, because oidc-provider adds members to each key.
    ...structuredClone(rest),
    ...(boundTokens &&
      isBoundToCertificate({ metadata }, true) && { tls_client_certificate_bound_access_tokens: true }),
    grant_types: metadata.grant_types.filter((grant) => grant !== CIBA_GRANT),
    client_secret: secret ?? secretHash,
  } as AdapterPayload
}

/** Removes the refresh grant where no refresh tokens are issued: oidc-provider would reject the client as invalid. */
export function onlyWithGrants(client: AdapterPayload, scopes: readonly string[]): AdapterPayload {
  if (scopes.includes('offline_access')) return client
  return { ...client, grant_types: (client.grant_types as string[]).filter((grant) => grant !== 'refresh_token') }
}

/**
 * Validates a client that our own rules accept against those of oidc-provider. Resolves to what is wrong, or undefined if
 * nothing is.
 */
export function createAcceptance(provider: () => Provider, tokens: TokenDefaults) {
  return async (client: { metadata: ClientMetadata; secretHash: string | undefined }): Promise<string | undefined> => {
    const seen = asOidcProviderSeesIt({ ...client, secret: undefined }, tokens, false)
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
