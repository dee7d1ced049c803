/**
 * Checks which authority issued a client certificate. Used only for certificates that a proxy has received and
 * forwarded.
 */
import type { X509Certificate } from 'node:crypto'

/**
 * Whether a configured authority issued the certificate directly. If an intermediate authority issued the certificate,
 * this intermediate authority must be configured. In longer chains, the proxy checks name constraints, purposes and
 * path lengths.
 *
 * @param now milliseconds since 1970
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

/** Whether the certificate is valid at `now` (milliseconds since 1970). */
export function isValidAt({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime()
}
