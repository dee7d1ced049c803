/** Creates certificates of authorities, servers and clients, valid and invalid. */
import 'reflect-metadata'
import { webcrypto, X509Certificate } from 'node:crypto'
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralNames,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509'

cryptoProvider.set(webcrypto as never)

export interface Certified {
  /** PEM. */
  cert: string
  /** PEM, PKCS #8. */
  key: string
  /** The DER in base64, as in `x5c` (RFC 7515 §4.1.6). */
  x5c: string
  thumbprint: string
  /** The keys, for signing other certificates. */
  keys: webcrypto.CryptoKeyPair
  subject: string
}

export interface CertificateOptions {
  subject: string
  names?: JsonGeneralNames
  /** The issuer. Default: self-signed. */
  by?: Certified
  isAuthority?: boolean
  /** The maximum number of authorities between this authority and the certificate of a client. Default: no maximum. */
  pathLength?: number
  /** The allowed purposes (`extKeyUsage`), as object identifiers. Default: any purpose. */
  purposes?: string[]
  /** Whether the certificate has a critical extension that no server knows. */
  hasUnknownCritical?: boolean
  /** The only DNS names for which an authority may issue certificates. */
  onlyNames?: string
  /** The beginning and the end of the validity, in days from now. */
  from?: number
  until?: number
  /** `weak`: an RSA key of 1024 bits. */
  kind?: 'rsa' | 'ec' | 'weak'
  /** The hash algorithm of the signature, for an issuer with an RSA key. Default: SHA-256. */
  hash?: 'SHA-1'
}

const day = 24 * 3600_000
let serial = 1

export async function certify(options: CertificateOptions): Promise<Certified> {
  const { subject, names, by, isAuthority = false, from = -1, until = 365, kind = 'ec' } = options
  const { pathLength, purposes, onlyNames, hasUnknownCritical = false } = options
  const rsa = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: kind === 'weak' ? 1024 : 2048,
  }
  const ec = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = (await webcrypto.subtle.generateKey(kind === 'ec' ? ec : rsa, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
  const signer = by?.keys ?? keys
  const extensions: Extension[] = [
    new BasicConstraintsExtension(isAuthority, pathLength, true),
    ...(names === undefined ? [] : [new SubjectAlternativeNameExtension(names)]),
    ...(purposes === undefined ? [] : [new ExtendedKeyUsageExtension(purposes)]),
    ...(onlyNames === undefined ? [] : [new Extension('2.5.29.30', true, permittedNames(onlyNames))]),
    ...(hasUnknownCritical ? [new Extension('1.3.6.1.4.1.55555.1', true, Buffer.from('0500', 'hex'))] : []),
  ]
  const signingKey =
    options.hash === undefined ? signer.privateKey : await withHash(signer.privateKey, { ...rsa, hash: options.hash })
  const made = await X509CertificateGenerator.create({
    serialNumber: (serial++).toString(16).padStart(4, '0'),
    subject,
    issuer: by?.subject ?? subject,
    notBefore: new Date(Date.now() + from * day),
    notAfter: new Date(Date.now() + until * day),
    publicKey: keys.publicKey as never,
    signingKey: signingKey as never,
    signingAlgorithm: (signer.privateKey.algorithm.name === 'ECDSA'
      ? ec
      : { ...rsa, ...signingKey.algorithm }) as never,
    extensions,
  })
  const der = Buffer.from(made.rawData)
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  return {
    cert: pem('CERTIFICATE', der),
    key: pem('PRIVATE KEY', pkcs8),
    x5c: der.toString('base64'),
    thumbprint: Buffer.from(await webcrypto.subtle.digest('SHA-256', der)).toString('base64url'),
    keys,
    subject,
  }
}

/**
 * Returns the same key for use with another hash algorithm. In Web Crypto, a key can be used with only one hash
 * algorithm.
 */
async function withHash(key: webcrypto.CryptoKey, algorithm: webcrypto.RsaHashedImportParams) {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', key)
  return webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign'])
}

/** Returns the DER of name constraints that permit one DNS name (RFC 5280 §4.2.1.10). */
function permittedNames(name: string): Buffer {
  const wrap = (tag: number, content: Buffer) => Buffer.concat([Buffer.from([tag, content.length]), content])
  return wrap(0x30, wrap(0xa0, wrap(0x30, wrap(0x82, Buffer.from(name)))))
}

/**
 * Returns an authority, and a server certificate for this machine that the authority has issued. The server has an RSA
 * key, because FAPI's cipher suites require it.
 */
export async function certifyServer(): Promise<{ authority: Certified; server: Certified }> {
  const authority = await certify({ subject: 'CN=Test authority', isAuthority: true, kind: 'rsa' })
  const server = await certify({
    subject: 'CN=localhost',
    names: [
      { type: 'dns', value: 'localhost' },
      // A second name of the same server, for clients with certificates.
      { type: 'dns', value: 'mtls.example.com' },
      { type: 'ip', value: '127.0.0.1' },
    ],
    by: authority,
    kind: 'rsa',
  })
  return { authority, server }
}

function pem(what: string, der: Buffer): string {
  const lines = der
    .toString('base64')
    .match(/.{1,64}/g)!
    .join('\n')
  const text = `-----BEGIN ${what}-----\n${lines}\n-----END ${what}-----\n`
  if (what === 'CERTIFICATE') new X509Certificate(text)
  return text
}
