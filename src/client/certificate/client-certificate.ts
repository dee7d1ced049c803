/** The certificate a client shows (RFC 8705): from the connection itself, or from a proxy that has seen it. */
import { createHash, X509Certificate } from 'node:crypto'
import { TLSSocket } from 'node:tls'
import type { Clock } from '../../platform/clock.ts'
import { isWithin, rangesOf } from '../../platform/http/address.ts'
import type { Log } from '../../platform/log.ts'
import { isIssuedBy, isValidAt } from './chain.ts'

export interface ClientCertificate {
  certificate: X509Certificate
  /** SHA-256 of the certificate, base64url: `x5t#S256`. What tokens are bound to, and self-signed ones compared by. */
  thumbprint: string
  /** Whether one of the trusted authorities has issued it, and it is valid now. Says nothing about whose it is. */
  isTrusted: boolean
}

/** As much of a call as is needed to see its certificate. */
export interface CertificateCall {
  socket: { remoteAddress?: string | undefined }
  headers: Readonly<Record<string, string | string[] | undefined>>
}

export type ReadCertificate = (call: CertificateCall) => ClientCertificate | undefined

export interface CertificateNeeds {
  /** The name of the header in which a trusted proxy hands certificates on, if there is one. */
  header: string | undefined
  /** Addresses and ranges of the proxies whose header is believed. */
  trustedProxies: readonly string[]
  /** PEM certificates of the authorities whose word is good for `tls_client_auth`. */
  authorities: string | undefined
  clock: Clock
  log: Log
}

/**
 * Only what the connection or a trusted proxy shows is seen. A header from anywhere else is ignored and logged: whoever
 * sends one wants to be taken for somebody (BP-3, TL-9).
 */
export function createReadCertificate(needs: CertificateNeeds): ReadCertificate {
  const authorities = readBundle(needs.authorities)
  const proxies = rangesOf(needs.trustedProxies)
  const header = needs.header?.toLowerCase()

  const seen = (certificate: X509Certificate, isTrusted: boolean): ClientCertificate => ({
    certificate,
    thumbprint: thumbprintOf(certificate.raw),
    isTrusted: isTrusted && isValidAt(certificate, needs.clock.now()),
  })

  return ({ socket, headers }) => {
    const handedOn = (header === undefined ? undefined : headers[header]) || undefined
    // Behind a proxy the connection is the proxy's: what it shows itself is not the client's.
    if (header !== undefined && isWithin(socket.remoteAddress, proxies)) {
      const certificate = handedOn === undefined ? undefined : decode(handedOn)
      return certificate && seen(certificate, isIssuedBy(certificate, authorities, needs.clock.now()))
    }
    if (handedOn !== undefined) {
      needs.log.warn(
        { event: 'client_certificate.spoofed', from: socket.remoteAddress },
        'a client certificate header came from an address that is not a trusted proxy',
      )
    }
    if (!(socket instanceof TLSSocket)) return undefined
    const certificate = socket.getPeerX509Certificate()
    // OpenSSL has built the chain, with the certificates between that only the handshake brings.
    return certificate && seen(certificate, socket.authorized && authorities.length > 0)
  }
}

export function thumbprintOf(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('base64url')
}

/** The certificates of a PEM text, one after the other. */
export function readBundle(pem: string | undefined): X509Certificate[] {
  const blocks = pem?.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}

/** A certificate is some 2 KiB; three times that is none. Characters. */
const longestHeader = 16_384

/**
 * The three ways proxies write a certificate into a header: PEM percent-encoded (nginx), PEM or base64 of the DER in
 * one line, and `:base64:` (RFC 9440). What is none of them is no certificate.
 */
function decode(value: string | string[]): X509Certificate | undefined {
  if (typeof value !== 'string' || value.length > longestHeader) return undefined
  try {
    const text = value.includes('%') ? decodeURIComponent(value) : value
    const base64 = text
      .replace(/^:|:$/g, '')
      .replace(/-----(BEGIN|END) CERTIFICATE-----/g, '')
      .replaceAll(/\s/g, '')
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return undefined
    const der = Buffer.from(base64, 'base64')
    const certificate = new X509Certificate(der)
    // Bytes after the certificate would change its thumbprint, and nothing else.
    return certificate.raw.equals(der) ? certificate : undefined
  } catch {
    return undefined
  }
}
