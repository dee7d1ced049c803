/**
 * Reads the certificates of a TLS handshake: the client's own certificate, and the authority certificates that the
 * client has sent with it. Node returns authority certificates only once, and only after a full handshake. So they are
 * read at the first call of a connection. A resumed TLS session has only the client's own certificate. So authority
 * certificates that lead to a trusted authority are kept in memory for resumed sessions.
 */
import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { longestChain, type PresentedCertificates } from './chain.ts'
import type { FindChain } from './remembered-chains.ts'

/**
 * Maximum number of client certificates whose chain is kept. Only chains that lead to a trusted authority are kept, so
 * an anonymous caller cannot fill this memory.
 */
const mostClients = 20_000
/**
 * Maximum number of authority certificates in memory. The chains of all clients of one authority refer to the same
 * certificate object.
 */
const mostAuthorities = 1_000

/**
 * Returns a function that reads the certificates of a connection. That function returns undefined if the client has
 * sent no certificate.
 */
export function createHandshakeCertificates(findChain: FindChain) {
  /** The chains, by the fingerprint of the client's certificate. The chain that was used last is at the end. */
  const chains = new Map<string, X509Certificate[]>()
  const shared = new Map<string, X509Certificate>()

  function share(authority: X509Certificate): X509Certificate {
    const known = shared.get(authority.fingerprint256)
    if (known !== undefined) return known
    if (shared.size >= mostAuthorities) shared.clear()
    shared.set(authority.fingerprint256, authority)
    return authority
  }

  function keep(fingerprint: string, chain: X509Certificate[]): void {
    chains.delete(fingerprint)
    chains.set(fingerprint, chain)
    if (chains.size > mostClients) chains.delete(chains.keys().next().value!)
  }

  return (socket: TLSSocket): PresentedCertificates | undefined => {
    const certificate = socket.getPeerX509Certificate()
    if (certificate === undefined) return undefined
    const isResumed = socket.isSessionReused()
    const others = isResumed ? (chains.get(certificate.fingerprint256) ?? []) : issuersOf(certificate)
    const presented = { certificate, others }
    const chain = others.length === 0 ? undefined : findChain(presented)
    if (chain !== undefined) keep(certificate.fingerprint256, chain.map(share))
    return presented
  }
}

function issuersOf(certificate: X509Certificate): X509Certificate[] {
  const issuers: X509Certificate[] = []
  let next = certificate.issuerCertificate
  while (next !== undefined && issuers.length < longestChain) {
    issuers.push(next)
    next = next.issuerCertificate
  }
  return issuers
}
