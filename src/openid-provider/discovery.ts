/** The members of the metadata document that this server determines itself (RFC 8414 §2, CIBA Core §4). */
import type { AuthorizationServerNeeds } from './configuration.ts'

/** Client authentication methods that are always implemented. */
const authenticationMethods = [
  'client_secret_basic',
  'client_secret_post',
  'client_secret_jwt',
  'private_key_jwt',
  'none',
]

/** Client authentication methods that are available only if the server can see client certificates. */
const certificateMethods = ['tls_client_auth', 'self_signed_tls_client_auth']

/** Returns the client authentication methods that this server implements, including those that the profile forbids. */
export function implementedMethods({ seesCertificates }: Pick<AuthorizationServerNeeds, 'seesCertificates'>): string[] {
  return [...authenticationMethods, ...(seesCertificates ? certificateMethods : [])]
}

/**
 * Returns the members that replace those of `document`, the metadata document of oidc-provider. Members of the
 * operator's `discovery` setting for oidc-provider replace both.
 */
export function announcedMembers(document: object, needs: AuthorizationServerNeeds): object {
  const { profile, assertionAlgorithms, cibaMetadata, extra } = needs
  const methods = implementedMethods(needs).filter((method) => profile.clientAuthentication.includes(method))
  const algorithms = [...assertionAlgorithms]
  const { claims_supported: claims = [] } = document as { claims_supported?: string[] }
  return {
    ...cibaMetadata,
    // ID tokens contain `sid` only for clients with back-channel logout, a feature that is off by default.
    claims_supported: claims.filter((claim) => claim !== 'sid' || 'backchannel_logout_supported' in document),
    token_endpoint_auth_methods_supported: methods,
    token_endpoint_auth_signing_alg_values_supported: algorithms,
    // If a metadata document does not list the authentication methods of these two endpoints, clients assume that
    // `client_secret_basic` is the only method (RFC 8414 §2).
    ...('introspection_endpoint' in document && {
      introspection_endpoint_auth_methods_supported: methods.filter((method) => method !== 'none'),
      introspection_endpoint_auth_signing_alg_values_supported: algorithms,
    }),
    ...('revocation_endpoint' in document && {
      revocation_endpoint_auth_methods_supported: methods,
      revocation_endpoint_auth_signing_alg_values_supported: algorithms,
    }),
    ...(extra.discovery as object | undefined),
  }
}
