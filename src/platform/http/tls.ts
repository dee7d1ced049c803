/** Own TLS: what of it is on. */
import { constants } from 'node:crypto'
import type { ServerOptions } from 'node:https'

export interface TlsFiles {
  /** PEM texts. */
  key: string
  cert: string
  clientCa?: string | undefined
}

/** TLS 1.3's, and the four of TLS 1.2 that FAPI allows (FC-17). All four want an RSA key in the server's certificate. */
const suites = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'DHE-RSA-AES128-GCM-SHA256',
  'DHE-RSA-AES256-GCM-SHA384',
]

/** For servers with another key, where no profile forbids it: the same two ciphers. */
const suitesForOtherKeys = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384']

/**
 * Clients are asked for a certificate and may have none, or one that nobody vouches for: whether it proves anything is
 * decided later, by what the client registered (TL-8).
 */
export function tlsOptions({ key, cert, clientCa }: TlsFiles, anyKey: boolean): ServerOptions {
  return {
    key,
    cert,
    // Without authorities of its own, Node would trust those of the web: anybody can have a certificate of theirs.
    ca: clientCa ?? [],
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
    ciphers: [...suites, ...(anyKey ? suitesForOtherKeys : [])].join(':'),
    honorCipherOrder: true,
    // OpenSSL's own groups, 2048 bits at least.
    dhparam: 'auto',
    // A connection shows one certificate, for good.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  }
}
