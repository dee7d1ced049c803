/** Reads the certificate of a client (RFC 8705) from the TLS connection, or from the header of a trusted proxy. */
import { createHash, X509Certificate } from 'node:crypto'
import { TLSSocket } from 'node:tls'
import type { Clock } from '../../platform/clock.ts'
import { fingerprint } from '../../platform/crypto.ts'
import { isWithin, rangesOf } from '../../platform/http/address.ts'
import type { Log } from '../../platform/log.ts'
import { isValidAt, type PresentedCertificates } from './chain.ts'
import { readForwarded, UnreadableHeader } from './forwarded-certificate.ts'
import { createHandshakeCertificates } from './handshake-certificates.ts'
import { createFindChain, createHeaderMemory } from './remembered-chains.ts'

export interface ClientCertificate {
  certificate: X509Certificate
  /**
   * SHA-256 of the certificate, base64url (`x5t#S256`). Tokens are bound to this thumbprint, and self-signed
   * certificates are compared by it.
   */
  thumbprint: string
  /**
   * Whether a trusted authority issued the certificate and the certificate is valid now. The certificate may still
   * belong to another client.
   */
  readonly isTrusted: boolean
}

/** The part of a call that is needed to read its certificate. */
export interface CertificateCall {
  socket: { remoteAddress?: string | undefined }
  headers: Readonly<Record<string, string | string[] | undefined>>
  /** The same headers, with one value for each header line. */
  headersDistinct?: Readonly<Record<string, string[] | undefined>>
}

/** Returns the client certificate of a call, or undefined if there is none or it cannot be read. */
export type ReadCertificate = (call: CertificateCall) => ClientCertificate | undefined

export interface CertificateNeeds {
  /** The name of the header in which a trusted proxy forwards certificates, if configured. */
  header: string | undefined
  /**
   * The name of the header in which a trusted proxy forwards the rest of the chain, if configured. Default:
   * `client-cert-chain` if `header` is `client-cert`.
   */
  chainHeader: string | undefined
  /** Addresses and ranges of the proxies whose header is trusted. */
  trustedProxies: readonly string[]
  /** PEM certificates of the authorities that are trusted for `tls_client_auth`. */
  authorities: string | undefined
  clock: Clock
  log: Log
}

/**
 * Returns a function that reads the certificate from the connection or from the header of a trusted proxy. A header
 * from any other address is ignored, and logged as an attempt to spoof a certificate.
 */
export function createReadCertificate(needs: CertificateNeeds): ReadCertificate {
  const authorities = readBundle(needs.authorities)
  const proxies = rangesOf(needs.trustedProxies)
  const header = needs.header?.toLowerCase()
  const chainHeader = (needs.chainHeader ?? (header === 'client-cert' ? 'client-cert-chain' : undefined))?.toLowerCase()
  const now = () => needs.clock.now()
  const findChain = createFindChain(authorities, now)
  const readHandshake = createHandshakeCertificates(findChain)
  const knownHeaders = createHeaderMemory()
  const ofConnection = new WeakMap<TLSSocket, ClientCertificate | undefined>()

  /**
   * Returns the certificate. All uses of a certificate except `tls_client_auth` accept any issuer, so they do not read
   * `isTrusted`. `isTrusted` is a getter, so the chain is not checked for these other uses. Each read of `isTrusted`
   * checks whether the certificate itself is valid at that time.
   */
  const seen = (
    presented: PresentedCertificates,
    isTrustedHere = () => findChain(presented) !== undefined,
  ): ClientCertificate => ({
    certificate: presented.certificate,
    thumbprint: thumbprintOf(presented.certificate.raw),
    get isTrusted() {
      return isValidAt(presented.certificate, now()) && isTrustedHere()
    },
  })

  function onConnection(socket: TLSSocket): ClientCertificate | undefined {
    if (ofConnection.has(socket)) return ofConnection.get(socket)
    const presented = readHandshake(socket)
    // If Doorbell runs in an application that has a TLS server, that TLS server may have verified the chain. In
    // Doorbell's own TLS server, `authorized` is always false, because that TLS server trusts no authority
    // (`platform/http/tls.ts`).
    const isVerified = () => socket.authorized && authorities.length > 0
    const certificate = presented && seen(presented, () => isVerified() || findChain(presented) !== undefined)
    ofConnection.set(socket, certificate)
    return certificate
  }

  function ofHeader(lines: string[], chain: string[]): ClientCertificate {
    const text = fingerprint(JSON.stringify([lines, chain]))
    const known = knownHeaders.find(text)
    if (known !== undefined) return seen(known)
    const presented = readLines(lines, chain)
    return seen(presented, () => {
      const isTrusted = findChain(presented) !== undefined
      if (isTrusted) knownHeaders.keep(text, presented)
      return isTrusted
    })
  }

  function onProxy(lines: string[], call: CertificateCall): ClientCertificate | undefined {
    if (lines.length === 0) return undefined
    try {
      return ofHeader(lines, linesOf(call, chainHeader))
    } catch (error) {
      if (!(error instanceof UnreadableHeader)) throw error
      needs.log.warn(
        { event: 'client_certificate.unreadable', from: call.socket.remoteAddress, reason: error.message },
        'a trusted proxy has sent a client certificate header that cannot be read',
      )
      return undefined
    }
  }

  return (call) => {
    const { socket } = call
    const lines = linesOf(call, header)
    // The TLS certificate of this connection is that of the proxy, not that of the client.
    if (header !== undefined && isWithin(socket.remoteAddress, proxies)) return onProxy(lines, call)
    if (lines.length > 0) {
      needs.log.warn(
        { event: 'client_certificate.spoofed', from: socket.remoteAddress },
        'a client certificate header came from an address that is not a trusted proxy',
      )
    }
    return socket instanceof TLSSocket ? onConnection(socket) : undefined
  }
}

/** What proxies send if there is no client certificate: HAProxy sends an empty value or `::`, Apache sends `(null)`. */
const none = ['', '::', '(null)']

/** Returns the values of a header, one for each header line, without those that mean that there is no certificate. */
function linesOf(call: CertificateCall, header: string | undefined): string[] {
  const joined = header === undefined ? undefined : call.headers[header]
  if (header === undefined || joined === undefined) return []
  // `headersDistinct` is read only if the call has this header, because Node then parses all headers again.
  const lines = call.headersDistinct?.[header] ?? [joined].flat()
  return lines.filter((line) => !none.includes(line))
}

function readLines([line = '', ...others]: string[], chain: string[]): PresentedCertificates {
  // A proxy must replace a header that the caller has sent, and not add a second one.
  if (others.length > 0) throw new UnreadableHeader('there are several of this header')
  return readForwarded(line, chain.join(','))
}

/** Returns SHA-256 of the DER, base64url (`x5t#S256`, RFC 8705 §3.1). */
export function thumbprintOf(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('base64url')
}

/** Returns the certificates in a PEM text, in order. */
export function readBundle(pem: string | undefined): X509Certificate[] {
  const blocks = pem?.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}
