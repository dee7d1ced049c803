/** The configuration of the two nodes behind a proxy: their clients, their user, and the certificates of the check. */
import { X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newSecret } from '../src/platform/crypto.ts'
import { type Certified, certify, certifyServer } from '../test/support/certificates.ts'
import type { ProxyTls } from './proxy-programs.ts'

export const CIBA = 'urn:openid:params:grant-type:ciba'
export const kiosk = newSecret()
export const phones = newSecret()
export const metricsToken = newSecret()
export const ana = { id: 'ana', username: 'ana', password: newSecret(12) }

/** The certificates of the check. */
export interface Certificates {
  files: ProxyTls
  authority: Certified
  /** `till` is signed by the authority, `self` is self-signed. */
  till: Certified
  self: Certified
}

/** Makes the certificates, and writes those that the proxies need into `folder`. */
export async function makeCertificates(folder: string): Promise<Certificates> {
  const { authority, server } = await certifyServer()
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const files = {
    host: 'localhost',
    cert: await file('server.pem', server.cert),
    key: await file('server.key', server.key),
    both: await file('both.pem', server.cert + server.key),
    clientCa: await file('clients-ca.pem', authority.cert),
  }
  const till = await certify({ subject: 'CN=till', by: authority })
  return { files, authority, till, self: await certify({ subject: 'CN=self' }) }
}

interface NodeSettings {
  name: string
  url: string
  port: number
  database: string
  certificates: Certificates
}

/** Returns the configuration of a node. */
export function settingsOf({ name, url, port, database, certificates }: NodeSettings) {
  const poll = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' }
  const header = name === 'envoy' ? 'x-forwarded-client-cert' : 'X-Client-Cert'
  return {
    issuer: url,
    host: '127.0.0.1',
    port,
    database,
    secret: Buffer.alloc(32, 7).toString('base64url'),
    proxy: {
      trust: ['127.0.0.1'],
      clientCertificateHeader: header,
      ...(name === 'haproxy' && { clientCertificateChainHeader: 'X-Client-Cert-Chain' }),
      clientCa: certificates.authority.cert,
    },
    // A poll is repeated two seconds after a node was killed. With an interval of one second, this poll is not too
    // early.
    requests: { longPoll: 20, interval: 1, maxOpenPerUser: 1000 },
    limits: { perUser: { perMinute: 0 }, perClientAndUser: { perMinute: 0, open: 0 } },
    metrics: { token: metricsToken },
    logLevel: 'fatal',
    clients: [
      { client_id: 'kiosk', client_secret: kiosk, ...poll },
      { client_id: 'phones', client_secret: phones, backchannel_device_service: true },
      {
        client_id: 'till',
        ...poll,
        token_endpoint_auth_method: 'tls_client_auth',
        tls_client_auth_subject_dn: 'CN=till',
        tls_client_certificate_bound_access_tokens: true,
      },
      {
        client_id: 'self',
        ...poll,
        token_endpoint_auth_method: 'self_signed_tls_client_auth',
        jwks: { keys: [{ ...publicKeyOf(certificates.self), x5c: [certificates.self.x5c] }] },
      },
    ],
    users: [ana],
  }
}

function publicKeyOf({ cert }: Certified) {
  return new X509Certificate(cert).publicKey.export({ format: 'jwk' })
}
