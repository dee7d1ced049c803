/** Whether an authority that is trusted has issued a certificate, where a proxy has ended TLS and no handshake tells. */
import type { X509Certificate } from 'node:crypto'

/**
 * Each authority named is trusted for itself, so one step is enough; one that lies between belongs into the bundle too.
 * Names, purposes and lengths of longer paths are the proxy's to check.
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

export function isValidAt({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime()
}
