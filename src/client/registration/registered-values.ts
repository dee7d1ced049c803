/**
 * The metadata that applies to a client that registers itself, including the values of members that the client did not
 * send.
 */
import { profiles } from '../../platform/security-profile.ts'
import { CIBA_GRANT, type ClientMetadata, hintKinds } from '../metadata/client-metadata.ts'
import type { ValidationContext } from '../metadata/read-client-metadata.ts'
import { isBoundToCertificate } from '../sender-constraint/mtls-constraint.ts'

type IdTokenAlg = NonNullable<ClientMetadata['id_token_signed_response_alg']>

/** The properties of the deployment on which the values depend. */
export interface ValuesContext {
  validationContext: ValidationContext
  /** The algorithm for ID tokens of clients without a registered algorithm (`tokens.idTokenAlg`). */
  idTokenAlg: IdTokenAlg
}

/**
 * Returns the algorithm for ID tokens that is registered for a client whose metadata contains none. This is RS256, the
 * default of the standard (OpenID Connect Registration §2). If the profile forbids RS256, it is the algorithm of the
 * deployment.
 */
export function registeredIdTokenAlg({ validationContext, idTokenAlg }: ValuesContext): IdTokenAlg {
  const { profile = profiles.core } = validationContext
  return profile.idTokenSigning.includes('RS256') ? 'RS256' : idTokenAlg
}

/**
 * Returns all metadata in force, for the response to the client (RFC 7591 §3.2.1). A client that an earlier version of
 * this server registered may have no algorithm for ID tokens. For such a client, the algorithm of the deployment is in
 * force.
 */
export function valuesInForce(metadata: ClientMetadata, context: ValuesContext): Omit<ClientMetadata, 'client_secret'> {
  const { profile = profiles.core, detailTypes = [] } = context.validationContext
  const { client_secret: _, ...registered } = metadata
  return {
    application_type: 'web',
    subject_type: 'public',
    id_token_signed_response_alg: context.idTokenAlg,
    require_auth_time: false,
    dpop_bound_access_tokens: false,
    tls_client_certificate_bound_access_tokens: isBoundToCertificate({ metadata }, profile.boundTokensOnly),
    ...(detailTypes.length > 0 && { authorization_details_types: [...detailTypes] }),
    ...(usesCiba(metadata) && {
      backchannel_user_code_parameter: false,
      backchannel_require_passkey: false,
      backchannel_allowed_hints: [...hintKinds],
    }),
    ...registered,
  }
}

function usesCiba({ grant_types, backchannel_token_delivery_mode: mode }: ClientMetadata): boolean {
  return mode !== undefined || grant_types.includes(CIBA_GRANT)
}
