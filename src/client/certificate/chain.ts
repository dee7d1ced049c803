/** Checks whether a configured authority issued a client certificate, directly or through intermediate certificates. */
import type { X509Certificate } from 'node:crypto'
import { constraintsOf } from './extensions.ts'

/**
 * A client may send any number of authority certificates. At most this many are used, because each may cause signature
 * verifications.
 */
export const longestChain = 6

/** The certificates that a client has sent: its own, and those of authorities. */
export interface PresentedCertificates {
  certificate: X509Certificate
  /**
   * The certificates of authorities, in any order. An attacker may have made them, so such a certificate is trusted
   * only if a trusted authority has signed it.
   */
  others: readonly X509Certificate[]
}

/**
 * Returns the intermediate certificates between the client's certificate and a configured authority, or undefined if no
 * valid chain leads to a configured authority. The checks are those of RFC 5280 §6.1 and of OpenSSL: validity, key
 * usage, purposes, path lengths, unknown critical extensions, and the strength of keys and signatures. Name constraints
 * are not checked. So an authority with name constraints is accepted only if it is configured and has issued the
 * client's certificate directly.
 *
 * @param now milliseconds since 1970
 */
export function trustedChain(
  { certificate, others }: PresentedCertificates,
  authorities: readonly X509Certificate[],
  now: number,
): X509Certificate[] | undefined {
  // Each certificate is tried once, so that the number of paths does not grow exponentially with the number of
  // certificates.
  const untried = new Set(others.slice(0, longestChain))

  const hasIssued = (authority: X509Certificate, issued: X509Certificate, between: X509Certificate[]) =>
    authority.ca &&
    isValidAt(authority, now) &&
    issued.checkIssued(authority) &&
    issued.verify(authority.publicKey) &&
    isStrong(authority) &&
    constraintsOf(authority).pathLength >= between.length

  function chainFrom(issued: X509Certificate, between: X509Certificate[]): X509Certificate[] | undefined {
    const isTrusted = (authority: X509Certificate) =>
      hasIssued(authority, issued, between) && (between.length === 0 || !constraintsOf(authority).hasNameConstraints)
    if (authorities.some(isTrusted)) return between
    for (const authority of [...untried]) {
      if (!untried.has(authority) || !hasIssued(authority, issued, between)) continue
      untried.delete(authority)
      const chain = mayStandBetween(authority) ? chainFrom(authority, [...between, authority]) : undefined
      if (chain !== undefined) return chain
    }
    return undefined
  }

  try {
    return isUsable(certificate) ? chainFrom(certificate, []) : undefined
  } catch {
    // The error means that a key has an unknown type, or that an extension does not have the form of RFC 5280.
    return undefined
  }
}

function isUsable(certificate: X509Certificate): boolean {
  const { isForClients, hasUnknownCritical, hasWeakSignature } = constraintsOf(certificate)
  return isForClients && !hasUnknownCritical && !hasWeakSignature && isStrong(certificate)
}

function mayStandBetween(authority: X509Certificate): boolean {
  return isUsable(authority) && !constraintsOf(authority).hasNameConstraints
}

/** Whether an RSA or DSA key has at least 2048 bits, as OpenSSL requires by default. Other keys are not checked. */
function isStrong({ publicKey }: X509Certificate): boolean {
  const { modulusLength } = publicKey.asymmetricKeyDetails ?? {}
  return modulusLength === undefined || modulusLength >= 2048
}

/** Whether the certificate is valid at `now` (milliseconds since 1970). */
export function isValidAt({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime()
}
