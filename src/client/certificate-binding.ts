import type { ClientCertificate } from '../client-certificate/client-certificate.ts'
import { Refusal } from '../refusal.ts'
import type { Client } from './client.ts'

/**
 * The thumbprint a client's tokens are bound to, if it wants them bound or the deployment does.
 *
 * @throws {Refusal} `invalid_request` if they are to be bound and there is no certificate to bind them to (ML-10, FI-2)
 */
export function certificateBinding(
  { metadata }: Client,
  shown: ClientCertificate | undefined,
  boundTokensOnly: boolean,
): string | undefined {
  if (metadata.tls_client_certificate_bound_access_tokens !== true && !boundTokensOnly) return undefined
  if (shown === undefined) {
    throw new Refusal('invalid_request', "this client's tokens are bound to its certificate: connect with mutual TLS")
  }
  return shown.thumbprint
}
