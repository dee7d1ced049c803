import { OAuthError } from '../../platform/oauth-error.ts'
import type { ClientCertificate } from '../certificate/client-certificate.ts'
import type { Client } from '../client.ts'

/**
 * Whether a client's tokens are bound to its certificate. They are bound if the client is registered for
 * certificate-bound tokens. They are also bound if the deployment issues no bearer tokens and the client is not
 * registered for DPoP.
 */
export function isBoundToCertificate({ metadata }: Pick<Client, 'metadata'>, boundTokensOnly: boolean): boolean {
  if (metadata.tls_client_certificate_bound_access_tokens === true) return true
  return boundTokensOnly && metadata.dpop_bound_access_tokens !== true
}

/**
 * Returns the thumbprint of the client certificate, to which the tokens are then bound.
 *
 * @throws {OAuthError} `invalid_request` if there is no certificate
 */
export function certificateBinding(shown: ClientCertificate | undefined): string {
  if (shown === undefined) {
    throw new OAuthError(
      'invalid_request',
      "this client's tokens are bound to its certificate: connect with mutual TLS",
    )
  }
  return shown.thumbprint
}
