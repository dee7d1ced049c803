/**
 * Reads the extensions of a certificate that limit its use: which certificates an authority may issue, and for which
 * purposes. Node's `X509Certificate` has no path length, no name constraints and no critical flags.
 */
import type { X509Certificate } from 'node:crypto'

export interface Constraints {
  /** Maximum number of intermediate certificates between this authority and the client's certificate. */
  pathLength: number
  /** Whether clients may use the certificate: it has no extended key usage, or one of `purposesOfClients`. */
  isForClients: boolean
  /** Whether the authority may issue certificates for certain names only (RFC 5280 §4.2.1.10). */
  hasNameConstraints: boolean
  /**
   * Whether the certificate has a critical extension that is not in `known`. Such a certificate must be refused (RFC
   * 5280 §4.2).
   */
  hasUnknownCritical: boolean
  /** Whether the certificate is signed with one of `weakSignatures`. */
  hasWeakSignature: boolean
}

const basicConstraints = '551d13'
const keyUsage = '551d0f'
const purposes = '551d25'
const nameConstraints = '551d1e'
const alternativeNames = '551d11'
const policies = '551d20'

/**
 * Extensions that may be critical. This server or Node checks some of them: Node's `ca` is false if the key usage
 * forbids to issue certificates. The others contain only names and texts, so they need no check.
 */
const known = [basicConstraints, keyUsage, purposes, nameConstraints, alternativeNames, policies]

/** The encoded object identifiers of the purposes `clientAuth` and `anyExtendedKeyUsage`, in hexadecimal. */
const purposesOfClients = ['2b06010505070302', '551d2500']

/**
 * The encoded object identifiers of MD2, MD4, MD5 or SHA-1 with RSA, and of SHA-1 with DSA or ECDSA, in hexadecimal.
 */
const weakSignatures = ['02', '03', '04', '05']
  .map((last) => `2a864886f70d0101${last}`)
  .concat(['2a8648ce380403', '2a8648ce3d0401'])

/** @throws {RangeError} if the certificate does not have the form of RFC 5280 */
export function constraintsOf(certificate: X509Certificate): Constraints {
  const extensions = extensionsOf(certificate.raw)
  const named = extensions.find(({ id }) => id === purposes)
  const basic = extensions.find(({ id }) => id === basicConstraints)
  return {
    pathLength: basic === undefined ? 0 : pathLengthOf(basic.value),
    isForClients:
      named === undefined ||
      valuesIn(only(named.value).content).some(({ content }) => purposesOfClients.includes(content.toString('hex'))),
    hasNameConstraints: extensions.some(({ id }) => id === nameConstraints),
    hasUnknownCritical: extensions.some(({ id, isCritical }) => isCritical && !known.includes(id)),
    hasWeakSignature: weakSignatures.includes(signatureAlgorithmOf(certificate.raw)),
  }
}

interface Extension {
  /** The object identifier, encoded, in hexadecimal. */
  id: string
  isCritical: boolean
  value: Buffer
}

/** Returns the object identifier of the certificate's signature algorithm: its DER content in hexadecimal. */
function signatureAlgorithmOf(der: Buffer): string {
  const [, algorithm] = valuesIn(only(der).content)
  const [id] = valuesIn(algorithm?.content ?? Buffer.alloc(0))
  if (id === undefined) throw new RangeError('no signature algorithm')
  return id.content.toString('hex')
}

/** The member `extensions` of a certificate is the only one with the tag [3] (RFC 5280 §4.1). */
function extensionsOf(der: Buffer): Extension[] {
  const [signed] = valuesIn(only(der).content)
  const wrapped = signed && valuesIn(signed.content).find(({ tag }) => tag === 0xa3)
  if (wrapped === undefined) return []
  return valuesIn(only(wrapped.content).content).map(({ content }) => {
    const [id, ...rest] = valuesIn(content)
    const value = rest.at(-1)
    if (id === undefined || value === undefined) throw new RangeError('an extension without a value')
    const isCritical = rest.some(({ tag, content }) => tag === 0x01 && content[0] !== 0)
    return { id: id.content.toString('hex'), isCritical, value: value.content }
  })
}

/** SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL } */
function pathLengthOf(value: Buffer): number {
  const length = valuesIn(only(value).content).find(({ tag }) => tag === 0x02)
  return length === undefined
    ? Number.POSITIVE_INFINITY
    : length.content.readUIntBE(0, Math.min(length.content.length, 6))
}

interface DerValue {
  tag: number
  content: Buffer
}

function only(der: Buffer): DerValue {
  const [value, ...rest] = valuesIn(der)
  if (value === undefined || rest.length > 0) throw new RangeError('not one value')
  return value
}

/** Returns the values that are written one after the other in DER (X.690 §8.1, §10.1). */
function valuesIn(der: Buffer): DerValue[] {
  const values: DerValue[] = []
  for (let at = 0; at < der.length; ) {
    const tag = der.readUInt8(at)
    const { start, end } = extentOf(der, at)
    values.push({ tag, content: der.subarray(start, end) })
    at = end
  }
  return values
}

/**
 * Returns where the content of the value at `at` begins and ends.
 *
 * @throws {RangeError} if the bytes end before the value does
 */
export function extentOf(der: Buffer, at: number): { start: number; end: number } {
  const first = der.readUInt8(at + 1)
  if (first === 0x80) throw new RangeError('a value of indefinite length, which DER does not have')
  const lengthBytes = first < 0x80 ? 0 : first - 0x80
  const start = at + 2 + lengthBytes
  const length = lengthBytes === 0 ? first : der.readUIntBE(at + 2, lengthBytes)
  if (start + length > der.length) throw new RangeError('a value that is longer than its bytes')
  return { start, end: start + length }
}
