/** Whether a trusted authority issued a certificate, for connections whose TLS a proxy terminates. */
import type { X509Certificate } from 'node:crypto'

/**
 * Each configured authority is trusted directly, so one step is enough; an intermediate authority must be in the bundle
 * too. The proxy checks name constraints, purposes and lengths of longer paths.
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
