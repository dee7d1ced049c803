/** A client as oidc-provider sees it: without its CIBA side, and with a hash in the place of its secret. */
import type { AdapterPayload, Provider } from 'oidc-provider'
import { CIBA_GRANT, type ClientMetadata } from '../client/metadata/client-metadata.ts'
import { isBoundToCertificate } from '../client/sender-constraint/mtls-constraint.ts'

export interface KnownClient {
  metadata: ClientMetadata
  secretHash: string | undefined
  /** Only where the method needs it. */
  secret: string | undefined
}

/** What counts for clients that do not say. */
export interface TokenDefaults {
  idTokenAlg: string
  scopes: readonly string[]
}

/**
 * A client without its CIBA side, which is none of oidc-provider's business. Where only a hash of its secret is kept,
 * the hash stands in the secret's place and is compared as one (below).
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
    // Deciding is for clients that were registered for it by name, not for whoever may ask for everything.
    scope: scopes.join(' '),
    // A copy of its own, which it writes into: to each key it adds what it has found out.
    ...structuredClone(rest),
    ...(boundTokens &&
      isBoundToCertificate({ metadata }, true) && { tls_client_certificate_bound_access_tokens: true }),
    grant_types: metadata.grant_types.filter((grant) => grant !== CIBA_GRANT),
    client_secret: secret ?? secretHash,
  } as AdapterPayload
}

/** Where nobody can ask for refresh tokens, oidc-provider does not know a client that might. It gets the rest. */
export function onlyWithGrants(client: AdapterPayload, scopes: readonly string[]): AdapterPayload {
  if (scopes.includes('offline_access')) return client
  return { ...client, grant_types: (client.grant_types as string[]).filter((grant) => grant !== 'refresh_token') }
}

/** Whether oidc-provider can work with a client that our own rules have let through; else what it says about it. */
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
