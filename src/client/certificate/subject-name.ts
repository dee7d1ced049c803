/**
 * Compares the subject and the alternative names of a certificate with the name that a client registered (RFC 8705
 * §2.1). Why names are parsed here and not by a library: docs/decisions/0022-libraries-weighed.md.
 */
import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { split } from './quoted-text.ts'

/**
 * The client metadata that names the certificate subject for `tls_client_auth`. A client registers exactly one of these
 * members (RFC 8705 §2.1.2).
 */
export const subjectMetadata = [
  'tls_client_auth_subject_dn',
  'tls_client_auth_san_dns',
  'tls_client_auth_san_uri',
  'tls_client_auth_san_ip',
  'tls_client_auth_san_email',
] as const

export type SubjectMetadata = (typeof subjectMetadata)[number]

/**
 * Whether the certificate contains exactly the registered name. Wildcards do not match. A name that is only in the
 * subject does not count as an alternative name.
 */
export function subjectMatches(certificate: X509Certificate, name: SubjectMetadata, expected: string): boolean {
  switch (name) {
    case 'tls_client_auth_subject_dn':
      return sameName(certificate.subject, expected)
    case 'tls_client_auth_san_dns':
      return certificate.checkHost(expected, { subject: 'never', wildcards: false }) !== undefined
    case 'tls_client_auth_san_uri':
      return alternativeNames(certificate, 'URI').includes(expected)
    case 'tls_client_auth_san_ip':
      return isIP(expected) !== 0 && certificate.checkIP(expected) !== undefined
    case 'tls_client_auth_san_email':
      return certificate.checkEmail(expected, { subject: 'never' }) !== undefined
  }
}

/**
 * Returns the alternative names of one kind. Node writes all names in one text, like `DNS:a, URI:"b, c"`. Ambiguous
 * values are quoted as JSON strings.
 */
function alternativeNames({ subjectAltName = '' }: X509Certificate, kind: string): string[] {
  const entries = subjectAltName.match(/[^,"\s]+:("(\\.|[^"\\])*"|[^,"]*)/g) ?? []
  return entries
    .filter((entry) => entry.startsWith(`${kind}:`))
    .map((entry) => entry.slice(kind.length + 1))
    .map((value) => (value.startsWith('"') ? (JSON.parse(value) as string) : value))
}

/** A relative distinguished name: one attribute, or several attributes joined by `+`, in any order. */
type Relative = string[]

/**
 * Compares distinguished names. Additional spaces, letter case and escapes do not matter (RFC 4518). RFC 4514 writes
 * the parts of a name in reverse order, separated by commas. Node writes one part on each line, in the original order.
 */
function sameName(subject: string, expected: string): boolean {
  const registered = readName(expected, ',')
  if (registered === undefined || registered.length === 0) return false
  const shown = readName(subject, '\n')
  return shown !== undefined && spelled(registered.reverse()) === spelled(shown)
}

function spelled(name: Relative[]): string {
  return JSON.stringify(name.map((parts) => [...parts].sort()))
}

/**
 * Whether the text is a distinguished name that can be compared with the subject of a certificate. Clients can register
 * only such names.
 */
export function isDistinguishedName(text: string): boolean {
  const name = readName(text, ',')
  return name !== undefined && name.length > 0
}

function readName(text: string, separator: ',' | '\n'): Relative[] | undefined {
  try {
    return split(text, separator).map((relative) => split(relative, '+').map(readPart))
  } catch {
    return undefined
  }
}

function readPart(part: string): string {
  const end = part.indexOf('=')
  const type = part.slice(0, Math.max(end, 0)).trim().toLowerCase()
  if (!/^([a-z][a-z0-9-]*|\d+(\.\d+)+)$/.test(type)) throw new Error('no attribute type')
  return `${attributeIds[type] ?? type}=${comparable(readValue(part.slice(end + 1).trim()))}`
}

/**
 * Returns the form in which attribute values are compared: Unicode NFKC, lower case, one space between words, no spaces
 * at the ends. RFC 4518 prescribes this for attributes whose letter case does not matter, such as the common name.
 */
function comparable(value: string): string {
  return value.normalize('NFKC').toLowerCase().replaceAll(/\s+/g, ' ').trim()
}

function readValue(value: string): string {
  // A hexadecimal value is a BER encoding (RFC 4514 §2.4), which cannot be compared here.
  if (value.startsWith('#')) throw new Error('a value in hexadecimal')
  const bare = /^".*"$/s.test(value) ? value.slice(1, -1) : value
  const bytes = bare.match(/\\[0-9a-f]{2}|\\.|[^\\]+/gis) ?? []
  return Buffer.concat(
    bytes.map((piece) => {
      if (!piece.startsWith('\\')) return Buffer.from(piece)
      return piece.length === 3 ? Buffer.from(piece.slice(1), 'hex') : Buffer.from(piece.slice(1))
    }),
  ).toString()
}

/**
 * The attribute names in lower case, each with its object identifier. An attribute may have several names: those that
 * RFC 4514 allows, and those that OpenSSL uses.
 */
const attributeIds: Record<string, string> = {
  cn: '2.5.4.3',
  commonname: '2.5.4.3',
  sn: '2.5.4.4',
  surname: '2.5.4.4',
  serialnumber: '2.5.4.5',
  c: '2.5.4.6',
  countryname: '2.5.4.6',
  l: '2.5.4.7',
  localityname: '2.5.4.7',
  st: '2.5.4.8',
  s: '2.5.4.8',
  stateorprovincename: '2.5.4.8',
  street: '2.5.4.9',
  streetaddress: '2.5.4.9',
  o: '2.5.4.10',
  organizationname: '2.5.4.10',
  ou: '2.5.4.11',
  organizationalunitname: '2.5.4.11',
  title: '2.5.4.12',
  businesscategory: '2.5.4.15',
  postalcode: '2.5.4.17',
  gn: '2.5.4.42',
  givenname: '2.5.4.42',
  organizationidentifier: '2.5.4.97',
  emailaddress: '1.2.840.113549.1.9.1',
  uid: '0.9.2342.19200300.100.1.1',
  userid: '0.9.2342.19200300.100.1.1',
  dc: '0.9.2342.19200300.100.1.25',
  domaincomponent: '0.9.2342.19200300.100.1.25',
  jurisdictionc: '1.3.6.1.4.1.311.60.2.1.3',
  jurisdictioncountryname: '1.3.6.1.4.1.311.60.2.1.3',
  jurisdictionst: '1.3.6.1.4.1.311.60.2.1.2',
  jurisdictionl: '1.3.6.1.4.1.311.60.2.1.1',
}
