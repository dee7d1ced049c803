/**
 * Reads the headers in which proxies forward the certificate of a client. docs/guides/client-certificates.md lists the
 * forms, with the proxies that use them.
 */
import { X509Certificate } from 'node:crypto'
import { longestChain, type PresentedCertificates } from './chain.ts'
import { extentOf } from './extensions.ts'
import { split } from './quoted-text.ts'

/** Why a header cannot be read. The text is for the operator of the proxy. */
export class UnreadableHeader extends Error {
  override name = 'UnreadableHeader'
}

/** Maximum length of a header, in characters. A certificate has about 2 KiB. */
const longestHeader = 16_384

/**
 * Reads the header with the certificate, and the header with the rest of the chain if there is one.
 *
 * @throws {UnreadableHeader} if the client's certificate cannot be read, or it is not clear which certificate is the
 *   client's
 */
export function readForwarded(header: string, chainHeader = ''): PresentedCertificates {
  const [certificate, ...others] = isOfEnvoy(header) ? readEnvoy(header) : inOrder(readList(header))
  if (certificate === undefined) throw new UnreadableHeader('it contains no certificate')
  return { certificate, others: [...others, ...readChain(chainHeader)] }
}

/**
 * Returns the certificates of a chain. If they cannot be read, returns an empty list instead of an error, because the
 * client's certificate may need no chain.
 */
function readChain(header: string): X509Certificate[] {
  try {
    return itemsOf(header).flatMap(certificatesIn)
  } catch {
    return []
  }
}

/**
 * Whether a header has Envoy's form, such as `Hash=…;Cert="…"`. Base64 never has this form, because it contains `=`
 * only at its end.
 */
function isOfEnvoy(header: string): boolean {
  return /^\s*(By|Hash|Cert|Chain|Subject|URI|DNS)=/i.test(header)
}

/**
 * Reads Envoy's `x-forwarded-client-cert`. The client's certificate is in `Cert`, or is the first certificate in
 * `Chain`. A header with several elements is refused, because it is not clear which proxy received the client's
 * connection, and an attacker may have sent the first elements.
 */
function readEnvoy(header: string): X509Certificate[] {
  const [element = '', ...others] = split(header, ',')
  if (others.length > 0) throw new UnreadableHeader('several proxies have added an element: the first must replace it')
  const members = new Map(split(element, ';').map(readMember))
  const chain = members.get('chain')
  const certificate = members.get('cert')
  if (certificate === undefined && chain === undefined) {
    throw new UnreadableHeader('it contains neither Cert nor Chain, which Envoy adds only if it is told to')
  }
  if (certificate === undefined) return inOrder(readList(chain!))
  return [...one(readList(certificate)), ...readChain(chain ?? '')]
}

function readMember(member: string): [name: string, value: string] {
  const end = member.indexOf('=')
  const value = member.slice(end + 1).trim()
  const name = member.slice(0, Math.max(end, 0)).trim().toLowerCase()
  return [name, value.startsWith('"') ? value.slice(1, -1).replaceAll(/\\(.)/g, '$1') : value]
}

function one(certificates: X509Certificate[]): X509Certificate[] {
  if (certificates.length !== 1) throw new UnreadableHeader('Cert does not contain one certificate')
  return certificates
}

/**
 * Checks that each certificate has issued the one before it, so that the first one is the client's (RFC 5246 §7.4.2). A
 * proxy may add to the header of the caller instead of replacing it. Without this check, the caller could then put the
 * certificate of another client first.
 */
function inOrder(certificates: X509Certificate[]): X509Certificate[] {
  for (const [at, issuer] of certificates.entries()) {
    const issued = certificates[at - 1]
    if (issued !== undefined && !(issued.checkIssued(issuer) && issued.verify(issuer.publicKey))) {
      throw new UnreadableHeader('it contains several certificates that are not a chain')
    }
  }
  return certificates
}

function readList(text: string): X509Certificate[] {
  return itemsOf(text).map((item) => {
    const [certificate, ...others] = certificatesIn(item)
    if (certificate === undefined || others.length > 0) throw new UnreadableHeader('bytes follow a certificate')
    return certificate
  })
}

/**
 * Returns the certificates of a header as base64, in order. The header may contain PEM, base64, or base64 between
 * colons (RFC 9440), and may be percent-encoded. Commas separate the certificates. PEM certificates need no comma.
 */
function itemsOf(header: string): string[] {
  if (header.length > longestHeader) throw new UnreadableHeader('it is too long')
  const text = header.includes('%') ? decoded(header) : header
  const items = text
    // Some proxies encode a space as "+", and a line break as "\n".
    .replaceAll(/-----(BEGIN|END)[ +]CERTIFICATE-----/g, ',')
    .replaceAll('\\n', '')
    .replaceAll(/\s/g, '')
    .split(',')
    .filter((item) => item !== '')
  if (items.length > longestChain + 1) throw new UnreadableHeader('it contains too many certificates')
  return items.map((item) => /^:([^:]*):(;.*)?$/.exec(item)?.[1] ?? item)
}

function decoded(header: string): string {
  try {
    return decodeURIComponent(header)
  } catch {
    throw new UnreadableHeader('its percent-encoding is not valid')
  }
}

/** Returns the certificates whose DER is written one after the other, as HAProxy writes a chain. */
function certificatesIn(base64: string): X509Certificate[] {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw new UnreadableHeader('it is in no form that is known')
  const bytes = Buffer.from(base64, 'base64')
  const certificates: X509Certificate[] = []
  try {
    for (let at = 0; at < bytes.length && certificates.length <= longestChain; ) {
      const { end } = extentOf(bytes, at)
      const der = bytes.subarray(at, end)
      const certificate = new X509Certificate(der)
      // `X509Certificate` also accepts PEM, and ignores bytes that follow the certificate.
      if (!certificate.raw.equals(der)) throw new RangeError('not the certificate alone')
      certificates.push(certificate)
      at = end
    }
  } catch {
    throw new UnreadableHeader('it is in no form that is known')
  }
  return certificates
}
