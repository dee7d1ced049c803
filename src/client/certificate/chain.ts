/** Whether a trusted authority issued a certificate, for connections whose TLS a proxy terminates. */
import type { X509Certificate } from 'node:crypto'

/**
 * Whether a configured authority issued the certificate directly. An intermediate authority must therefore be configured
 * too. For longer paths, the proxy checks name constraints, purposes and path lengths.
 */
export function isIssuedBy(
  certificate: X509Certificate,
  authorities: readonly X509Certificate[],
  now: number,
): boolean {
  return authorities.some(
    (authority) =>
      authority.ca &&
      isValidAt(authority, now) &&
      certificate.checkIssued(authority) &&
      certificate.verify(authority.publicKey),
  )
}

/** @param now milliseconds since 1970 */
export function isValidAt({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime()
}
