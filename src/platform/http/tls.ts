/** Options for the server's own TLS. */
import { constants } from 'node:crypto'
import type { ServerOptions } from 'node:https'

export interface TlsFiles {
  /** PEM texts. */
  key: string
  cert: string
  clientCa?: string | undefined
}

/** Those of TLS 1.3, and the four of TLS 1.2 in FAPI 1.0 Advanced §8.5, which need an RSA key in the certificate. */
const suites = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'DHE-RSA-AES128-GCM-SHA256',
  'DHE-RSA-AES256-GCM-SHA384',
]

/** For other keys, where the profile allows it: the same two ciphers with ECDSA. */
const suitesForOtherKeys = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384']

/**
 * Clients are asked for a certificate, and may have none or one that no authority issued. Whether it proves anything is
 * decided later, by the client's registration (RFC 8705 §2.2).
 */
export function tlsOptions({ key, cert, clientCa }: TlsFiles, anyKey: boolean): ServerOptions {
  return {
    key,
    cert,
    // Without authorities of its own, Node would trust those of the web, from which anybody can get a certificate.
    ca: clientCa ?? [],
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
    ciphers: [...suites, ...(anyKey ? suitesForOtherKeys : [])].join(':'),
    honorCipherOrder: true,
    // OpenSSL's own groups, at least 2048 bits.
    dhparam: 'auto',
    // A connection keeps its certificate.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  }
}
