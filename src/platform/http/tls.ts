/** Options for the server's own TLS. */
import { constants } from 'node:crypto'
import type { ServerOptions } from 'node:https'

export interface TlsFiles {
  /** Both members are PEM texts. */
  key: string
  cert: string
}

/**
 * The suites of TLS 1.3, and two of the four TLS 1.2 suites of FAPI 1.0 Advanced §8.5. These two need a certificate
 * with an RSA key. The other two exchange keys by finite-field Diffie-Hellman (DHE), which RFC 9325 §4.2 no longer
 * recommends.
 */
const suites = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384',
]

/**
 * The TLS 1.2 suites for certificates with an ECDSA key, used if the security profile allows such keys. The two ciphers
 * are the same as in `suites`.
 */
const suitesForOtherKeys = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384']

/**
 * Returns options with which the server requests a certificate. A client may send none, or a certificate that no
 * authority issued (RFC 8705 §2.2). The client's registration decides later whether the certificate is accepted.
 */
export function tlsOptions({ key, cert }: TlsFiles, anyKey: boolean): ServerOptions {
  return {
    key,
    cert,
    // This list is empty, so that clients may send any certificate. Chains are checked later
    // (client/certificate/chain.ts). If the list contained authorities, Node would send their names to clients. TLS
    // clients written in Go or Java would then send no certificate of another authority, and no self-signed one (RFC
    // 8705 §6.1). If `ca` were absent, Node would trust the public web authorities.
    ca: [],
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
    ciphers: [...suites, ...(anyKey ? suitesForOtherKeys : [])].join(':'),
    honorCipherOrder: true,
    // Without renegotiation, the client certificate of a connection cannot change.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  }
}
