/** `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2): authentication by the certificate. */

import type { Slot } from '../../platform/http/load-shedding.ts'
import type { ClientCertificate } from '../certificate/client-certificate.ts'
import { subjectMatches, subjectMetadata } from '../certificate/subject-name.ts'
import type { Client, ClientCredentials } from '../client.ts'
import type { Claim } from './claim.ts'
import type { ClientKeys } from './client-keys.ts'

/** Resolves to what is wrong with the certificate, or to undefined if it is valid for the client. */
export type VerifyCertificate = (
  method: 'tls_client_auth' | 'self_signed_tls_client_auth',
  shown: ClientCertificate | undefined,
  client: Client,
  slot?: Slot,
) => Promise<string | undefined>

/**
 * Returns the client authentication by certificate, or undefined if the call has no `client_id` or no certificate.
 * `client_id` identifies the client. The certificate is only the proof (RFC 8705 §2).
 */
export function readTls({ form, certificate }: ClientCredentials): Claim | undefined {
  const clientId = form.get('client_id')
  if (clientId === undefined || certificate === undefined) return undefined
  return { clientId, couldBe: ['tls_client_auth', 'self_signed_tls_client_auth'], proof: certificate.thumbprint }
}

/**
 * Returns the client authentication of a call that may come from a public client: the `client_id`, and the certificate
 * if there is one. Undefined if the call has no `client_id`.
 */
export function readName(credentials: ClientCredentials): Claim | undefined {
  const clientId = credentials.form.get('client_id')
  if (clientId === undefined) return undefined
  const { couldBe = [], proof } = readTls(credentials) ?? {}
  return { clientId, couldBe: ['none', ...couldBe], proof }
}

/** Returns the function that compares a client certificate with the client's registration. */
export function createCertificateVerification(keys: Pick<ClientKeys, 'certificatesOf'>): VerifyCertificate {
  return async (method, shown, client, slot) => {
    if (shown === undefined) return 'no certificate was sent'
    if (method === 'self_signed_tls_client_auth') {
      // No authority has issued a self-signed certificate, so the client must have registered it (RFC 8705 §2.2).
      const registered = await keys.certificatesOf(client, slot)
      return registered.includes(shown.thumbprint) ? undefined : 'the certificate is not registered'
    }
    if (!shown.isTrusted) return 'the certificate is not from a trusted authority, or not valid now'
    const name = subjectMetadata.find((each) => client.metadata[each] !== undefined)
    if (name === undefined) return 'the client has not registered a subject'
    return subjectMatches(shown.certificate, name, client.metadata[name]!)
      ? undefined
      : `the certificate has another ${name}`
  }
}
